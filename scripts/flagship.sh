#!/usr/bin/env bash
# The flagship case from nothing to a proved export: SmolLM2-135M learns to read French car-insurance statements.
# Build, fetch the base, make statements from templates, screen, train, evaluate against the base and against rules, the
# forgetting gate, export, proof in llama.cpp's server, report. Needs Rust and Python.
#
# usage: ./scripts/flagship.sh [--fast]     --fast: a third of the training and 40 questions of each test, for two cores
#
# Started again, it goes on where it was stopped.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=recipes/releve-information
recipe=$folder/train.yaml
run=runs/flagship
asked=300
extra=()
case "${1:-}" in
  "") ;;
  --fast)
    run=runs/flagship-fast
    asked=40
    extra=(--set train.max_steps=50)
    ;;
  *)
    echo "usage: ./scripts/flagship.sh [--fast]" >&2
    exit 2
    ;;
esac

. scripts/stages.sh flagship

build_and_fetch

stage "make statements from templates"
"$greffon" synth "$folder/synth.yaml" --force
done_stage

# What is trained on: the questions of the folder, and those from templates. What is asked: the first of each test.
tests=""
mkdir -p "$run-questions"
for name in seen unseen-layouts unseen-questions; do
  head -n "$asked" "$folder/test/$name.jsonl" > "$run-questions/$name.jsonl"
  tests+="{path: $PWD/$run-questions/$name.jsonl, format: messages}, "
done
trained="{path: $PWD/$folder/data/train.jsonl, format: messages}, {path: $PWD/data/releve-information/samples.jsonl, format: messages}"
set=(--set "model.base=$base" --set model.revision=null --set "output=$PWD/$run" --set "data.train=[$trained]"
  --set "eval.test=[${tests%, }]" ${extra[@]+"${extra[@]}"})

stage "look for personal data"
"$greffon" data screen "$folder/data/train.jsonl" data/releve-information/samples.jsonl
done_stage

stage "train, and measure what is forgotten"
"$greffon" check "$recipe" "${set[@]}"
"$greffon" train "$recipe" --or-resume "${set[@]}"
done_stage

stage "evaluate adapter against base"
"$greffon" eval "$run"
done_stage

stage "evaluate adapter against rules"
python3 scripts/study/rules.py "$run-questions"/{seen,unseen-layouts,unseen-questions}.jsonl > "$run-questions/rules.jsonl"
"$greffon" eval "$run" --rival "$run-questions/rules.jsonl" | tee "$run-questions/table.txt"
done_stage

stage "export, with a card and a manifest"
"$greffon" export "$run" --to "$run/export" --force
done_stage

if [[ "$base" == *.gguf ]]; then
  stage "prove the export in llama.cpp's server"
  "$greffon" export "$run" --as gguf-lora --to "$run/adapter.gguf" --force
  venv=${GREFFON_SERVER_VENV:-$HOME/.cache/greffon/server-venv}
  if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
  fi
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^xllamacpp' scripts/real/requirements.txt)"
  "$venv/bin/python" scripts/real/llama_server.py "$base" 0 "$run/adapter.gguf" > "$run/server.txt" 2> "$run/server-log.txt" &
  server=$!
  trap 'kill "$server" 2>/dev/null || true' EXIT
  for _ in $(seq 120); do
    grep -q '^listening' "$run/server.txt" && break
    sleep 0.5
  done
  address=$(sed -n 's/^listening //p' "$run/server.txt")
  # On a quantised base llama.cpp rounds activations to 8 bits, with the adapter and without: hence the wider limit.
  "$greffon" verify "$run/adapter.gguf" --prove --model "$base" --adapter "$run/export" --server "$address" --limit 0.15
  kill "$server"
  done_stage
fi

stage "report"
"$greffon" report "$run" --to "$run/report.html" --force
done_stage

printf '\n== done\n'
stage_times
printf '\nrules (left) against the adapter (right), exact match by test:\n'
cat "$run-questions/table.txt"
