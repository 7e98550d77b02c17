#!/usr/bin/env python3
"""Trains with and without what holds forgetting back, side by side: plain, with replay, and with the divergence from the
base on what is replayed.

The task is the quick start's questions; a quarter more conversations are replayed, whose answers are the quick start's
paragraphs: whole texts, as those of general conversations are, so that most of their tokens are supervised. Prints the
seconds a step of short runs in turn, and the peak of the resident memory. The last line is `forgetting kl X.XX replay
X.XX memory X.XXX`: the median ratios of the seconds a step to those of the plain run, and the memory that the divergence
adds to replay alone, as a share of the base's file: a second copy of the weights would add at least 1. Exit code 0 when
kl is at most 1.60 and memory at most 0.50, else 1. A machine that does other work meanwhile spoils the ratios.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

import child

DATA = Path(__file__).resolve().parents[2] / "recipes" / "quickstart" / "data"
PROMPT = "{context}\n\nQuestion : {question}"
MODES = {"plain": {}, "replay": {"kl_weight": 0.0}, "kl": {"kl_weight": 1.0}}


def general(path: Path) -> None:
    """Conversations whose answers are paragraphs."""
    records = [json.loads(line) for line in (DATA / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    with path.open("w", encoding="utf-8") as out:
        for record in records:
            messages = [{"role": "user", "content": f"Que sais-tu de : {record['title']} ?"},
                        {"role": "assistant", "content": record["context"]}]
            out.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def recipe(folder: Path, options: argparse.Namespace, mode: str) -> Path:
    """A recipe of one mode. JSON is YAML."""
    questions = [{"path": str(DATA / "train.jsonl"), "format": "squad", "prompt": PROMPT}]
    forgetting = {"suite": "none"}
    if mode != "plain":
        sources = [{"path": str(options.replay or folder / "general.jsonl")}]
        forgetting |= {"replay": {"sources": sources, "share": options.share, "weight": 1.0}} | MODES[mode]
    parts = {"model": {"base": str(options.model.resolve())},
             "data": {"train": questions, "max_length": 512, "packing": True}, "lora": {"rank": 16, "alpha": 32},
             "train": {"max_steps": options.steps, "global_batch_size": 8, "micro_batch_size": 2, "learning_rate": 1e-4,
                       "activation_checkpointing": "none", "save_every": options.steps},
             "forgetting": forgetting, "output": str(folder / f"run-{mode}")}
    path = folder / f"{mode}.yaml"
    path.write_text(json.dumps(parts), encoding="utf-8")
    return path


def run(folder: Path, options: argparse.Namespace, mode: str) -> tuple[float, int, dict]:
    """Mean seconds a step without the first, peak bytes, and the last step's record."""
    command = [options.greffon, "train", str(recipe(folder, options, mode)), "--force"]
    finished = child.run(command, folder / f"{mode}.log", options.threads)
    lines = (folder / f"run-{mode}" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [step for step in map(json.loads, lines) if "loss" in step]
    return statistics.mean(step["seconds"] for step in steps[1:]), finished.peak_bytes, steps[-1]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--greffon", required=True, help="the program")
    arguments.add_argument("--model", required=True, type=Path, help="the base: a GGUF file")
    arguments.add_argument("--pairs", type=int, default=5, help="rounds of all modes (default: %(default)s)")
    arguments.add_argument("--steps", type=int, default=50, help="steps of each run (default: %(default)s)")
    arguments.add_argument("--share", type=float, default=0.25, help="replayed conversations as a share of the task's in "
                           "a step (default: %(default)s)")
    arguments.add_argument("--replay", type=Path, help="a file of conversations to replay instead of the paragraphs")
    arguments.add_argument("--threads", type=int, default=os.cpu_count(), help="(default: %(default)s)")
    options = arguments.parse_args()
    if options.steps < 2:
        arguments.error(f"--steps: got {options.steps}, expected at least 2: the first step is not counted")
    if options.replay:
        options.replay = options.replay.resolve()
    base = options.model.stat().st_size
    ratios = {mode: [] for mode in MODES}
    peaks = {mode: [] for mode in MODES}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        general(folder / "general.jsonl")
        for pair in range(options.pairs):
            seconds, tokens = {}, {}
            for mode in MODES:
                seconds[mode], peak, last = run(folder, options, mode)
                peaks[mode].append(peak)
                tokens[mode] = last["tokens"]
            for mode in MODES:
                ratios[mode].append(seconds[mode] / seconds["plain"])
            told = ", ".join(f"{mode} {seconds[mode]:.3f} s a step ({ratios[mode][-1]:.3f}, {tokens[mode]} tokens in the "
                             f"last, peak {peaks[mode][-1] / 1e6:.0f} MB)" for mode in MODES)
            print(f"round {pair + 1}: {told}", flush=True)
    medians = {mode: statistics.median(values) for mode, values in ratios.items()}
    added = statistics.median(peaks["kl"]) - statistics.median(peaks["replay"])
    print(f"the base's file has {base / 1e6:.1f} MB; the divergence adds {added / 1e6:.1f} MB to the peak of replay alone")
    print(f"forgetting kl {medians['kl']:.2f} replay {medians['replay']:.2f} memory {added / base:.3f}")
    return 0 if medians["kl"] <= 1.60 and added <= 0.5 * base else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except child.Failed as error:
        sys.exit(f"forgetting.py: {error}")
