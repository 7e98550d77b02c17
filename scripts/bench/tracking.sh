#!/usr/bin/env bash
# What reporting to an MLflow server costs a run. See ./scripts/bench/tracking.sh --help
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  -h | --help) exec python3 scripts/bench/tracking.py --help ;;
esac
python=${GREFFON_PEER_PYTHON:-$(./scripts/real/setup.sh | tail -n 1)}
model=${GREFFON_SMOLLM2:-$(python3 scripts/fetch_smollm2.py models | tail -n 1)}
if [ -z "${GREFFON_BENCH_PROGRAM:-}" ]; then
  # With the features of the real ring, so that nothing is compiled twice.
  cargo build --release --locked --workspace --bins --tests --features tests/real >&2
  GREFFON_BENCH_PROGRAM=${CARGO_TARGET_DIR:-target}/release/greffon
fi
exec python3 scripts/bench/tracking.py --greffon "$GREFFON_BENCH_PROGRAM" --model "$model" --python "$python" "$@"
