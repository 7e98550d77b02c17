#!/usr/bin/env python3
"""Writes tests/fixtures/nf4/nf4.safetensors: numbers, and what bitsandbytes' NF4 makes of them.

Needs bitsandbytes, torch and safetensors (made with bitsandbytes 0.50.2, torch 2.15.0, safetensors 0.8.0), which
quantises on the CPU. Run from anywhere.
"""
from pathlib import Path

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from safetensors.torch import save_file

FILE = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "nf4" / "nf4.safetensors"


def main() -> None:
    generator = torch.Generator().manual_seed(20261122)
    values = torch.randn(12, 192, generator=generator)
    # Blocks of many magnitudes, one of zeros, one with a single number far from the others.
    values *= torch.logspace(-6, 4, 36).repeat_interleave(64).reshape(12, 192)
    values[3, :64] = 0
    values[5, 70] = 1e4
    packed, state = quantize_4bit(values, blocksize=64, quant_type="nf4", compress_statistics=False)
    FILE.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        {
            "values": values,
            "absmax": state.absmax,
            # Two indices a byte: the first in the high half.
            "packed": packed.flatten(),
            "dequantized": dequantize_4bit(packed, state).to(torch.float32),
        },
        FILE,
    )
    FILE.chmod(0o644)


if __name__ == "__main__":
    main()
