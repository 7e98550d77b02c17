#!/usr/bin/env python3
"""Writes squad.parquet with pyarrow, in the shape of the hub's SQuAD. Run: pip install pyarrow; python3 parquet.py"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

answers = pa.struct([("text", pa.list_(pa.string())), ("answer_start", pa.list_(pa.int32()))])
schema = pa.schema(
    [("id", pa.string()), ("context", pa.string()), ("question", pa.string()), ("answers", answers)]
)
rows = [
    {
        "id": "1",
        "context": "Le chat dort.",
        "question": "Qui dort ?",
        "answers": {"text": ["Le chat", "chat"], "answer_start": [0, 3]},
    },
    {
        "id": "2",
        "context": "Il pleut à Brest.",
        "question": "Où pleut-il ?",
        "answers": {"text": ["à Brest"], "answer_start": [9]},
    },
]
pq.write_table(pa.Table.from_pylist(rows, schema), Path(__file__).with_name("squad.parquet"), compression="zstd")
