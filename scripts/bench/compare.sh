#!/usr/bin/env bash
# Greffon against PyTorch + PEFT and TRL, in turn on the same samples. See ./scripts/bench/compare.sh --help
#
# Builds Greffon, makes the peer's environment and its copy of the model once, then hands over to compare.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

# Help and a wrong argument need neither a build nor a peer.
python3 scripts/bench/compare.py --arguments-only "$@"
for argument in "$@"; do
  case $argument in
    -h | --help) exit 0 ;;
  esac
done

cache=${GREFFON_BENCH_CACHE:-$HOME/.cache/greffon/bench}
mkdir -p "$cache"

# The peer's Python: the one named, or that of the real test ring with what scripts/bench/requirements.txt adds.
python=${GREFFON_PEER_PYTHON:-}
if [ -z "$python" ]; then
  python=$(./scripts/real/setup.sh | tail -n 1)
fi
if ! "$python" -c "
import importlib.metadata as installed, sys
for line in open('scripts/bench/requirements.txt'):
    if line.strip() and not line.startswith('#'):
        name, version = line.strip().split('==')
        if installed.version(name) != version:
            sys.exit(1)
" 2>/dev/null; then
  echo "compare.sh: installing TRL for the peer" >&2
  "$python" -m pip install --quiet --disable-pip-version-check --requirement scripts/real/requirements.txt \
    --requirement scripts/bench/requirements.txt >&2
fi

# One base for both: the GGUF file, dequantised to float32, as a Hugging Face folder.
model=$cache/smollm2-135m-instruct-f32
if [ ! -f "$model/complete" ]; then
  gguf=${GREFFON_SMOLLM2:-$(python3 scripts/fetch_smollm2.py models | tail -n 1)}
  echo "compare.sh: converting $gguf to $model" >&2
  "$python" scripts/bench/peer/convert.py --gguf "$gguf" --to "$model" >&2
  touch "$model/complete"
fi

if [ -z "${GREFFON_BENCH_PROGRAM:-}" ]; then
  cargo build --release --locked --workspace >&2
  GREFFON_BENCH_PROGRAM=${CARGO_TARGET_DIR:-target}/release/greffon
fi

exec python3 scripts/bench/compare.py --greffon "$GREFFON_BENCH_PROGRAM" --python "$python" --model "$model" "$@"
