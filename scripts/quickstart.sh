#!/usr/bin/env bash
# The main job from nothing: build, fetch SmolLM2-135M-Instruct, fine-tune it on French extraction questions, compare
# base and adapter on questions it never saw, check what it forgot, export. Needs Rust and Python; usage: ./scripts/quickstart.sh
#
# Started again, it goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

run=runs/quickstart
recipe=recipes/quickstart/recipe.yaml

. scripts/stages.sh quickstart

build_and_fetch

stage "train, and measure what is forgotten"
if [ -f "$run/adapter/adapter_model.safetensors" ]; then
  echo "$run is trained already; remove it to train again"
elif [ -f "$run/recipe.yaml" ]; then
  "$greffon" train --resume "$run"
else
  "$greffon" check "$recipe" --set "model.base=$base" --set model.revision=null
  "$greffon" train "$recipe" --set "model.base=$base" --set model.revision=null
fi
done_stage

stage "evaluate base against adapter"
"$greffon" eval "$run"
done_stage

stage "export"
"$greffon" export "$run" --to "$run/export" --force
done_stage

printf '\n== done\n'
stage_times
cat <<EOF

Try next:
  $greffon data preview $recipe --set model.base=$base --set model.revision=null
  $greffon eval $run --json --limit 10
  $greffon forgetting measure $run --suite standard --report forgetting.md
  $greffon chat --run $run
  $greffon init --model "$base" --data YOUR.jsonl > my-recipe.yaml
EOF
