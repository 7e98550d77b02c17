#!/usr/bin/env bash
# The study of docs/forgetting.md: one narrow task, learned too fast, with and without each repair, three seeds.
# Needs the release build, Python with matplotlib for the plot, and about two hours on two cores.
#
# usage: ./scripts/study/forgetting.sh [MODEL]     a folder, a .gguf file or a hub name
#
# Started again, it goes on where it was stopped: docs/forgetting-results.jsonl has a line for each finished run.
set -euo pipefail
cd "$(dirname "$0")/../.."
program="${GREFFON_BENCH_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/greffon}"
exec python3 scripts/study/forgetting.py --greffon "$program" ${1:+--model "$1"}
