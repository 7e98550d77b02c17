#!/usr/bin/env bash
# A study of reading insurance statements: two bases, three seeds, and rivals.
# Needs the release build, Python, both bases (scripts/fetch_*.py), and some hours on two cores.
#
# usage: ./scripts/study/releve.sh [--only NAME] [--report | --check]
#
# Started again, it goes on where it was stopped. What it needs of each run is kept in recipes/releve-information/study:
# `--report` writes the tables and plots of docs/study-releve-information.md from these files alone,
# and asks no model; `--check` says whether they are what is written there.
set -euo pipefail
cd "$(dirname "$0")/../.."
program="${GREFFON_BENCH_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/greffon}"
exec python3 scripts/study/releve.py --greffon "$program" "$@"
