#!/usr/bin/env bash
# Runs the tests. `--real` adds the ring that fetches the real models and starts real servers.
#
# Needs Rust and Python; installs what else it needs. Usage: ./scripts/test.sh [--real]
set -euo pipefail
cd "$(dirname "$0")/.."

real=false
case "${1:-}" in
  "") ;;
  --real) real=true ;;
  *) echo "usage: ./scripts/test.sh [--real]" >&2; exit 2 ;;
esac

step() { printf '\n== %s\n' "$*"; }

features=()
if $real; then
  step "packages of the real ring"
  ./scripts/real/packages.sh
  features=(--features tests/real)
fi

step "format and lints"
cargo fmt --all --check
cargo clippy --release --workspace --all-targets --locked ${features[@]+"${features[@]}"} -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked --quiet

step "tests"
# With the tests, so that features are resolved as `cargo test` resolves them, and nothing is compiled twice.
cargo build --release --workspace --locked --bins --tests ${features[@]+"${features[@]}"}
if $real; then
  GREFFON_PEER_PYTHON=$(./scripts/real/setup.sh | tail -n 1)
  GREFFON_SMOLLM2=$PWD/$(python3 scripts/fetch_smollm2.py models | tail -n 1)
  GREFFON_GEMMA3=$PWD/$(python3 scripts/fetch_gemma3.py models | tail -n 1)
  export GREFFON_PEER_PYTHON GREFFON_SMOLLM2 GREFFON_GEMMA3
fi
cargo test --release --workspace --locked ${features[@]+"${features[@]}"}
