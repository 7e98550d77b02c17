#!/usr/bin/env python3
"""LoRA with PyTorch, transformers and PEFT in a plain training loop; one JSON line a step, in Greffon's keys.

Float32, AdamW, no dropout, all seven linear modules. The batches of `full`, `longest` and `max` are those of the order
given; `grouped` sorts the conversations by length first, as `group_by_length` does, and takes the first batch of the
order as its warm-up, so that the same conversations are timed in every mode. With --save the rate warms up and falls as a
cosine, gradients are clipped, and the adapter is kept.
"""

import argparse
import json
import math
import os
import random
import resource
import sys
import time
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--order", type=Path, required=True, help="JSON list: the conversations' order")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mode", choices=["full", "longest", "max", "grouped"], required=True)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=Path, help="a folder for the adapter; trains with --warmup-ratio and --max-grad-norm")
    parser.add_argument("--warmup-ratio", type=float, default=0.05)
    parser.add_argument("--max-grad-norm", type=float, default=1.0)
    return parser.parse_args()


def batches(arguments, tokenizer) -> list[list]:
    """The conversations of each step, encoded."""
    from conversations import encode, read

    everything = read(arguments.data)
    order = json.loads(arguments.order.read_text(encoding="utf-8"))
    encoded = [encode(tokenizer, everything[index], arguments.length) for index in order]
    size = arguments.batch
    first, rest = encoded[:size], encoded[size:]
    if arguments.mode == "grouped":
        rest.sort(key=lambda one: len(one[0]))
    steps = [rest[start:start + size] for start in range(0, len(rest), size)]
    if arguments.mode == "grouped":
        random.Random(arguments.seed).shuffle(steps)
    return [first, *steps]


def main() -> None:
    arguments = parse()
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    import transformers
    from conversations import IGNORED
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    transformers.logging.set_verbosity_error()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32, attn_implementation="sdpa")
    model.config.use_cache = False
    model = get_peft_model(model, LoraConfig(r=arguments.rank, lora_alpha=2 * arguments.rank, lora_dropout=0.0,
                                             bias="none", task_type="CAUSAL_LM", target_modules=MODULES))
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=arguments.learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)

    steps = batches(arguments, tokenizer)
    scheduler = None
    if arguments.save:
        warmup = math.ceil(arguments.warmup_ratio * len(steps))
        scheduler = transformers.get_cosine_schedule_with_warmup(optimizer, warmup, len(steps))
    with arguments.out.open("w", encoding="utf-8") as out:
        for step, batch in enumerate(steps, 1):
            started = time.perf_counter()
            width = max(len(ids) for ids, _ in batch)
            if arguments.mode in ("full", "max"):
                if arguments.mode == "full" and any(len(ids) != arguments.length for ids, _ in batch):
                    sys.exit(f"train_peft.py: step {step}: a row is not full")
                width = arguments.length

            def padded(values, fill):
                return torch.tensor([row + [fill] * (width - len(row)) for row in values])

            loss = model(
                input_ids=padded([ids for ids, _ in batch], tokenizer.pad_token_id),
                attention_mask=padded([[1] * len(ids) for ids, _ in batch], 0),
                labels=padded([labels for _, labels in batch], IGNORED),
            ).loss
            loss.backward()
            value = loss.item()
            # Else the graph's last tensors would still be held while the next step makes its own.
            del loss
            if scheduler:
                torch.nn.utils.clip_grad_norm_(trained, arguments.max_grad_norm)
            optimizer.step()
            if scheduler:
                scheduler.step()
            optimizer.zero_grad(set_to_none=True)
            record = {
                "step": step,
                "loss": value,
                "tokens": sum(len(ids) for ids, _ in batch),
                "supervised_tokens": sum(label != IGNORED for _, labels in batch for label in labels[1:]),
                "computed_tokens": width * len(batch),
                "seconds": time.perf_counter() - started,
            }
            out.write(json.dumps(record) + "\n")
            out.flush()
    if arguments.save:
        model.save_pretrained(arguments.save)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        (arguments.save / "figures.json").write_text(json.dumps({"peak_bytes": peak}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
