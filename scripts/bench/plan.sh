#!/usr/bin/env bash
# How well `greffon plan --probe` predicts real runs. See ./scripts/bench/plan.sh --help
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  -h | --help) exec python3 scripts/bench/plan.py --help ;;
esac
model=${GREFFON_SMOLLM2:-$(python3 scripts/fetch_smollm2.py models | tail -n 1)}
if [ -z "${GREFFON_BENCH_PROGRAM:-}" ]; then
  cargo build --release --locked --workspace >&2
  GREFFON_BENCH_PROGRAM=${CARGO_TARGET_DIR:-target}/release/greffon
fi
exec python3 scripts/bench/plan.py --greffon "$GREFFON_BENCH_PROGRAM" --model "$model" "$@"
