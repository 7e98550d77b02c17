#!/usr/bin/env python3
"""What transformers makes of folders that Greffon merged, in f32 on the CPU.

Usage: merged_models.py CASES.json

CASES.json is a list of {"folder": .., "sequences": [[ids], ..], "messages": [..], "save": {..} or null}. Prints a list
with, for each: log-probabilities of every token after the first (`logprobs`), the ids of the chat template with a
generation prompt (`chat_ids`, null without messages), `eos_token_id` of the generation config, and the number of weights
that the folder lacks or that nothing uses (`missing`, `unexpected`). With `save`, {"to": .., "max_shard_size": ..}, the
model is also written there by transformers itself.
"""

import json
import os
import sys

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig


def logprobs(model, ids: list[int]) -> list[float]:
    tokens = torch.tensor(ids)
    with torch.no_grad():
        logits = model(input_ids=tokens[None]).logits[0, :-1]
    return logits.float().log_softmax(-1).gather(1, tokens[1:, None])[:, 0].tolist()


def describe(case: dict) -> dict:
    folder = case["folder"]
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    model.eval()
    if case.get("save"):
        model.save_pretrained(case["save"]["to"], max_shard_size=case["save"]["max_shard_size"])
    chat_ids = None
    if case.get("messages"):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        chat_ids = tokenizer.apply_chat_template(
            case["messages"], add_generation_prompt=True, return_dict=True)["input_ids"]
    return {
        "logprobs": [logprobs(model, ids) for ids in case["sequences"]],
        "chat_ids": chat_ids,
        "eos_token_id": GenerationConfig.from_pretrained(folder).eos_token_id,
        "missing": len(loading["missing_keys"]),
        "unexpected": len(loading["unexpected_keys"]),
    }


def main() -> None:
    torch.set_num_threads(2)
    transformers.logging.set_verbosity_error()
    with open(sys.argv[1], encoding="utf-8") as file:
        cases = json.load(file)
    json.dump([describe(case) for case in cases], sys.stdout, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
