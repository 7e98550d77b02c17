"""Greffon against PyTorch + PEFT and TRL, pair by pair on the same samples; compare.sh starts this.

Prints each pair, then the table of targets, and as its last lines `ratio NAME MEDIAN`, one for each name:

  full, tuned, grouped, longest, max, trl    Greffon's tokens per second over the peer's
  limit                                      share of the matrix-product limit, from 0 to 1
  memory                                     Greffon's peak memory over PEFT's (less is better)
  flat                                       peak memory at 1 x 4096 over 8 x 512 tokens (less is better)
  generate                                   greedy tokens per second over transformers'
  start                                      seconds from process start to the end of the first step (less is better)

A name that could not be measured says `failed` in place of the number, and the exit code is 1. Missing a target is told
in the table and is no failure. Besides, of Greffon alone, for the page: `lengths`, `ranks`, and `data`, which runs
scripts/bench/data.sh.
"""

import argparse
import datetime
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import child
import report
import targets
from sides import ROOT, Sides
from works import Works

EPILOG = """variables:
  GREFFON_PEER_PYTHON    a Python with the peer (default: made by scripts/real/setup.sh)
  GREFFON_SMOLLM2        the GGUF file of SmolLM2-135M-Instruct (default: fetched into models/)
  GREFFON_BENCH_CACHE    where the float32 model goes (default: ~/.cache/greffon/bench)
  GREFFON_BENCH_PROGRAM  a greffon that is built already (default: cargo build)

examples:
  ./scripts/bench/compare.sh                       all, 5 pairs each: about an hour and a half on two cores
  ./scripts/bench/compare.sh --fast                all in under 15 minutes
  ./scripts/bench/compare.sh --only full,tuned --pairs 3
  ./scripts/bench/compare.sh --only full --set train.activation_checkpointing=block
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="compare.sh", description=__doc__, epilog=EPILOG,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fast", action="store_true", help="fewer pairs, steps and samples: under 15 minutes")
    parser.add_argument("--only", metavar="NAMES", help="these names, with commas; docs/benchmarks.md is left alone")
    parser.add_argument("--pairs", type=int, metavar="N", help="pairs of each kind (default: 5; with --fast 2 or 1)")
    parser.add_argument("--no-wait", action="store_true",
                        help="do not wait for a quiet machine, and do not run disturbed pairs again")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="set_values",
                        help="a recipe value for Greffon's training runs; may be given again")
    parser.add_argument("--page", type=Path, help="where the page goes (default: docs/benchmarks.md when all is run)")
    parser.add_argument("--threads", type=int, default=2, help="threads and cores of either side (default: 2)")
    parser.add_argument("--work", type=Path, default=ROOT / "target/bench/compare",
                        help="samples, logs and raw.json (default: target/bench/compare)")
    parser.add_argument("--arguments-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--greffon", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--python", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    known = targets.NAMES + targets.GROWTH
    arguments.names = known if arguments.only is None else [name.strip() for name in arguments.only.split(",")]
    for name in arguments.names:
        if name not in known:
            parser.error(f"--only names \"{name}\", expected some of {', '.join(known)}")
    if arguments.pairs is not None and arguments.pairs < 1:
        parser.error(f"--pairs is {arguments.pairs}, expected at least 1")
    if not 1 <= arguments.threads <= len(os.sched_getaffinity(0)):
        parser.error(f"--threads is {arguments.threads}, this machine gives 1 to {len(os.sched_getaffinity(0))}")
    for flag in ("greffon", "python", "model"):
        if getattr(arguments, flag) is None and not arguments.arguments_only:
            parser.error("start compare.sh, which names the program, the peer and the model")
    return arguments


def run_script(name: str, *arguments: str) -> list[str] | None:
    """The output of another script of this folder, when it is there."""
    script = ROOT / "scripts/bench" / name
    if not script.is_file():
        return None
    print(f"\n== {script.name}", flush=True)
    finished = subprocess.run([str(script), *arguments], stdout=subprocess.PIPE, text=True, check=False)
    lines = finished.stdout.rstrip().splitlines()
    print("\n".join(lines[-40:]), flush=True)
    if finished.returncode != 0:
        raise child.Failed(f"{name} ended with {finished.returncode}")
    return lines


def extras(works: Works, names: list[str], fast: bool) -> None:
    """What another script measures: the data pipeline."""
    results = works.results
    if "data" in names:
        try:
            lines = run_script("data.sh", *(["--fast"] if fast else []))
            if lines is None:
                results["failed"]["data"] = "scripts/bench/data.sh is not there"
            else:
                results["data"] = lines[-40:]
        except child.Failed as error:
            results["failed"]["data"] = str(error)


def main() -> int:
    arguments = parse()
    if arguments.arguments_only:
        return 0
    effort = targets.FAST if arguments.fast else targets.WHOLE
    if arguments.pairs:
        effort = targets.Effort(**{**vars(effort), **{field: arguments.pairs for field in vars(effort)
                                                      if field.endswith("_pairs")}})
    work = arguments.work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    (work / "logs").mkdir(parents=True)
    started = datetime.datetime.now()

    def before() -> None:
        if not arguments.no_wait:
            child.wait_until_quiet(targets.DISTURBED)

    # Not resolved: a virtual environment's Python is a link, and known by its own place.
    python = Path(os.path.abspath(arguments.python))
    sides = Sides(arguments.greffon.resolve(), python, arguments.model.resolve(), work, arguments.threads,
                  arguments.set_values, before)
    about = report.machine(python, sides.greffon, ROOT, arguments.threads)
    for key, value in about.items():
        print(f"{key:10} {value}")
    works = Works(sides, arguments.names, effort, may_rerun=not arguments.no_wait)
    works.run(lambda results: report.save_raw(results, work / "raw.json"))
    extras(works, arguments.names, arguments.fast)
    results = works.results
    report.save_raw(results, work / "raw.json")

    command = "./scripts/bench/compare.sh" + "".join(f" {shlex.quote(word)}" for word in shown_arguments(arguments))
    page = arguments.page or (ROOT / "docs/benchmarks.md" if arguments.only is None else work / "benchmarks.md")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(report.page(results, arguments.names, about, effort, arguments.fast, command), encoding="utf-8")
    minutes = (datetime.datetime.now() - started).total_seconds() / 60
    print(f"\n== done in {minutes:.1f} minutes; page: {page}; raw: {work / 'raw.json'}\n")
    print("\n".join(report.summary(results, arguments.names)))
    for name, why in results["failed"].items():
        print(f"\n{name} failed: {why}", file=sys.stderr)
    sys.stderr.flush()
    print()
    print("\n".join(report.ratio_lines(results, arguments.names)))
    missing = [name for name in arguments.names if name in targets.NAMES and name not in results["ratios"]]
    return 1 if missing or results["failed"] else 0


def shown_arguments(arguments: argparse.Namespace) -> list[str]:
    words = (["--fast"] if arguments.fast else []) + (["--no-wait"] if arguments.no_wait else [])
    words += ["--only", arguments.only] if arguments.only else []
    words += ["--pairs", str(arguments.pairs)] if arguments.pairs else []
    for value in arguments.set_values:
        words += ["--set", value]
    return words


if __name__ == "__main__":
    try:
        sys.exit(main())
    except child.Failed as error:
        sys.exit(f"compare.sh: {error}")
    except KeyboardInterrupt:
        sys.exit("compare.sh: interrupted; what was measured until then is in raw.json of the --work folder")
