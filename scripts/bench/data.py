"""Tokenises the same conversations with Greffon and with the peer, in turn, in growing numbers.

The conversations are made of the committed French questions (recipes/quickstart/data): each has a context of two of
their paragraphs in a row that a fixed seed draws, and one of their questions. Greffon runs `greffon data prepare`: from
the JSON Lines file to tokens and loss masks on disk, digests included. The peer runs `datasets.map` over
`apply_chat_template`, batched, once with as many processes as cores and once with one process whose tokenizer has as
many threads; the faster counts. Reading its JSON is not counted, and it makes no loss masks. Both start without a cache
each time. Prints a table and, as its last line, `ratio data X.XX`: the median over the pairs of the largest number of
conversations of Greffon's tokens per second over the peer's.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEED = 20261122
SYSTEM = "Réponds par un extrait exact du texte."
# What changes an allocator or a thread pool: neither side may inherit it by accident.
FOREIGN = ("MALLOC_", "OMP_", "MKL_", "RAYON_", "LD_PRELOAD", "TOKENIZERS_", "HF_", "GREFFON_CACHE")


def conversations(path: Path, count: int) -> None:
    """Writes so many conversations, the same each time."""
    records = []
    for name in ("train", "validation", "test"):
        text = (ROOT / f"recipes/quickstart/data/{name}.jsonl").read_text(encoding="utf-8")
        records += [json.loads(line) for line in text.splitlines()]
    draw = random.Random(SEED)
    with path.open("w", encoding="utf-8") as out:
        for number in range(count):
            first, second = draw.choice(records), draw.choice(records)
            messages = [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": f"{first['context']} {second['context']}\n\n"
                                            f"Question {number} : {first['question']}"},
                {"role": "assistant", "content": first["answers"][0]["text"]},
            ]
            out.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def run(command: list[str], environment: dict[str, str], cores: int) -> tuple[dict, float, int]:
    """Runs a command; the JSON that it printed last, its seconds, and the peak bytes of its largest process."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        started = time.monotonic()
        child = os.posix_spawn(command[0], command, variables | environment, file_actions=[
            (os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, errors.fileno(), 2)])
        os.sched_setaffinity(child, sorted(os.sched_getaffinity(0))[:cores])
        _, status, usage = os.wait4(child, 0)
        seconds = time.monotonic() - started
        out.seek(0)
        errors.seek(0)
        if status != 0:
            sys.exit(f"data.py: {' '.join(command)} failed:\n{errors.read().decode(errors='replace')[-2000:]}")
        text = out.read().decode()
        return json.loads(text[text.index("{"):]), seconds, usage.ru_maxrss * 1024


def greffon(arguments: argparse.Namespace, folder: Path, data: Path) -> dict:
    """Tokenises from nothing, then starts a second time."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"model:\n  base: {json.dumps(str(Path(arguments.model).resolve()))}\n"
                      f"data:\n  train:\n    - path: {json.dumps(str(data))}\n      format: messages\n"
                      f"  max_length: 4096\n  overlong: error\noutput: run\n", encoding="utf-8")
    cache = folder / "greffon"
    shutil.rmtree(cache, ignore_errors=True)
    command = [arguments.greffon, "data", "prepare", str(recipe), "--json"]
    environment = {"GREFFON_CACHE": str(cache), "RAYON_NUM_THREADS": str(arguments.cores)}
    first, _, peak = run(command, environment, arguments.cores)
    second, seconds, second_peak = run(command, environment, arguments.cores)
    if first["from_cache"] or not second["from_cache"] or first["fingerprint"] != second["fingerprint"]:
        sys.exit("data.py: the second start of Greffon did not take up the tokens of the first")
    shutil.rmtree(cache)
    return {"tokens": first["tokens"], "seconds": first["seconds"], "peak": max(peak, second_peak), "second": seconds}


def peer(arguments: argparse.Namespace, folder: Path, data: Path) -> dict:
    """Maps from nothing, in both ways to use several cores; the faster."""
    cache = folder / "peer"
    ways = []
    for processes, threads in ((arguments.cores, "false"), (1, "true")):
        shutil.rmtree(cache, ignore_errors=True)
        command = [arguments.python, str(ROOT / "scripts/bench/peer/map.py"), "--model", arguments.model,
                   "--data", str(data), "--processes", str(processes)]
        environment = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": threads,
                       "RAYON_NUM_THREADS": str(arguments.cores)}
        found, _, peak = run(command, environment, arguments.cores)
        ways.append(found | {"peak": peak, "processes": processes})
    shutil.rmtree(cache, ignore_errors=True)
    return min(ways, key=lambda way: way["seconds"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     usage="./scripts/bench/data.sh [--fast] [--pairs N] [--counts N ...]")
    parser.add_argument("--greffon", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--python", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--model", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1_000, 10_000, 100_000],
                        help="numbers of conversations")
    parser.add_argument("--pairs", type=int, default=3, help="how often each number is run")
    parser.add_argument("--cores", type=int, default=min(2, len(os.sched_getaffinity(0))), help="cores for each side")
    parser.add_argument("--fast", action="store_true", help="one pair of each number")
    arguments = parser.parse_args()
    pairs = 1 if arguments.fast else arguments.pairs
    counts = sorted(arguments.counts)

    rows, ratios = [], []
    with tempfile.TemporaryDirectory(prefix="greffon-data-") as name:
        folder = Path(name)
        data = folder / "conversations.jsonl"
        for count in counts:
            conversations(data, count)
            ours, theirs = [], []
            for pair in range(pairs):
                # The one that goes second finds the machine as the first left it: they take turns.
                for side in ((greffon, ours), (peer, theirs))[:: 1 if pair % 2 == 0 else -1]:
                    side[1].append(side[0](arguments, folder, data))
                if ours[-1]["tokens"] != theirs[-1]["tokens"]:
                    sys.exit(f"data.py: Greffon made {ours[-1]['tokens']} tokens, the peer {theirs[-1]['tokens']}")
                print(f"{count} conversations, pair {pair + 1}: Greffon {ours[-1]['seconds']:.2f} s, "
                      f"peer {theirs[-1]['seconds']:.2f} s with {theirs[-1]['processes']} processes", file=sys.stderr)
            ratios = [b["seconds"] / a["seconds"] for a, b in zip(ours, theirs)]
            rate = [statistics.median(r["tokens"] / r["seconds"] for r in side) for side in (ours, theirs)]
            peak = [max(r["peak"] for r in side) / 1e6 for side in (ours, theirs)]
            second = statistics.median(r["second"] for r in ours)
            rows.append(f"{count:>13,} {ours[0]['tokens']:>12,} {rate[0]:>16,.0f} {peak[0]:>8.0f} MB {second:>9.2f} s "
                        f"{rate[1]:>13,.0f} {peak[1]:>8.0f} MB {statistics.median(ratios):>8.2f}")
    print(f"medians of {pairs} pairs, {arguments.cores} cores; peak memory of the largest process")
    print(f"{'conversations':>13} {'tokens':>12} {'Greffon tokens/s':>16} {'peak':>11} {'2nd start':>11} "
          f"{'peer tokens/s':>13} {'peak':>11} {'ratio':>8}")
    print("\n".join(rows))
    print(f"ratio data {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
