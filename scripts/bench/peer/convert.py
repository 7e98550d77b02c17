#!/usr/bin/env python3
"""Dequantise SmolLM2's GGUF file to float32 as a Hugging Face folder, which the peer and Greffon both read.

transformers does the dequantising. The configuration has the older keys too, so that every reader understands it.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch  # noqa: E402
from fixtures.smollm2 import load_tokenizer  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    arguments = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(arguments.gguf.parent, gguf_file=arguments.gguf.name,
                                                 dtype=torch.float32)
    arguments.to.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()
               if name != "lm_head.weight"}
    save_file(weights, arguments.to / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    rope = config.pop("rope_parameters", None) or {}
    config.pop("quantization_config", None)
    config.update(architectures=["LlamaForCausalLM"], torch_dtype="float32", tie_word_embeddings=True,
                  rope_theta=rope.get("rope_theta", config.get("rope_theta")), rope_scaling=None)
    for name in ("dtype", "_name_or_path", "_model_name_or_path"):
        config.pop(name, None)
    (arguments.to / "config.json").write_text(json.dumps(config, indent=1, default=str) + "\n", encoding="utf-8")
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2}
    (arguments.to / "generation_config.json").write_text(json.dumps(ends) + "\n", encoding="utf-8")
    tokenizer = load_tokenizer(arguments.gguf)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(arguments.to)


if __name__ == "__main__":
    main()
