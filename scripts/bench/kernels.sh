#!/usr/bin/env bash
# Each hot operator against its reference and against gemm; writes docs/kernels.md. See ./scripts/bench/kernels.sh --help
set -euo pipefail
cd "$(dirname "$0")/../.."

for argument in "$@"; do
  case $argument in
    -h | --help) exec python3 scripts/bench/kernels.py --help ;;
  esac
done

target=${CARGO_TARGET_DIR:-target}
# The page must hold this run's figures only, not those of an operator that is gone.
rm -rf "$target/criterion"
cargo bench --locked --workspace --bench kernels -- --warm-up-time 1 --measurement-time 3 >&2
exec python3 scripts/bench/kernels.py --criterion "$target/criterion" --greffon "$target/release/greffon" "$@"
