"""Runs the study of reading insurance statements, and prints its tables.

A system is something that answers the 900 test questions: a base with 0 and with 3 examples in its prompt, the base
adapted with each of three seeds, and rules. Of each its answers are kept, and of each run its figures; the tables are
made from these files. Every figure in them comes from `greffon eval --answers A --rival B`, which asks no model.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes" / "releve-information"
RECIPE = FOLDER / "train.yaml"
KEPT = FOLDER / "study"
WORK = ROOT / "runs" / "study-releve-information"
TESTS = ["seen", "unseen-layouts", "unseen-questions"]
SEEDS = (0, 1, 2)
SHOWN = 3
# By name: the file that scripts/fetch_*.py brings, and what the recipe is given on top.
BASES = {
    "SmolLM2-135M": ("SmolLM2-135M-Instruct.Q4_1.gguf", []),
    "Gemma 3 270M": ("gemma-3-270m-q4_k_m.gguf",
                     [f"data.chat_template={ROOT / 'recipes' / 'chat_templates' / 'gemma.jinja'}"]),
}
RULES = "rules"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--greffon", required=True, help="the program (releve.sh gives it)")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="the folder of the two bases")
    parser.add_argument("--only", help="one system, such as `rules` or `SmolLM2-135M, adapted, seed 0`")
    parser.add_argument("--report", action="store_true", help="only print the tables of what is kept")
    options = parser.parse_args()
    if not options.report:
        KEPT.mkdir(exist_ok=True)
        for name, make in systems(options).items():
            if options.only in (None, name) and not answers_of(name).exists():
                print(f"{name} …", flush=True)
                make()
    tables(options)


def systems(options) -> dict:
    """What makes each system's answers."""
    made = {RULES: rules}
    for base, (file, extra) in BASES.items():
        model = [f"model.base={options.models / file}", "model.revision=null", *extra]
        for seed in SEEDS:
            made[adapted(base, seed)] = lambda base=base, seed=seed, model=model: train(options, base, seed, model)
        made[prompted(base, SHOWN)] = lambda base=base: prompt(options, base)
    return made


def adapted(base: str, seed: int) -> str:
    return f"{base}, adapted, seed {seed}"


def prompted(base: str, shown: int) -> str:
    return f"{base}, {shown} shown"


def answers_of(name: str) -> Path:
    return KEPT / f"{slug(name)}.jsonl"


def slug(name: str) -> str:
    return name.lower().replace(", ", "-").replace(" ", "-")


def greffon(options, *arguments, codes=(0, 3)) -> dict:
    done = subprocess.run([options.greffon, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode not in codes:
        raise SystemExit(f"greffon {arguments[0]} failed with {done.returncode}")
    return json.loads(done.stdout)


def keep(name: str, answers: list[str]) -> None:
    """Under a temporary name first, so that what is there is whole."""
    path = answers_of(name)
    lines = [json.dumps({"answer": answer}, ensure_ascii=False) for answer in answers]
    path.with_suffix(".part").write_text("\n".join(lines) + "\n", encoding="utf-8")
    path.with_suffix(".part").rename(path)


def rules() -> None:
    tests = [FOLDER / "test" / f"{test}.jsonl" for test in TESTS]
    done = subprocess.run(["python3", ROOT / "scripts" / "study" / "rules.py", *tests], stdout=subprocess.PIPE,
                          text=True, check=True)
    keep(RULES, [json.loads(line)["answer"] for line in done.stdout.splitlines()])


def train(options, base: str, seed: int, model: list[str]) -> None:
    """Trains one run, keeps its figures, and asks it; with the first seed its base too."""
    run = WORK / slug(adapted(base, seed))
    values = [*model, f"train.seed={seed}", f"output={run}"]
    outcome = greffon(options, "train", RECIPE, "--or-resume", "--json", *sum((["--set", v] for v in values), []))
    base_answers = answers_of(prompted(base, 0))
    rival = ["--rival", base_answers] if base_answers.exists() else []
    found = greffon(options, "eval", run, "--json", *rival)
    if not rival:
        keep(prompted(base, 0), [answer["base"] for answer in found["answers"]])
    figures = {key: outcome[key] for key in ("steps", "tokens", "seconds", "validation_loss", "energy")}
    figures["forgetting"] = outcome["forgetting"]["verdict"]
    path = KEPT / f"{slug(adapted(base, seed))}.json"
    path.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    keep(adapted(base, seed), [answer["adapter"] for answer in found["answers"]])


def prompt(options, base: str) -> None:
    run = WORK / slug(adapted(base, SEEDS[0]))
    given = answers_of(adapted(base, SEEDS[0]))
    found = greffon(options, "eval", run, "--json", "--answers", given, "--set", f"eval.num_fewshot={SHOWN}")
    keep(prompted(base, SHOWN), [answer["base"] for answer in found["answers"]])


def compared(options, name: str, rival: str) -> dict[tuple[str, str, str], dict]:
    """By group, its value and metric: what `greffon eval` finds of one system against another."""
    found = greffon(options, "eval", RECIPE, "--json", "--answers", answers_of(name), "--rival", answers_of(rival))
    groups = [{"by": "all", "value": "", "metrics": found["metrics"]}, *found["groups"]]
    return {(group["by"], Path(group["value"]).stem if group["by"] == "file" else group["value"], metric["metric"]): metric
            for group in groups for metric in group["metrics"]}


def tables(options) -> None:
    """The tables of what is there so far."""
    lines = []
    there = [name for name in systems(options) if answers_of(name).exists()]
    for base in BASES:
        zero = prompted(base, 0)
        if not answers_of(zero).exists():
            continue
        lines += ["", f"## {base}", "", "| exact match, % | " + " | ".join(TESTS) + " | damaged text | absent |",
                  "|---|" + "---|" * (len(TESTS) + 2)]
        for name in [n for n in there if n == RULES or n.startswith(base)]:
            found = compared(options, name, zero)
            keys = [("file", test) for test in TESTS] + [("ocr_noise", "true"), ("answer_kind", "absent")]
            cells = []
            for key in keys:
                metric = found[(*key, "exact match")]
                low, high = (100 * bound for bound in metric["interval"])
                cells.append(f"{100 * metric['adapter']:.1f} ({low:+.1f} to {high:+.1f})")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        runs = [json.loads((KEPT / f"{slug(adapted(base, seed))}.json").read_text(encoding="utf-8")) for seed in SEEDS
                if (KEPT / f"{slug(adapted(base, seed))}.json").exists()]
        if runs:
            seconds = statistics.median(run["seconds"] for run in runs)
            lines += ["", f"{len(runs)} runs, training in {seconds:.0f} s (median); forgetting gate passed: "
                          f"{sum(run['forgetting']['passed'] for run in runs)} of {len(runs)}."]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
