#!/usr/bin/env bash
# Near-duplicates: Greffon against datasketch, and both against exact Jaccard. See ./scripts/bench/dedup.sh --help
#
# Builds Greffon, makes the peer's environment in GREFFON_BENCH_CACHE (default ~/.cache/greffon-bench), then hands over to
# dedup.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

for argument in "$@"; do
  case $argument in
    -h | --help) exec python3 scripts/bench/dedup.py --help ;;
  esac
done

venv=${GREFFON_BENCH_CACHE:-$HOME/.cache/greffon-bench}/datasketch
if ! "$venv/bin/python" -c "import datasketch" 2>/dev/null; then
  echo "dedup.sh: making the environment of datasketch" >&2
  python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check datasketch==2.0.0 >&2
fi

if [ -z "${GREFFON_BENCH_PROGRAM:-}" ]; then
  cargo build --release --locked --workspace >&2
  GREFFON_BENCH_PROGRAM=${CARGO_TARGET_DIR:-target}/release/greffon
fi

exec python3 scripts/bench/dedup.py --greffon "$GREFFON_BENCH_PROGRAM" --python "$venv/bin/python" "$@"
