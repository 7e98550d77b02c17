"""The peer's way from conversations to tokens: `datasets.map` over transformers' `apply_chat_template`."""

import argparse
import json
import time
from pathlib import Path

import datasets
from tokenizers import pre_tokenizers
from transformers import AutoTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path, help="a GGUF file or a Hugging Face folder")
    parser.add_argument("--data", required=True, help="a JSON Lines file with messages")
    parser.add_argument("--processes", required=True, type=int)
    arguments = parser.parse_args()

    datasets.disable_progress_bars()
    if arguments.model.is_file():
        tokenizer = AutoTokenizer.from_pretrained(arguments.model.parent, gguf_file=arguments.model.name)
        # transformers leaves out that SmolLM2 takes each digit for itself, as its tokenizer.json says.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    else:
        tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    data = datasets.load_dataset("json", data_files=arguments.data, split="train")

    def encode(batch: dict) -> dict:
        encoded = tokenizer.apply_chat_template(batch["messages"], tokenize=True, return_dict=True)
        return {"input_ids": encoded["input_ids"]}

    started = time.monotonic()
    mapped = data.map(encode, batched=True, num_proc=arguments.processes, remove_columns=data.column_names)
    seconds = time.monotonic() - started
    tokens = sum(len(ids) for ids in mapped["input_ids"])
    print(json.dumps({"tokens": tokens, "seconds": seconds, "conversations": len(mapped)}))


if __name__ == "__main__":
    main()
