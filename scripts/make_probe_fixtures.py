#!/usr/bin/env python3
"""Write the golden files under tests/fixtures/probes with lm-evaluation-harness, never with Greffon.

    pip install --no-deps lm_eval==0.4.13    # into the environment that scripts/real/setup.sh makes
    python scripts/make_probe_fixtures.py --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf [--bench FOLDER]

The items are read from tests/fixtures/probes/items.jsonl; --bench chooses them again from a folder with the files that
fixtures/probes.py names. Needs no network.
"""

import argparse
import os
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")

import torch
import transformers

from fixtures import probes

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", type=Path, required=True, help="the GGUF file of SmolLM2-135M-Instruct "
                        "(scripts/fetch_smollm2.py gets it)")
    parser.add_argument("--bench", type=Path, help="a folder with en/ and fr/, to choose the items from")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    probes.write(arguments.smollm2, ROOT / "tests" / "fixtures" / "probes", arguments.bench)


if __name__ == "__main__":
    main()
