#!/usr/bin/env python3
"""Writes the PEFT fixtures of the adapters crate: tests/fixtures/peft/.

adapter_config.json, adapter_model.safetensors  an adapter as PEFT saves it, for a tiny random Llama, with different
                                                ranks and alphas for v_proj and rank-stabilised scaling
deltas.safetensors                              scaling * B @ A of every module, computed by PEFT

Needs torch, transformers, peft and safetensors (made with torch 2.15.0, peft 0.21.2). Run from anywhere. PEFT writes
target_modules in the order of a set, so with another PYTHONHASHSEED that list has another order.
"""
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

FOLDER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "peft"


def main() -> None:
    torch.manual_seed(20261122)
    base = LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2,
    ))
    model = get_peft_model(base, LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"],
        rank_pattern={"v_proj": 2}, alpha_pattern={r"layers\.1\.self_attn\.v_proj": 3}, use_rslora=True,
    ))
    deltas = {}
    for name, module in model.named_modules():
        if hasattr(module, "get_delta_weight"):
            torch.nn.init.normal_(module.lora_B["default"].weight)
            deltas[name.removeprefix("base_model.model.")] = module.get_delta_weight("default").detach().contiguous()
    model.save_pretrained(FOLDER)
    (FOLDER / "README.md").unlink(missing_ok=True)
    save_file(deltas, FOLDER / "deltas.safetensors")


if __name__ == "__main__":
    main()
