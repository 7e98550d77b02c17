#!/usr/bin/env python3
"""Trains on a GGUF file's blocks and on the float32 numbers that they stand for, side by side.

Prints the base's memory in each form, the speed of short runs in pairs, and the loss on held-out questions after
`--steps` steps. The last line is `blocks memory X.XXX speed X.XX loss X.XXXX`: the base's memory as a share of float32,
the median ratio of tokens per second, and the ratio of the losses. Exit code 0 when they are within the margins (memory
at most 0.30, speed at least 0.80, loss within 1 %), else 1. A machine that does other work meanwhile spoils the speeds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "recipes" / "quickstart" / "data"
PROMPT = "{context}\n\nQuestion : {question}"
FORMS = ["stored", "f32"]


def recipe(folder: Path, model: Path, dtype: str, steps: int, validate: bool) -> Path:
    """A recipe over the quick start's questions. JSON is YAML."""
    questions = lambda name: [{"path": str(DATA / name), "format": "squad", "prompt": PROMPT}]
    data = {"train": questions("train.jsonl"), "max_length": 512, "packing": True}
    train = {"max_steps": steps, "global_batch_size": 8, "micro_batch_size": 2, "learning_rate": 1e-3}
    if validate:
        data["validation"] = questions("validation.jsonl")
        train["eval_every"] = steps
    parts = {"model": {"base": str(model), "dtype": dtype}, "data": data, "lora": {"rank": 16, "alpha": 32},
             "train": train, "forgetting": {"suite": "none"}, "output": str(folder / f"run-{dtype}-{steps}")}
    path = folder / f"{dtype}-{steps}.yaml"
    path.write_text(json.dumps(parts), encoding="utf-8")
    return path


def run(greffon: str, path: Path) -> tuple[dict, float]:
    """What a run printed as JSON, and its tokens per second without the first step."""
    done = subprocess.run([greffon, "train", str(path), "--force", "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"blocks.py: {path.name} failed:\n{done.stderr}")
    outcome = json.loads(done.stdout)
    output = Path(json.loads(path.read_text(encoding="utf-8"))["output"])
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line][1:]
    return outcome, sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--greffon", required=True, help="the program")
    arguments.add_argument("--memory", required=True, help="the program of trainer/benches/base.rs")
    arguments.add_argument("--model", required=True, type=Path, help="a GGUF file in blocks")
    arguments.add_argument("--pairs", type=int, default=5, help="pairs of short runs (default: %(default)s)")
    arguments.add_argument("--steps", type=int, default=100, help="steps of the long runs (default: %(default)s)")
    options = arguments.parse_args()
    memory = {}
    for dtype in FORMS:
        command = [options.memory, str(options.model), dtype]
        memory[dtype] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"base as {dtype:<7}{memory[dtype]['resident_bytes'] / 1e6:>8.1f} MB resident, of which "
              f"{memory[dtype]['mapped_bytes'] / 1e6:.1f} MB mapped; its numbers in float32 are "
              f"{memory[dtype]['float32_bytes'] / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as temporary:
        folder, model = Path(temporary), options.model.resolve()
        ratios = []
        for pair in range(options.pairs):
            speed = {dtype: run(options.greffon, recipe(folder, model, dtype, 6, False))[1] for dtype in FORMS}
            ratios.append(speed["stored"] / speed["f32"])
            print(f"pair {pair + 1}: blocks {speed['stored']:.1f}, float32 {speed['f32']:.1f} tokens/s, "
                  f"ratio {ratios[-1]:.3f}", flush=True)
        loss = {}
        for dtype in FORMS:
            loss[dtype] = run(options.greffon, recipe(folder, model, dtype, options.steps, True))[0]["validation_loss"]
            print(f"{dtype}: loss on held-out questions after {options.steps} steps {loss[dtype]:.6f}", flush=True)
    share, speed, off = memory["stored"]["ratio"], statistics.median(ratios), loss["stored"] / loss["f32"]
    print(f"blocks memory {share:.3f} speed {speed:.2f} loss {off:.4f}")
    return 0 if share <= 0.30 and speed >= 0.80 and abs(off - 1) <= 0.01 else 1


if __name__ == "__main__":
    sys.exit(main())
