"""Asks the three adapters of peer.sh, and keeps what they answered with the time and memory of their training."""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

from systems import KEPT, prompted, answers_of

WAYS = {"peft": "PEFT", "alone": "Greffon", "together": "Greffon, statements shared"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--greffon", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--tests", required=True)
    options = parser.parse_args()
    base = [json.loads(line)["answer"] for line in answers_of(prompted("SmolLM2-135M", 0)).read_text("utf-8").splitlines()]
    rival = options.work / "base.jsonl"
    # The kept answers go on with a further test.
    rival.write_text("".join(json.dumps({"answer": answer}) + "\n" for answer in base[:900]), encoding="utf-8")
    found = {}
    for way, name in WAYS.items():
        run = options.work / ("together" if way == "peft" else way)
        adapter = ["--adapter", options.work / "peft"] if way == "peft" else []
        asked = subprocess.run([options.greffon, "eval", run, *adapter, "--json", "--rival", rival, "--set",
                                f"eval.test={options.tests}"], stdout=subprocess.PIPE, text=True, check=True)
        metrics = {metric["metric"]: metric for metric in json.loads(asked.stdout)["metrics"]}
        found[name] = {"metrics": metrics, **trained(options.work, way)}
        answers = [{"answer": answer["adapter"]} for answer in json.loads(asked.stdout)["answers"]]
        (KEPT / f"peer-{way}-seed-{options.seed}.jsonl").write_text(
            "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers), encoding="utf-8")
    (KEPT / f"peer-seed-{options.seed}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def trained(work: Path, way: str) -> dict:
    """Steps, tokens, seconds and peak memory; the first step is each one's warm-up and left out of the speed."""
    lines = (work / "peft.jsonl" if way == "peft" else work / way / "metrics.jsonl").read_text("utf-8").splitlines()
    steps = [step for step in map(json.loads, lines) if "loss" in step]
    if way == "peft":
        peak = json.loads((work / "peft" / "figures.json").read_text("utf-8"))["peak_bytes"]
    else:
        peak = max(step["memory"] for step in steps)
    seconds = sum(step["seconds"] for step in steps)
    speed = sum(step["tokens"] for step in steps[1:]) / sum(step["seconds"] for step in steps[1:])
    return {"steps": len(steps), "tokens": sum(step["tokens"] for step in steps), "seconds": seconds,
            "tokens_per_second": speed, "median_step": statistics.median(step["seconds"] for step in steps),
            "peak_bytes": peak}


if __name__ == "__main__":
    main()
