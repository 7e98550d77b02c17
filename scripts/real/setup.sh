#!/bin/sh
# Makes the Python environment of the `real` test ring and of make_fixtures.py: PyTorch, transformers, PEFT.
# Prints the path of its Python on the last line. Run again, it does nothing while requirements.txt is the same.
# Takes about 6 GB: the PyTorch wheel brings its CUDA libraries along.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
venv=${GREFFON_PEER_VENV:-$HOME/.cache/greffon/peer-venv}
marker=$venv/greffon-requirements.txt

if ! cmp -s "$here/requirements.txt" "$marker"; then
    if ! command -v python3 >/dev/null; then
        echo "setup.sh: python3 is missing: install Python 3.11 or newer with its venv module" >&2
        exit 1
    fi
    rm -f "$marker" 2>/dev/null || true
    mkdir -p "$(dirname "$venv")"
    if ! python3 -m venv "$venv" >&2; then
        echo "setup.sh: python3 -m venv $venv failed: install the venv module (Debian: python3-venv)" >&2
        exit 1
    fi
    install() {
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
    }
    if ! install; then
        echo "setup.sh: installing the packages failed, trying once more" >&2
        install
    fi
    "$venv/bin/python" -c "import torch, transformers, peft" >&2
    cp "$here/requirements.txt" "$marker"
fi
echo "$venv/bin/python"
