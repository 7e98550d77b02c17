#!/usr/bin/env bash
# Several processes against one on the same cores, and the plan's prediction. See ./scripts/bench/scaling.sh --help
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  -h | --help) exec python3 scripts/bench/scaling.py --help ;;
esac
./scripts/real/packages.sh
model=${GREFFON_SMOLLM2:-$(python3 scripts/fetch_smollm2.py models | tail -n 1)}
# With the features of the real ring, so that nothing is compiled twice.
cargo build --release --locked --workspace --bins --tests --features tests/real >&2
exec python3 scripts/bench/scaling.py --greffon "${CARGO_TARGET_DIR:-target}/release/greffon" --model "$model" "$@"
