"""Runs the study of docs/forgetting.md and writes its table and plot.

A line of docs/forgetting-results.jsonl is one run: the repair, the seed, what was gained on the task and what was lost of
the base. `--report` only writes the table and the plot from the lines that are there.
"""

import argparse
import json
import math
import shutil
import statistics
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "forgetting" / "recipe.yaml"
TEST = ROOT / "recipes" / "quickstart" / "data" / "test.jsonl"
RESULTS = ROOT / "docs" / "forgetting-results.jsonl"
PAGE = ROOT / "docs" / "forgetting.md"
PLOT = ROOT / "docs" / "forgetting.svg"
WORK = ROOT / "runs" / "forgetting-study"
SEEDS = (0, 1, 2)
QUESTIONS = 100
PROMPT = "{context}\n\nQuestion : {question}\nRéponds par un extrait exact du texte."
GENERAL = json.dumps([{"path": str(ROOT / "recipes" / "general" / f"{lang}.jsonl"), "format": "alpaca"}
                      for lang in ("en", "fr")])
# By name: what the recipe is given on top.
REPAIRS = {
    "none": [],
    "replay and KL": [f"forgetting.replay={{sources: {GENERAL}, share: 0.25}}", "forgetting.kl_weight=1"],
    "learning rate / 4": ["train.learning_rate=5e-4"],
    "replay": [f"forgetting.replay={{sources: {GENERAL}, share: 0.25}}"],
    "L2 to the start": ["forgetting.l2_weight=0.01"],
    "KL on the base's answers": [
        f"forgetting.replay={{sources: {GENERAL}, share: 0.25, weight: 0, answers: base, max_new_tokens: 64}}",
        "forgetting.kl_weight=2"],
    "early stop on the gate": ["forgetting.every=8", "forgetting.early_stop=true"],
}
SCALE = "adapter scale search"
# Student's t, 97.5 %, by degrees of freedom.
T = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def greffon(options, *arguments, codes=(0, 3)) -> dict:
    done = subprocess.run([options.greffon, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode not in codes:
        raise SystemExit(f"greffon {arguments[0]} failed with {done.returncode}:\n{done.stderr}")
    return {"code": done.returncode, **json.loads(done.stdout)}


def task_file() -> Path:
    """The questions of the task that nobody trains on, as a file of questions."""
    path = WORK / "task.jsonl"
    records = [json.loads(line) for line in TEST.read_text(encoding="utf-8").split("\n") if line]
    with path.open("w", encoding="utf-8") as file:
        for index, record in enumerate(records[:QUESTIONS]):
            prompt = PROMPT.replace("{context}", record["context"]).replace("{question}", record["question"])
            answers = [answer["text"] for answer in record["answers"]]
            item = {"id": f"piaf-{index}", "task": "piaf", "lang": "fr", "kind": "gen", "prompt": prompt,
                    "answer": answers, "compare": "f1"}
            file.write(json.dumps(item, ensure_ascii=False) + "\n")
    return path


def score(options, recipe: list, adapter: Path) -> dict:
    """F1 on the task, of base and adapter."""
    found = greffon(options, "forgetting", "measure", RECIPE, *recipe, "--adapter", adapter, "--suite", "none",
                    "--probes", task_file(), "--json")
    [task] = found["tasks"]
    return {"base_f1": task["base"], "f1": task["adapted"], "f1_interval": task["interval"]}


def lost(found: dict) -> dict:
    """What matters of a measurement of forgetting."""
    verdict = found["verdict"]
    return {
        "passed": verdict["passed"],
        "beyond": [check["subject"] for check in verdict["checks"] if check["outcome"] == "beyond"],
        "average": found["average"]["difference"],
        "average_interval": found["average"]["interval"],
        "kl": {divergence["lang"]: divergence["kl"] for divergence in found["divergences"]},
        "tasks": {task["task"]: task["difference"] for task in found["tasks"]},
    }


def run(options, name: str, seed: int) -> dict:
    output = WORK / f"{name.replace(' ', '-').replace('/', '')}-{seed}"
    base = [] if options.model is None else ["--set", f"model.base={options.model}", "--set", "model.revision=null"]
    recipe = [*base, "--set", f"train.seed={seed}", "--set", f"output={output}"]
    for value in REPAIRS[name]:
        recipe += ["--set", value]
    started = time.monotonic()
    trained = greffon(options, "train", RECIPE, *recipe, "--force", "--json")
    seconds = time.monotonic() - started - trained["forgetting"]["seconds"]
    line = {"repair": name, "seed": seed, "exit_code": trained["code"], "steps": trained["steps"],
            "train_seconds": round(seconds, 1), **lost(trained["forgetting"]), **score(options, base, output / "adapter")}
    lines = [line]
    if name == "none":
        scaled = WORK / f"scaled-{seed}"
        shutil.rmtree(scaled, ignore_errors=True)
        started = time.monotonic()
        found = greffon(options, "forgetting", "repair", output, "--to", scaled, "--json")
        if found["best"]:
            best = found["best"]
            lines.append({"repair": SCALE, "seed": seed, "exit_code": found["code"], "scales": best["scales"],
                          "search_seconds": round(time.monotonic() - started, 1), **lost(best["forgetting"]),
                          **score(options, base, scaled)})
    with RESULTS.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")
            print(line["repair"], line["seed"], f"F1 {line['f1']:.3f}", f"average {line['average']:+.3f}", line["kl"],
                  "passed" if line["passed"] else "beyond", flush=True)
    for checkpoint in output.glob("checkpoints/step-*"):
        shutil.rmtree(checkpoint)


def results() -> list[dict]:
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").split("\n") if line]


def interval(values: list[float]) -> tuple[float, float, float]:
    """Mean and half-width of the 95 % interval over seeds."""
    mean = statistics.mean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = T[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def by_repair(lines: list[dict]) -> dict[str, list[dict]]:
    order = ["none", *[name for name in REPAIRS if name != "none"], SCALE]
    return {name: found for name in order if (found := [line for line in lines if line["repair"] == name])}


def kept(line: dict, lines: list[dict]) -> float:
    """The share of the unrepaired run's gain, of the same seed."""
    [full] = [other for other in lines if other["repair"] == "none" and other["seed"] == line["seed"]]
    return (line["f1"] - line["base_f1"]) / (full["f1"] - full["base_f1"])


def table(lines: list[dict]) -> str:
    rows = ["| repair | seeds | F1 on the task | gain kept | mean of the general tasks | KL en | KL fr | within the limits |",
            "|---|---|---|---|---|---|---|---|"]

    def show(values: list[float], factor: float, digits: int, unit: str = "") -> str:
        mean, low, high = (f"{factor * value:.{digits}f}" for value in interval(values))
        return f"{mean}{unit}" if len(values) < 2 else f"{mean}{unit} ({low} to {high})"

    for name, found in by_repair(lines).items():
        rows.append("| " + " | ".join([
            name,
            str(len(found)),
            show([line["f1"] for line in found], 100, 1),
            show([kept(line, lines) for line in found], 100, 0, " %"),
            show([line["average"] for line in found], 100, 1),
            show([line["kl"]["en"] for line in found], 1, 3),
            show([line["kl"]["fr"] for line in found], 1, 3),
            f"{sum(line['passed'] for line in found)} of {len(found)}",
        ]) + " |")
    return "\n".join(rows)


def plot(lines: list[dict]) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "greffon"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for name, found in by_repair(lines).items():
        gain, low, high = interval([100 * (line["f1"] - line["base_f1"]) for line in found])
        loss, left, right = interval([-100 * line["average"] for line in found])
        spread = [[[loss - left], [right - loss]], [[gain - low], [high - gain]]]
        axes.errorbar(loss, gain, xerr=spread[0], yerr=spread[1], fmt="o", capsize=3, label=name)
    axes.set_xlabel("forgotten: mean accuracy lost on the general tasks, points")
    axes.set_ylabel("gained: F1 on the task, points")
    axes.axvline(3, linestyle="--", color="grey", linewidth=1)
    axes.annotate("limit of the gate", (3, axes.get_ylim()[0]), rotation=90, fontsize=8, va="bottom", ha="right")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def report() -> None:
    lines = results()
    if not lines:
        raise SystemExit(f"{RESULTS.name} has no runs yet")
    text = PAGE.read_text(encoding="utf-8")
    start, end = "<!-- table -->", "<!-- end of table -->"
    before, after = text.split(start)[0], text.split(end)[1]
    PAGE.write_text(f"{before}{start}\n{table(lines)}\n{end}{after}", encoding="utf-8")
    print(table(lines))
    plot(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--greffon", default="target/release/greffon", help="the program")
    parser.add_argument("--model", help="the base, where it is not the recipe's")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--report", action="store_true", help="write the table and the plot only")
    options = parser.parse_args()
    if not options.report:
        WORK.mkdir(parents=True, exist_ok=True)
        done = {(line["repair"], line["seed"]) for line in results()}
        for name in REPAIRS:
            for seed in options.seeds:
                if (name, seed) not in done:
                    run(options, name, seed)
    report()


if __name__ == "__main__":
    main()
