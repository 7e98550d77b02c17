#!/usr/bin/env python3
"""Conversations for the comparison, made from the repository's committed questions, the same on every machine.

The lengths of `mixed` follow those of real instruction data: the table below holds the quantiles, in steps of 5 %, of
the first 1000 records of databricks-dolly-15k in SmolLM2's template and tokenizer; 20 to 55 % of each conversation is
answer (in Dolly 38 % of all tokens). Text is French prose, cut at words. `full` and the `length` files hold
conversations a little longer than the row, which both sides cut to exactly its length.

Prints a JSON object: for each file its conversations, tokens and supervised tokens after the cut.
"""

import argparse
import itertools
import json
import os
import random
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TOKENIZERS_PARALLELISM="false")

from transformers import AutoTokenizer  # noqa: E402

from conversations import encode  # noqa: E402

DOLLY = [44, 51, 58, 64, 71, 82, 93, 103, 113, 125, 139, 155, 174, 202, 225, 256, 290, 337, 437, 599, 700]
SUBJECTS = ["a lighthouse keeper", "a train across Siberia", "two sisters and a violin", "the last whale",
            "a baker in Lyon", "a robot who paints", "a storm in the mountains", "an old map"]


class Text:
    """An endless stream of words with the tokens that each takes."""

    def __init__(self, data: Path, tokenizer):
        words = []
        for name in ("train", "validation", "test"):
            for line in (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
                words += json.loads(line)["context"].split()
        sizes = [len(ids) for ids in tokenizer([" " + word for word in words], add_special_tokens=False).input_ids]
        self.stream = itertools.cycle(zip(words, sizes))

    def take(self, tokens: int) -> str:
        words = []
        while tokens > 0:
            word, size = next(self.stream)
            words.append(word)
            tokens -= size
        return " ".join(words)


def conversation(text: Text, length: int, share: float, frame: int) -> dict:
    """About `length` tokens, of them about `share` answer; `frame` is what the template itself takes."""
    answer = max(4, round(length * share))
    prompt = max(4, length - answer - frame)
    messages = [{"role": "user", "content": text.take(prompt)}, {"role": "assistant", "content": text.take(answer)}]
    return {"messages": messages}


def mixed(text: Text, count: int, frame: int) -> list[dict]:
    """Lengths at `count` evenly spread quantiles of the table, in a shuffled order."""
    draw = random.Random(0)
    lengths = []
    for index in range(count):
        place = (index + 0.5) / count * (len(DOLLY) - 1)
        low = int(place)
        lengths.append(round(DOLLY[low] + (place - low) * (DOLLY[low + 1] - DOLLY[low])))
    draw.shuffle(lengths)
    return [conversation(text, length, draw.uniform(0.2, 0.55), frame) for length in lengths]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder with train, validation and test.jsonl")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--plan", required=True,
                        help='JSON list of [name, kind, conversations, row]; kind is "mixed" or "filled"')
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    empty = [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}]
    frame = len(tokenizer(tokenizer.apply_chat_template(empty, tokenize=False), add_special_tokens=False).input_ids)
    described = {}
    for name, kind, count, row in json.loads(arguments.plan):
        text = Text(arguments.data, tokenizer)
        if kind == "mixed":
            rows = mixed(text, count, frame)
        else:
            rows = [conversation(text, row + max(24, row // 16), 0.4, frame) for _ in range(count)]
        (arguments.to / f"{name}.jsonl").write_text(
            "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in rows), encoding="utf-8")
        encoded = [encode(tokenizer, one["messages"], row) for one in rows]
        lengths = [len(ids) for ids, _ in encoded]
        if kind == "filled" and set(lengths) != {row}:
            raise SystemExit(f"samples.py: {name}: a conversation is shorter than the row of {row} tokens")
        described[name] = {
            "conversations": len(rows),
            "tokens": sum(lengths),
            "supervised_tokens": sum(label != -100 for _, labels in encoded for label in labels[1:]),
            "shortest": min(lengths),
            "median": sorted(lengths)[len(lengths) // 2],
            "longest": max(lengths),
        }
    prompts = [f"Write a very long and detailed story about {subject}. Take your time." for subject in SUBJECTS]
    (arguments.to / "prompts.json").write_text(json.dumps(prompts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(described))


if __name__ == "__main__":
    main()
