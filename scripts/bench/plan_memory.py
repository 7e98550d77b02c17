#!/usr/bin/env python3
"""Measures the peak memory of real runs and writes trainer/src/plan/measured.json, which the tests of the memory model
read.

Usage: python3 scripts/bench/plan_memory.py --greffon target/release/greffon --model models/SmolLM2-135M-Instruct.Q4_1.gguf

Every run makes two steps of two micro-batches whose rows are full, so that their shapes are known. Another program on
the machine changes the time of a run, not its memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# max_length, micro_batch_size, rank, modules, dropout, train settings
RUNS = [
    (512, 4, 16, ALL, 0.0, {"activation_checkpointing": "none"}),
    (512, 4, 16, ALL, 0.0, {"activation_checkpointing": "block"}),
    (512, 2, 16, ALL, 0.0, {"activation_checkpointing": "auto", "memory": "1250 MB"}),
    (512, 1, 16, ALL, 0.0, {"activation_checkpointing": "none"}),
    (512, 1, 64, ALL, 0.0, {"activation_checkpointing": "none"}),
    (256, 2, 64, ALL, 0.0, {"activation_checkpointing": "block"}),
    (256, 1, 4, ALL, 0.0, {"activation_checkpointing": "none"}),
    (256, 4, 4, ALL, 0.0, {"activation_checkpointing": "none"}),
    (1024, 1, 4, ALL, 0.0, {"activation_checkpointing": "block"}),
    (1024, 1, 16, ALL, 0.0, {"activation_checkpointing": "none"}),
    (512, 1, 16, ["q_proj", "v_proj"], 0.0, {"activation_checkpointing": "none"}),
    (512, 1, 16, ALL, 0.1, {"activation_checkpointing": "none"}),
    (512, 1, 16, ALL, 0.1, {"activation_checkpointing": "auto", "memory": "1500 MB"}),
]


def rows(folder: Path) -> Path:
    """Conversations of more than 1024 tokens, most of them the assistant's."""
    source = ROOT / "recipes" / "quickstart" / "data" / "train.jsonl"
    with open(source, encoding="utf-8") as lines:
        contexts = list(dict.fromkeys(json.loads(line)["context"] for line in lines))
    path = folder / "rows.jsonl"
    with open(path, "w", encoding="utf-8") as out:
        for row in range(32):
            text = " ".join(contexts[(row * 16 + i) % len(contexts)] for i in range(32))
            turns = [{"role": "user", "content": text[:200]}, {"role": "assistant", "content": text[200:6000]}]
            out.write(json.dumps({"messages": turns}, ensure_ascii=False) + "\n")
    return path


def measure(greffon: str, model: Path, data: Path, folder: Path, run) -> dict:
    """One run's shapes and its peak."""
    length, micro_batch, rank, modules, dropout, settings = run
    output = folder / "run"
    recipe = {
        "model": {"base": str(model)},
        "data": {"train": [{"path": str(data), "format": "messages"}], "max_length": length, "overlong": "truncate"},
        "lora": {"rank": rank, "alpha": 2 * rank, "targets": modules, "dropout": dropout},
        "train": {"max_steps": 2, "global_batch_size": 2 * micro_batch, "micro_batch_size": micro_batch, **settings},
        "forgetting": {"suite": "none"},
        "output": str(output),
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment["GREFFON_CACHE"] = str(folder / "cache")
    child = subprocess.Popen(
        [greffon, "train", str(path), "--force", "--json"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
    )
    said = child.stderr.read().decode()
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        sys.exit(f"plan_memory.py: {recipe} failed:\n{said}")
    steps = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    supervised = [step["supervised_tokens"] // 2 for step in steps if "supervised_tokens" in step]
    started = next(line for line in (output / "log.txt").read_text(encoding="utf-8").splitlines() if "started: " in line)
    plan = json.loads(started.split("started: ", 1)[1])["checkpointing"]
    return {
        "rank": rank,
        "modules": modules,
        "dropout": dropout > 0,
        "recomputed_blocks": plan["recomputed_blocks"],
        "steps": [[[[length] * micro_batch, tokens]] * 2 for tokens in supervised],
        "peak_bytes": usage.ru_maxrss * 1024,
        "predicted": sum(plan["memory"].values()),
        "base_bytes": plan["memory"]["base"],
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    arguments.add_argument("--greffon", required=True)
    arguments.add_argument("--model", required=True, type=Path, help="SmolLM2-135M as a GGUF file")
    arguments.add_argument("--to", type=Path, default=ROOT / "trainer" / "src" / "plan" / "measured.json")
    options = arguments.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = rows(folder)
        for run in RUNS:
            found = measure(options.greffon, options.model.resolve(), data, folder, run)
            predicted, peak = found.pop("predicted"), found["peak_bytes"]
            base_bytes = found.pop("base_bytes")
            print(f"{run[:3]} {found['recomputed_blocks']:>2} computed again, dropout {run[4]}: "
                  f"{peak / 1e6:.0f} MB, predicted {predicted / peak - 1:+.1%}", flush=True)
            runs.append(found)
    options.to.write_text(json.dumps({"base_bytes": base_bytes, "runs": runs}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
