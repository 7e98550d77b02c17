#!/usr/bin/env python3
"""Log-probabilities of given token sequences by transformers and PEFT, in f32 on the CPU.

The `real` test ring runs this on an adapter that Greffon exported and compares with the trainer's own numbers.
It prints one JSON object:

    {"sequences": [{"logprobs": [...]}], "adapter": true, "lora_modules": 210, "versions": {...}}

where logprobs[i] belongs to input_ids[i + 1] given the tokens before it, so that each list is one shorter than its
sequence. Every sequence runs alone, without padding.

    python scripts/real/peft_logprobs.py --base model/ --adapter runs/one/adapter --sequences sequences.json
"""

import argparse
import json
import os
import sys
import warnings
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")


def fail(message: str) -> None:
    sys.exit(f"peft_logprobs.py: {message}")


def read_sequences(path: Path) -> list[list[int]]:
    """A JSON list of objects with input_ids, each at least two non-negative integers."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except ValueError as error:
        fail(f"{path}: not JSON: {error}")
    if not isinstance(rows, list) or not rows:
        fail(f'{path}: expected a list such as [{{"input_ids": [1, 2, 3]}}]')
    for number, row in enumerate(rows):
        ids = row.get("input_ids") if isinstance(row, dict) else None
        if not isinstance(ids, list) or len(ids) < 2 or any(type(token) is not int or token < 0 for token in ids):
            fail(f"{path}: element {number}: expected input_ids with at least two token ids, got {str(row)[:80]}")
    return [row["input_ids"] for row in rows]


def load_base(path: Path):
    """A Hugging Face folder, or a GGUF file, which transformers dequantises."""
    import torch
    from transformers import AutoModelForCausalLM

    if path.is_dir() and (path / "config.json").is_file():
        place = {"pretrained_model_name_or_path": path}
    elif path.is_file() and path.suffix == ".gguf":
        place = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    else:
        fail(f"{path}: expected a folder with a config.json, or a .gguf file")
    return AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32, attn_implementation="eager").eval()


def load_adapter(model, path: Path):
    """The adapter on the base. PEFT only warns about tensors that are missing or fit nowhere; here that is an error."""
    from peft import PeftModel
    from peft.utils.save_and_load import get_peft_model_state_dict, load_peft_weights

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (path / name).is_file():
            fail(f"{path}: {name} is missing: expected a folder in PEFT's form")
    model = PeftModel.from_pretrained(model, path).eval()
    expected, found = get_peft_model_state_dict(model).keys(), load_peft_weights(str(path), device="cpu").keys()
    for what, names in (("missing", expected - found), ("unknown", found - expected)):
        if names:
            fail(f"{path / 'adapter_model.safetensors'}: {len(names)} tensors are {what}, such as {min(names)}")
    return model, len(expected) // 2


def logprobs(model, ids: list[int]) -> list[float]:
    import torch

    tokens = torch.tensor(ids)
    with torch.no_grad():
        logits = model(input_ids=tokens[None]).logits[0, :-1]
    return logits.log_softmax(-1).gather(1, tokens[1:, None])[:, 0].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="Hugging Face folder or GGUF file of the base model")
    parser.add_argument("--adapter", type=Path, help="PEFT folder; without it the base alone is measured")
    parser.add_argument("--sequences", type=Path, required=True, help='JSON file: [{"input_ids": [..]}, ..]')
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: %(default)s)")
    arguments = parser.parse_args()
    sequences = read_sequences(arguments.sequences)
    try:
        import peft
        import torch
        import transformers
    except ImportError as error:
        fail(f"{error}: run scripts/real/setup.sh and use the Python that it prints")
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")

    model, modules = load_base(arguments.base), 0
    vocab_size = model.config.vocab_size
    for number, ids in enumerate(sequences):
        if max(ids) >= vocab_size:
            fail(f"{arguments.sequences}: element {number}: token {max(ids)} is outside the vocabulary of {vocab_size}")
    if arguments.adapter:
        model, modules = load_adapter(model, arguments.adapter)
    result = {
        "sequences": [{"logprobs": logprobs(model, ids)} for ids in sequences],
        "adapter": arguments.adapter is not None,
        "lora_modules": modules,
        "versions": {package.__name__: package.__version__ for package in (torch, transformers, peft)},
    }
    json.dump(result, sys.stdout, allow_nan=False)
    print()


if __name__ == "__main__":
    main()
