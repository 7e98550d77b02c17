#!/usr/bin/env python3
"""Greedy generation by transformers with its cache; prints one JSON object with the seconds of each batch size.

For each size the first prompts are continued by 1 token and by 1 + `--new-tokens`; the difference is the time of
`--new-tokens` steps with the cache. No prompt may end its answer before: that is checked.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="JSON list of user messages")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="sdpa")
    model.eval()
    prompts = json.loads(arguments.prompts.read_text(encoding="utf-8"))
    texts = [tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False,
                                           add_generation_prompt=True) for prompt in prompts]

    def run(size: int, count: int):
        batch = tokenizer(texts[:size], return_tensors="pt", padding=True, add_special_tokens=False)
        started = time.perf_counter()
        with torch.inference_mode():
            output = model.generate(**batch, max_new_tokens=count, do_sample=False, use_cache=True,
                                    pad_token_id=tokenizer.pad_token_id)
        seconds = time.perf_counter() - started
        new = output[:, batch["input_ids"].shape[1]:]
        if new.shape[1] != count or (new == tokenizer.eos_token_id).any():
            sys.exit(f"generate.py: an answer in a batch of {size} ended before {count} tokens: use other prompts")
        return seconds, tokenizer.decode(new[0], skip_special_tokens=True)

    measured = {}
    for size in arguments.batch_sizes:
        run(size, 4)
        short, _ = run(size, 1)
        long, text = run(size, 1 + arguments.new_tokens)
        measured[str(size)] = {"tokens_per_second": size * arguments.new_tokens / (long - short),
                               "first_token_seconds": short, "seconds": long, "text": text}
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
