#!/usr/bin/env python3
"""Trains the quick start's questions with and without a real MLflow server, in turn, and compares the time of the steps.

The server (sqlite, artifacts through it) runs on loopback on the last core, and the run has the others: what is measured is
what the run itself spends on reporting. The time of the steps is that between the first and the last line of metrics.jsonl,
with all that happens between them. Every second pair begins with the server. Afterwards the server is asked whether it has
each loss once. Prints a table, and as its last line `tracking X.XXX`: the median of the pairs' ratios. Exit code 0 when it
is at most 1.010, else 1. A machine that does other work meanwhile spoils the ratios.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from datetime import datetime
from pathlib import Path

import child

DATA = Path(__file__).resolve().parents[2] / "recipes" / "quickstart" / "data"
PROMPT = "{context}\n\nQuestion : {question}"
MOST = 1.01


@contextlib.contextmanager
def server(python: str, folder: Path, core: int):
    """A running server; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
                                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [python, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port),
               "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}",
               "--artifacts-destination", str(folder / "artifacts")]
    url = f"http://127.0.0.1:{port}"
    with (folder / "mlflow.txt").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    os.sched_setaffinity(process.pid, [core])
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/health").read()
                break
            except OSError:
                if process.poll() is not None:
                    break
                time.sleep(0.2)
        else:
            raise child.Failed(f"the MLflow server does not start; see {folder / 'mlflow.txt'}")
        yield url
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def recipe(folder: Path, options: argparse.Namespace, name: str, url: str | None) -> Path:
    """JSON is YAML."""
    questions = [{"path": str(DATA / "train.jsonl"), "format": "squad", "prompt": PROMPT}]
    parts = {"model": {"base": str(options.model.resolve())}, "data": {"train": questions, "max_length": 512},
             "lora": {"rank": 16, "alpha": 32},
             "train": {"max_steps": options.steps, "global_batch_size": 2, "micro_batch_size": 1, "learning_rate": 1e-4,
                       "save_every": options.steps},
             "forgetting": {"suite": "none"}, "output": str(folder / name)}
    if url is not None:
        parts["tracking"] = {"mlflow": {"url": url, "experiment": "bench"}}
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(parts), encoding="utf-8")
    return path


def train(folder: Path, options: argparse.Namespace, name: str, threads: int, url: str | None) -> tuple[float, float]:
    """Seconds of the steps after the first, and of the whole program."""
    command = [options.greffon, "train", str(recipe(folder, options, name, url))]
    done = child.run(command, folder / f"{name}.txt", threads, {})
    times = [datetime.fromisoformat(step["time"]).timestamp() for step in steps(folder / name)]
    return times[-1] - times[0], done.seconds


def steps(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if "loss" in line]


def is_complete(run: Path, url: str) -> bool:
    """Whether the server has each loss of a run once."""
    known = json.loads((run / "mlflow.json").read_text(encoding="utf-8"))["run"]["run_id"]
    query = urllib.parse.urlencode({"run_id": known, "metric_key": "train/loss", "max_results": 25000})
    with urllib.request.urlopen(f"{url}/api/2.0/mlflow/metrics/get-history?{query}") as answer:
        found = json.load(answer)["metrics"]
    return sorted((m["step"], m["value"]) for m in found) == [(step["step"], step["loss"]) for step in steps(run)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--greffon", required=True, help="the program (tracking.sh gives it)")
    parser.add_argument("--model", type=Path, required=True, help="SmolLM2 (tracking.sh gives it)")
    parser.add_argument("--python", required=True, help="a Python with MLflow (tracking.sh gives it)")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--no-wait", action="store_true", help="do not wait for a quiet machine")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    threads = max(1, len(cores) - 1)
    with tempfile.TemporaryDirectory() as name, server(options.python, Path(name), cores[-1]) as url:
        folder, ratios, complete = Path(name), [], True
        train(folder, options, "first", threads, None)
        print("| pair | without, s | with, s | ratio | whole program without, s | with, s |\n|---|---|---|---|---|---|")
        for pair in range(options.pairs):
            if not options.no_wait:
                child.wait_until_quiet(0.3)
            found = {}
            for tracked in [False, True] if pair % 2 == 0 else [True, False]:
                run = f"{'with' if tracked else 'without'}-{pair}"
                found[tracked] = train(folder, options, run, threads, url if tracked else None)
            complete = complete and is_complete(folder / f"with-{pair}", url)
            ratios.append(found[True][0] / found[False][0])
            print(f"| {pair + 1} | {found[False][0]:.2f} | {found[True][0]:.2f} | {ratios[-1]:.4f} | {found[False][1]:.2f} | "
                  f"{found[True][1]:.2f} |", flush=True)
        if not complete:
            raise child.Failed("the server does not have each loss once")
        ratio = statistics.median(ratios)
        print(f"\ntracking {ratio:.3f}")
        return 0 if ratio <= MOST else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except child.Failed as error:
        print(f"tracking: {error}", file=sys.stderr)
        sys.exit(1)
