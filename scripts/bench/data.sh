#!/usr/bin/env bash
# Tokenising conversations: Greffon against `datasets.map` with transformers' tokenizer. See ./scripts/bench/data.sh --help
#
# Builds Greffon, finds the peer's environment, then hands over to data.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

for argument in "$@"; do
  case $argument in
    -h | --help) exec python3 scripts/bench/data.py --help ;;
  esac
done

python=${GREFFON_PEER_PYTHON:-}
if [ -z "$python" ]; then
  python=$(./scripts/real/setup.sh | tail -n 1)
fi
if ! "$python" -c "import datasets" 2>/dev/null; then
  echo "data.sh: installing datasets for the peer" >&2
  "$python" -m pip install --quiet --disable-pip-version-check datasets==5.2.0 >&2
fi

model=${GREFFON_SMOLLM2:-$(python3 scripts/fetch_smollm2.py models | tail -n 1)}
if [ -z "${GREFFON_BENCH_PROGRAM:-}" ]; then
  cargo build --release --locked --workspace >&2
  GREFFON_BENCH_PROGRAM=${CARGO_TARGET_DIR:-target}/release/greffon
fi

exec python3 scripts/bench/data.py --greffon "$GREFFON_BENCH_PROGRAM" --python "$python" --model "$model" "$@"
