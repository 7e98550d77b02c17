#!/usr/bin/env bash
# The same samples, the same number of tokens, by PyTorch with PEFT and by Greffon: SmolLM2-135M on 480 questions about
# statements, 60 steps of 8, one after the other on an otherwise idle machine. Neither replays anything.
# Needs the release build, the base (scripts/fetch_smollm2.py) and a Python with scripts/bench/requirements.txt
# (GREFFON_PEER_PYTHON). About an hour on two cores.
#
# usage: ./scripts/study/peer.sh [SEED]     what is found is kept in recipes/releve-information/study
set -euo pipefail
cd "$(dirname "$0")/../.."
seed=${1:-0}
program="${GREFFON_BENCH_PROGRAM:-${CARGO_TARGET_DIR:-target}/release/greffon}"
python="${GREFFON_PEER_PYTHON:-python3}"
folder=recipes/releve-information
work=$PWD/runs/study-peer-$seed
model=$PWD/runs/study-peer-model
questions=480
mkdir -p "$work"

if [ ! -f "$model/config.json" ]; then
  "$python" scripts/bench/peer/convert.py --gguf models/SmolLM2-135M-Instruct.Q4_1.gguf --to "$model" >&2
fi
head -n "$questions" "$folder/data/train.jsonl" > "$work/train.jsonl"

# 1. PEFT, grouped by length, which is its fastest way that pads nothing twice.
if [ ! -f "$work/peft/adapter_config.json" ]; then
  python3 -c "import json, random; order = list(range($questions)); random.Random($seed).shuffle(order); print(json.dumps(order))" \
    > "$work/order.json"
  "$python" scripts/bench/peer/train_peft.py --model "$model" --data "$work/train.jsonl" --order "$work/order.json" \
    --out "$work/peft.jsonl" --mode grouped --batch 8 --length 768 --learning-rate 2e-3 --seed "$seed" --save "$work/peft"
fi

# 2. Greffon: with every question by itself, and with questions about one statement together.
for way in alone together; do
  share=null
  if [ "$way" = together ]; then share=8; fi
  "$program" train "$folder/full.yaml" --or-resume --json --set "model.base=$model" --set model.revision=null \
    --set "data.train=[{path: $work/train.jsonl, format: messages}]" --set "data.share_prefix=$share" \
    --set "train.seed=$seed" --set forgetting.replay=null --set forgetting.kl_weight=0 --set forgetting.suite=none \
    --set "output=$work/$way" > "$work/$way.json"
done

# 3. All three are asked the same questions, by the same program.
tests=""
for name in seen unseen-layouts unseen-questions; do
  tests+="{path: $PWD/$folder/test/$name.jsonl, format: messages}, "
done
python3 scripts/study/peer.py --greffon "$program" --work "$work" --seed "$seed" --tests "[${tests%, }]"
