#!/usr/bin/env bash
# What holding forgetting back costs a training step. See ./scripts/bench/forgetting.sh --help
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  -h | --help) exec python3 scripts/bench/forgetting.py --help ;;
esac
model=${GREFFON_SMOLLM2:-$(python3 scripts/fetch_smollm2.py models | tail -n 1)}
# With the tests, so that features are resolved as for them, and nothing is compiled twice.
cargo build --release --locked --workspace --bins --tests >&2
exec python3 scripts/bench/forgetting.py --greffon "${CARGO_TARGET_DIR:-target}/release/greffon" --model "$model" "$@"
