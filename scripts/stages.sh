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
