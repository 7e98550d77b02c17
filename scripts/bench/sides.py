"""The two sides of a run: Greffon by a recipe and its run folder, the peer by its scripts."""

import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
from pathlib import Path

import child
from child import Failed
from targets import TUNED

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def greffon_order(count: int) -> list[int]:
    """The order in which Greffon, with seed 0, takes the conversations of one source in its first epoch.

    Computed by the script from which the order's own tests have their expected values.
    """
    place = ROOT / "datasets/tests-data/order.py"
    spec = importlib.util.spec_from_file_location("order", place)
    order = importlib.util.module_from_spec(spec)
    with contextlib.redirect_stdout(io.StringIO()):
        spec.loader.exec_module(order)
    return [index for _, index in order.epoch([count], [count], 0, 0)]


class Sides:
    """Runs either side; every method returns a record of what came out."""

    def __init__(self, greffon: Path, python: Path, model: Path, work: Path, threads: int, set_values: list[str],
                 before):
        self.greffon, self.python, self.model, self.work, self.threads = greffon, python, model, work, threads
        self.set_values = set_values
        self.before = before
        self.number = 0

    def _child(self, what: str, command: list, **options) -> child.Finished:
        self.before()
        self.number += 1
        log = self.work / "logs" / f"{self.number:03}-{what}.log"
        return child.run([str(part) for part in command], log, self.threads, **options)

    def samples(self, plan: list) -> dict:
        """Makes the files of the plan, and Greffon's order of each."""
        log = self.work / "logs" / "samples.log"
        child.run([str(self.python), str(HERE / "peer/samples.py"), "--model", str(self.model), "--data",
                   str(ROOT / "recipes/quickstart/data"), "--to", str(self.work), "--plan", json.dumps(plan)],
                  log, self.threads)
        for name, _, count, _ in plan:
            (self.work / f"{name}.order.json").write_text(json.dumps(greffon_order(count)), encoding="utf-8")
        return json.loads(log.read_text(encoding="utf-8").strip().splitlines()[-1])

    def greffon_train(self, data: str, steps: int, batch: int, micro_batch: int, length: int, rank: int = 16,
                      watch: bool = False) -> dict:
        """Trains by a recipe; speed and losses come from the run folder's metrics."""
        run = self.work / "run"
        shutil.rmtree(run, ignore_errors=True)
        recipe = self.work / "recipe.yaml"
        # JSON strings are YAML strings too.
        recipe.write_text(
            f"model: {{base: {json.dumps(str(self.model))}}}\n"
            f"data:\n  train: [{{path: {data}.jsonl, format: messages}}]\n  max_length: {length}\n"
            f"  overlong: truncate\n  packing: true\n"
            f"lora: {{rank: {rank}, alpha: {2 * rank}, targets: all-linear}}\n"
            f"train:\n  seed: 0\n  max_steps: {steps}\n  global_batch_size: {batch}\n"
            f"  micro_batch_size: {micro_batch}\n  learning_rate: 2e-4\n  schedule: constant\n  warmup_steps: 0\n"
            f"  max_grad_norm: 0\nforgetting: {{suite: none}}\noutput: run\n", encoding="utf-8")
        command = [self.greffon, "train", recipe]
        for value in self.set_values:
            command += ["--set", value]
        metrics = run / "metrics.jsonl"
        finished = self._child(f"greffon-{data}", command, watch=metrics if watch else None)
        return record("greffon", finished, read_steps(metrics))

    def peft(self, mode: str, data: str, batch: int = 4, length: int = 512, tuned: bool = False) -> dict:
        out = self.work / "peer.jsonl"
        out.unlink(missing_ok=True)
        finished = self._child(f"peft-{mode}", [
            self.python, HERE / "peer/train_peft.py", "--model", self.model, "--data", self.work / f"{data}.jsonl",
            "--order", self.work / f"{data}.order.json", "--out", out, "--mode", mode, "--batch", batch,
            "--length", length, "--threads", self.threads], environment=TUNED if tuned else None)
        return record("tuned" if tuned else mode, finished, read_steps(out))

    def trl(self, data: str) -> dict:
        out = self.work / "peer.jsonl"
        out.unlink(missing_ok=True)
        finished = self._child("trl", [
            self.python, HERE / "peer/train_trl.py", "--model", self.model, "--data", self.work / f"{data}.jsonl",
            "--out", out, "--threads", self.threads])
        return record("trl", finished, read_steps(out))

    def matmul(self) -> dict:
        log = f"{self.number + 1:03}-matmul.log"
        finished = self._child("matmul", [self.python, HERE / "peer/matmul.py", "--config",
                                          self.model / "config.json", "--threads", self.threads])
        return {"others": finished.others, **last_json(self.work / "logs" / log)}

    def peer_generate(self, new_tokens: int) -> dict:
        log = f"{self.number + 1:03}-transformers.log"
        finished = self._child("transformers", [
            self.python, HERE / "peer/generate.py", "--model", self.model, "--prompts", self.work / "prompts.json",
            "--new-tokens", new_tokens, "--threads", self.threads])
        return {"others": finished.others, "batches": last_json(self.work / "logs" / log)}

    def greffon_generates_batches(self) -> bool:
        """Whether `greffon generate` takes a file of prompts and tells its time."""
        said = os.popen(f"{self.greffon} generate --help").read()
        return all(re.search(rf"^\s+{flag}\b", said, re.MULTILINE) for flag in ("--prompts", "--batch-size", "--json"))

    def greffon_generate(self, new_tokens: int, batch: int) -> dict:
        """Tokens per second of the steps with the cache: the time of 1 + `new_tokens` tokens less that of 1.

        With `--json` the program says how long it generated; without, the whole process is timed both times, and the
        difference leaves loading and prompt out as well.
        """
        prompts = json.loads((self.work / "prompts.json").read_text(encoding="utf-8"))[:batch]
        reports = self.greffon_generates_batches()
        if batch > 1 and not reports:
            raise Failed("greffon generate takes one prompt: it needs --prompts FILE, --batch-size N and --json")
        seconds, others, text = [], [], ""
        for count in (1, 1 + new_tokens):
            command = [self.greffon, "generate", "--model", self.model, "--max-new-tokens", count]
            if reports:
                few = self.work / "few-prompts.json"
                few.write_text(json.dumps(prompts), encoding="utf-8")
                command += ["--prompts", few, "--batch-size", batch, "--json"]
            else:
                command.append(prompts[0])
            log = self.work / "logs" / f"{self.number + 1:03}-generate.log"
            finished = self._child("generate", command)
            others.append(finished.others)
            text = log.read_text(encoding="utf-8").strip()
            if reports:
                said = last_json(log, whole=True)
                if said["new_tokens"] != batch * count:
                    raise Failed(f"greffon generate made {said['new_tokens']} tokens, expected {batch * count}")
                seconds.append(said["seconds"])
                text = said["answers"][0]
            else:
                seconds.append(finished.seconds)
        return {"tokens_per_second": batch * new_tokens / (seconds[1] - seconds[0]), "seconds": seconds,
                "others": max(others), "text": text, "by": "--json" if reports else "difference of two processes"}


def last_json(log: Path, whole: bool = False) -> dict:
    """The JSON object at the end of a program's output: its last line, or everything from the first brace."""
    text = log.read_text(encoding="utf-8").strip()
    return json.loads(text[text.index("{"):] if whole else text.splitlines()[-1])


def read_steps(path: Path) -> list[dict]:
    steps = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [step for step in steps if "loss" in step]


def record(side: str, finished: child.Finished, steps: list[dict]) -> dict:
    """What a training run came to; the first step is warm-up and not in its speed."""
    timed = steps[1:] or steps
    tokens, seconds = sum(step["tokens"] for step in timed), sum(step["seconds"] for step in timed)
    return {
        "side": side,
        "tokens_per_second": tokens / seconds,
        "step_tokens": [step["tokens"] for step in steps],
        "step_seconds": [step["seconds"] for step in steps],
        "supervised_share": sum(s["supervised_tokens"] for s in timed) / tokens,
        "first_loss": steps[0]["loss"],
        "peak_bytes": finished.peak_bytes,
        "others": finished.others,
        "seconds": finished.seconds,
        "cores": finished.cpu_seconds / finished.seconds,
        "first_step_done": finished.watched,
    }
