#!/usr/bin/env python3
"""Write the golden files under tests/fixtures with PyTorch, transformers and PEFT.

The Rust tests compare against these files, so nothing here uses Greffon itself. Everything is seeded:
with the versions of scripts/real/requirements.txt the same files come out again. Needs the environment
that scripts/real/setup.sh makes, and no network.

    python scripts/make_fixtures.py --out tests/fixtures --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf
"""

import argparse
import importlib.metadata
import os
import platform
import sys
import warnings
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")

import torch
import transformers

from fixtures import families, forgetting, gemma3, gguf_model, merge, methods, metrics, parity, smollm2, tiny_llama, tokens
from fixtures.files import write_json

PACKAGES = ["torch", "transformers", "peft", "tokenizers", "safetensors", "gguf", "jinja2", "numpy", "torchmetrics"]


def versions(out: Path) -> None:
    """versions.json: what the files were made with."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            sys.exit(f"package {package} is missing: run scripts/real/setup.sh and use the Python it names")
    write_json(out / "versions.json", {"python": platform.python_version(), **found})
    print(" ".join(f"{name} {version}" for name, version in found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("tests/fixtures"), help="folder to write (default: %(default)s)")
    parser.add_argument("--smollm2", type=Path, help="the GGUF file of SmolLM2-135M-Instruct (scripts/fetch_smollm2.py "
                        "gets it); without it smollm2/ is left as it is")
    parser.add_argument("--gemma3", type=Path, help="the GGUF file of Gemma 3 270M (scripts/fetch_gemma3.py gets it); "
                        "without it gemma3/ is left as it is")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.smollm2 and not arguments.smollm2.is_file():
        sys.exit(f"{arguments.smollm2}: no such file: get it with scripts/fetch_smollm2.py")
    if arguments.gemma3 and not arguments.gemma3.is_file():
        sys.exit(f"{arguments.gemma3}: no such file: get it with scripts/fetch_gemma3.py")
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    # PEFT warns that the base model's name in the saved adapter is not a path on this machine. That is wanted.
    warnings.filterwarnings("ignore", module="peft")
    warnings.filterwarnings("ignore", category=FutureWarning)

    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    versions(out)
    tiny_llama.write_untied(out / "tiny-llama")
    tiny_llama.write_tied(out / "tiny-llama-tied")
    gguf_model.write(out / "tiny-llama", out / "tiny-llama.gguf")
    tokens.write(out / "tiny-llama", out / "tokens")
    parity.write(out / "tiny-llama", out / "tiny-llama-tied", out / "parity")
    forgetting.write(out / "tiny-llama", out / "forgetting")
    families.write(out / "families")
    methods.write(out / "tiny-llama", out / "tiny-llama-tied", out / "methods")
    merge.write(out / "merge")
    metrics.write_schedules(out / "schedules.json")
    metrics.write_squad(out / "squad_metrics.json")
    if arguments.smollm2:
        smollm2.write(arguments.smollm2, out / "smollm2")
    if arguments.gemma3:
        gemma3.write(arguments.gemma3, out / "gemma3")


if __name__ == "__main__":
    main()
