#!/usr/bin/env bash
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'HELP'
Tests the GPU's kernels on a machine without a GPU. Usage: ./scripts/test-gpu.sh [--no-cuda]

1. Finds a software GPU: Mesa's lavapipe, a Vulkan driver that computes on the CPU. Where it is missing, root on Debian
   or Ubuntu installs mesa-vulkan-drivers and libvulkan1; anyone else is told to.
2. Builds with the feature webgpu, in the profile gpu-test.
3. Runs every fused operator on it: forward and gradients on random shapes, against ordinary operators and against
   float64 on the host (trainer/src/kernels/tests).
4. Runs the parity fixtures on it: logits, every adapter gradient, ten AdamW steps, generation (tests/it/parity.rs).
5. Type-checks the CUDA build, which needs neither CUDA nor a card. --no-cuda leaves this out.

With a real GPU, the same tests run on any device that a recipe can name:
  GREFFON_TEST_DEVICE=cuda cargo test --profile gpu-test --workspace --features trainer/cuda --lib kernels::tests
HELP
}

check_cuda=true
case "${1:-}" in
  "") ;;
  --no-cuda) check_cuda=false ;;
  -h | --help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

step() { printf '\n== %s\n' "$*"; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Runs tests, and fails unless every name that is asked for is among those that passed.
run_tests() { # names... -- cargo's arguments...
  local names=() name
  while [ "$1" != "--" ]; do names+=("$1"); shift; done
  shift
  cargo test --profile gpu-test --workspace --features trainer/webgpu --locked "$@" 2>&1 | tee "$scratch/log"
  for name in "${names[@]}"; do
    grep -Eq "^test (.*::)?$name.* \.\.\. ok$" "$scratch/log" || { echo "test-gpu: no test $name has passed" >&2; exit 1; }
  done
}

step "software GPU"
driver() { compgen -G "/usr/share/vulkan/icd.d/lvp_icd*.json" || compgen -G "/etc/vulkan/icd.d/lvp_icd*.json"; }
if ! driver; then
  packages="mesa-vulkan-drivers libvulkan1"
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "test-gpu: Mesa's lavapipe is not installed; install $packages (Debian's names) first" >&2
    exit 1
  fi
  apt-get update -qq
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
  driver
fi
# Vulkan's loader wants a runtime folder; CubeCL takes the software device even where there is a card.
export XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$scratch}"
export CUBECL_WGPU_DEFAULT_DEVICE=Cpu
export GREFFON_TEST_DEVICE=webgpu

step "kernels on the software GPU"
operators=()
for kernel in trainer/src/kernels/*/cube.rs; do
  operators+=("kernels::tests::$(basename "$(dirname "$kernel")")::")
done
run_tests "${operators[@]}" -- --lib kernels::tests

step "fixtures on the software GPU"
run_tests every_adapter_gradient_equals_peft ten_steps_equal_torch_adamw_with_clipping_and_decay \
  logits_equal_transformers greedy_generation_with_a_cache_equals_transformers_without -- --test it parity::

if $check_cuda; then
  step "types of the CUDA build"
  # With DOCS_RS set, CubeCL's build does not download LLVM, which type-checking does not need.
  DOCS_RS=1 cargo check --profile gpu-test --workspace --features trainer/cuda --locked
fi

step "passed"
