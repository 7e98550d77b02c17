#!/usr/bin/env bash
# Training on blocks against training on float32. See ./scripts/bench/blocks.sh --help
set -euo pipefail
cd "$(dirname "$0")/../.."

case "${1:-}" in
  -h | --help) exec python3 scripts/bench/blocks.py --help ;;
esac
model=${GREFFON_SMOLLM2:-$(python3 scripts/fetch_smollm2.py models | tail -n 1)}
# With the tests, so that features are resolved as for the benchmark, and nothing is compiled twice.
cargo build --release --locked --workspace --bins --tests >&2
# Cargo names the program that it built.
memory=$(cargo bench --locked --workspace --bench base --no-run --message-format=json 2>/dev/null |
  python3 -c 'import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("target", {}).get("name") == "base" and message.get("executable"):
        print(message["executable"])')
exec python3 scripts/bench/blocks.py --greffon "${CARGO_TARGET_DIR:-target}/release/greffon" --memory "$memory" \
  --model "$model" "$@"
