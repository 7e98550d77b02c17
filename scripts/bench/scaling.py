#!/usr/bin/env python3
"""Trains the quick start's questions as one process and as several on the same cores, and holds what `greffon plan` says
of several against what they do.

First, in turn: one process of two threads, and two of one thread. Then one, two and four processes of one thread over
links of several speeds: the processes then have a network of their own (`unshare -n`, as root) whose loopback carries no
more than the speed says (`tc`, a token bucket), and speak TCP. All ranks share that one link. The plan is asked with
`--probe`, on one thread, for as many devices as there are cores. Each figure is the median over the steps after the first
of all rounds. Prints tables, and as its last line `scaling X.XX prediction Y.YY`: two processes of one thread over one of
two threads, in tokens a second, and the largest error of the plan. Exit code 0 when they are at least 0.90 and at most
0.15, else 1. A machine that does other work meanwhile spoils the ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import child

DATA = Path(__file__).resolve().parents[2] / "recipes" / "quickstart" / "data"
PROMPT = "{context}\n\nQuestion : {question}"
MPI = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def recipe(folder: Path, options: argparse.Namespace) -> Path:
    """JSON is YAML."""
    questions = [{"path": str(DATA / "train.jsonl"), "format": "squad", "prompt": PROMPT}]
    parts = {"model": {"base": str(options.model.resolve())},
             "data": {"train": questions, "max_length": 512, "packing": True}, "lora": {"rank": 16, "alpha": 32},
             "train": {"max_steps": options.steps, "global_batch_size": 16, "micro_batch_size": 1, "learning_rate": 1e-4,
                       "activation_checkpointing": "none", "save_every": options.steps},
             "forgetting": {"suite": "none"}, "output": str(folder / "run")}
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(parts), encoding="utf-8")
    return path


def limited(command: list[str], gigabits: float) -> list[str]:
    """The command in a network of its own whose loopback carries so much."""
    bits = int(gigabits * 1e9)
    # A bucket of two milliseconds, and room for what waits.
    shape = f"tc qdisc add dev lo root tbf rate {bits}bit burst {max(bits // 8 // 500, 70_000)} latency 1000ms"
    script = f"ip link set lo mtu 9000 up && {shape} && exec \"$@\""
    return ["unshare", "-n", "bash", "-c", script, "bash", *command]


def train(folder: Path, options: argparse.Namespace, ranks: int, threads: int, link: float | None) -> list[dict]:
    """The records of the steps after the first."""
    path = str(recipe(folder, options))
    if ranks == 1:
        command = [options.greffon, "train", path, "--force"]
    else:
        command = [options.greffon, "launch", "-n", str(ranks), "--threads", str(threads), path, "--force"]
    environment = {}
    if link is not None:
        environment = {"OMPI_MCA_btl": "self,tcp", "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}
        command = limited(command, link)
    child.run(command, folder / "log.txt", ranks * threads, environment | {"RAYON_NUM_THREADS": str(threads)} | MPI)
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [step for step in map(json.loads, lines) if "loss" in step][1:]


def tokens_per_second(steps: list[dict]) -> float:
    return sum(step["tokens"] for step in steps) / sum(step["seconds"] for step in steps)


def shares(steps: list[dict]) -> tuple[float, float]:
    """What of the time the ranks waited for each other, and what of it gradients travelled."""
    idle = statistics.mean(step["ranks"]["idle"] for step in steps)
    return idle, sum(step["ranks"]["communication_seconds"] for step in steps) / sum(step["seconds"] for step in steps)


def predicted(folder: Path, options: argparse.Namespace, ranks: int, link: float | None, cores: int) -> float:
    """The plan's tokens a second."""
    command = [options.greffon, "plan", str(recipe(folder, options)), "--probe", "--json", "--ranks", str(ranks),
               "--devices", str(min(ranks, cores))]
    if link is not None:
        command += ["--link", str(link), "--ranks-per-link", str(ranks)]
    done = subprocess.run(command, env=os.environ | {"RAYON_NUM_THREADS": "1"}, check=True, capture_output=True)
    return json.loads(done.stdout)["time"]["step"]["tokens_per_second"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--greffon", required=True, help="the program (scaling.sh gives it)")
    parser.add_argument("--model", type=Path, required=True, help="SmolLM2 (scaling.sh gives it)")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of one process and two")
    parser.add_argument("--links", type=float, nargs="*", default=[1.0, 0.2], help="speeds in 10^9 bits a second")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for a quiet machine")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    if options.links and os.geteuid() != 0:
        print("scaling: links are left out: limiting them needs root", file=sys.stderr)
        options.links = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not options.no_wait:
            child.wait_until_quiet(0.3)
        ratios, waits = [], []
        for _ in range(options.rounds):
            one = tokens_per_second(train(folder, options, 1, 2, None))
            steps = train(folder, options, 2, 1, None)
            ratios.append(tokens_per_second(steps) / one)
            waits.append(shares(steps))
            print(f"1 process of 2 threads {one:.0f} tokens/s, 2 of 1 thread {tokens_per_second(steps):.0f}: "
                  f"{ratios[-1]:.3f}; idle {waits[-1][0]:.1%}, communication {waits[-1][1]:.2%}", flush=True)
        print("\n| processes | link, Gbit/s | measured, tokens/s | communication | predicted | error |")
        print("|---|---|---|---|---|---|")
        errors = []
        for link in [None, *options.links]:
            for ranks in (1, 2, 4):
                if ranks == 1 and link is not None:
                    continue
                steps = train(folder, options, ranks, 1, link)
                measured = tokens_per_second(steps)
                plan = predicted(folder, options, ranks, link, cores)
                errors.append(abs(plan / measured - 1))
                travel = f"{shares(steps)[1]:.1%}" if ranks > 1 else "–"
                print(f"| {ranks} | {link or 'memory'} | {measured:.0f} | {travel} | {plan:.0f} | {plan / measured - 1:+.1%} |",
                      flush=True)
        ratio, error = statistics.median(ratios), max(errors)
        print(f"\nscaling {ratio:.2f} prediction {error:.2f}")
        return 0 if ratio >= 0.9 and error <= 0.15 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except child.Failed as error:
        print(f"scaling: {error}", file=sys.stderr)
        sys.exit(1)
