#!/usr/bin/env python3
"""Plans three recipes with `greffon plan --probe`, then trains them, and compares.

Neither the memory model nor the time model was calibrated on these recipes. The last line is
`plan memory X.XX time X.XX`: the worst errors as shares of what was measured. Exit code 0 when they are within
the margins (memory 0.10, time 0.20), else 1. A machine that does other work meanwhile spoils the times.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "recipes" / "quickstart" / "data" / "train.jsonl"
PROMPT = "{context}\n\nQuestion : {question}"
MARGINS = {"memory": 0.10, "time": 0.20}
# What differs between the recipes: lengths, batch, rank, modules, checkpointing.
RECIPES = {
    "short questions, packed": {
        "data": {"max_length": 384, "packing": True},
        "lora": {"rank": 8},
        "train": {"max_steps": 5, "global_batch_size": 24, "micro_batch_size": 3, "activation_checkpointing": "none"},
    },
    "one at a time, rank 32": {
        "data": {"max_length": 768, "packing": False},
        "lora": {"rank": 32},
        "train": {"max_steps": 6, "global_batch_size": 8, "micro_batch_size": 1, "activation_checkpointing": "none"},
    },
    "long rows, computed again": {
        "data": {"max_length": 1536, "packing": True},
        "lora": {"rank": 24, "targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"]},
        "train": {"max_steps": 4, "global_batch_size": 28, "micro_batch_size": 2, "activation_checkpointing": "block"},
    },
}


def write_recipe(folder: Path, model: Path, parts: dict) -> Path:
    """A recipe of these parts over the quickstart's questions. JSON is YAML."""
    recipe = {
        "model": {"base": str(model)},
        "data": {"train": [{"path": str(DATA), "format": "squad", "prompt": PROMPT}], **parts["data"]},
        "lora": parts["lora"],
        "train": parts["train"],
        "forgetting": {"suite": "none"},
        "output": str(folder / "run"),
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(recipe), encoding="utf-8")
    return path


def run(command: list[str], cache: Path) -> tuple[dict, int]:
    """What a command printed as JSON, and its peak memory in bytes."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    environment["GREFFON_CACHE"] = str(cache)
    with tempfile.TemporaryFile() as said, subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=said, env=environment
    ) as child:
        printed = child.stdout.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            said.seek(0)
            sys.exit(f"plan.py: {' '.join(command)} failed:\n{said.read().decode()}")
    return json.loads(printed), usage.ru_maxrss * 1024


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--greffon", required=True, help="the program")
    arguments.add_argument("--model", required=True, type=Path, help="SmolLM2-135M-Instruct, a GGUF file or a folder")
    options = arguments.parse_args()
    worst = {"memory": 0.0, "time": 0.0}
    print(f"{'recipe':<28}{'memory MB':>10}{'planned':>9}{'off':>8}{'seconds':>10}{'planned':>9}{'off':>8}{'no probe':>10}")
    for name, parts in RECIPES.items():
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            recipe = str(write_recipe(folder, options.model.resolve(), parts))
            cache = folder / "cache"
            quick, _ = run([options.greffon, "plan", recipe, "--json"], cache)
            plan, _ = run([options.greffon, "plan", recipe, "--probe", "--json"], cache)
            real, peak = run([options.greffon, "train", recipe, "--json"], cache)
        seconds, planned = real["seconds"], plan["time"]["training_seconds"]
        off = {"memory": plan["peak_bytes"] / peak - 1, "time": planned / seconds - 1}
        worst = {key: max(worst[key], abs(off[key])) for key in worst}
        print(f"{name:<28}{peak / 1e6:>10.0f}{plan['peak_bytes'] / 1e6:>9.0f}{off['memory']:>+8.1%}"
              f"{seconds:>10.1f}{planned:>9.1f}{off['time']:>+8.1%}"
              f"{quick['time']['training_seconds'] / seconds - 1:>+10.1%}", flush=True)
    print(f"plan memory {worst['memory']:.2f} time {worst['time']:.2f}")
    return 0 if all(worst[key] <= MARGINS[key] for key in MARGINS) else 1


if __name__ == "__main__":
    sys.exit(main())
