#!/usr/bin/env python3
"""Write the golden files of probes with lm-evaluation-harness, never with Greffon.

    # into the environment that scripts/real/setup.sh makes
    pip install --no-deps lm_eval==0.4.13
    pip install nltk==3.10.4 langdetect==1.0.9 immutabledict==4.3.1
    python scripts/make_probe_fixtures.py --smollm2 SmolLM2-135M-Instruct.Q4_1.gguf [--bench FOLDER]
    python scripts/make_probe_fixtures.py --nltk-data FOLDER

--smollm2 writes tests/fixtures/probes/expected.json. The items are read from items.jsonl beside it; --bench chooses
them again from a folder with the files that fixtures/probes.py names.

--nltk-data writes datasets/tests-data/instructions.json. The folder holds tokenizers/punkt_tab, as
nltk.download("punkt_tab") makes it; the package llama-index-core carries a copy in _static/nltk_cache.
"""

import argparse
import os
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", CUDA_VISIBLE_DEVICES="", TQDM_DISABLE="1")

import torch
import transformers

from fixtures import instructions, probes

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smollm2", type=Path, help="the GGUF file of SmolLM2-135M-Instruct "
                        "(scripts/fetch_smollm2.py gets it)")
    parser.add_argument("--bench", type=Path, help="a folder with en/ and fr/, to choose the items from")
    parser.add_argument("--nltk-data", type=Path, help="a folder with nltk's tokenizers/punkt_tab")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if not (arguments.smollm2 or arguments.nltk_data):
        parser.error("nothing to write: name --smollm2 or --nltk-data")
    if arguments.smollm2:
        probes.write(arguments.smollm2, ROOT / "tests" / "fixtures" / "probes", arguments.bench)
    if arguments.nltk_data:
        os.environ["NLTK_DATA"] = str(arguments.nltk_data.resolve())
        instructions.write(ROOT / "datasets" / "tests-data" / "instructions.json")


if __name__ == "__main__":
    main()
