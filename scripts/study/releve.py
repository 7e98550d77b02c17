"""Runs the study of reading insurance statements, and writes its page.

A system is something that answers the test questions: a base with 0 and with 3 examples in its prompt, a base adapted by
a recipe with one of three seeds, and rules. Of each its answers are kept, and of each run its figures, beside the
recipe; the page's tables and plots are made from these files alone (page.py).
"""

import argparse
import json
import subprocess
from pathlib import Path

import page
from systems import BASES, FOLDER, KEPT, RECIPES, ROOT, RULES, SEARCH, SEEDS, SHOWN, TESTS
from systems import adapted, answers_of, figures_of, prompted, slug

WORK = ROOT / "runs" / "study-releve-information"
# The parts of the full recipe's time that the search tries.
PARTS = "0.0625,0.125,0.25"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--greffon", required=True, help="the program (releve.sh gives it)")
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="the folder of the two bases")
    parser.add_argument("--only", help="one system, such as `rules` or `SmolLM2-135M, adapted, seed 0`")
    parser.add_argument("--report", action="store_true", help="only write the page from what is kept")
    parser.add_argument("--check", action="store_true", help="only say whether the page is what is kept")
    options = parser.parse_args()
    if not options.report and not options.check:
        KEPT.mkdir(exist_ok=True)
        for name, make in systems(options).items():
            # The search answers nothing; of the others the answers are kept last.
            kept = figures_of(name) if name == SEARCH else answers_of(name)
            if options.only in (None, name) and not kept.exists():
                print(f"{name} …", flush=True)
                make()
    files = page.made(options.greffon)
    if not options.check:
        for path, text in files.items():
            write(path, text)
    elif other := [path.name for path, text in files.items() if not path.exists() or path.read_text("utf-8") != text]:
        raise SystemExit(f"{', '.join(other)}: not what the kept answers and figures say; write it with --report")


def systems(options) -> dict:
    """What makes each system's answers."""
    made = {RULES: rules, SEARCH: lambda: search(options)}
    for base, (file, extra, recipes) in BASES.items():
        model = [f"model.base={options.models / file}", "model.revision=null", *extra]
        for recipe in recipes:
            for seed in SEEDS:
                made[adapted(base, recipe, seed)] = \
                    lambda base=base, recipe=recipe, seed=seed, model=model: train(options, base, recipe, seed, model)
        made[prompted(base, SHOWN)] = lambda base=base: prompt(options, base)
    return made


def greffon(options, *arguments, codes=(0, 3)) -> dict:
    done = subprocess.run([options.greffon, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode not in codes:
        raise SystemExit(f"greffon {arguments[0]} failed with {done.returncode}")
    return json.loads(done.stdout)


def write(path: Path, text: str) -> None:
    """Under a temporary name first, so that what is there is whole."""
    path.with_suffix(".part").write_text(text, encoding="utf-8")
    path.with_suffix(".part").rename(path)


def keep(name: str, answers: list[str]) -> None:
    lines = [json.dumps({"answer": answer}, ensure_ascii=False) for answer in answers]
    write(answers_of(name), "\n".join(lines) + "\n")


def rules() -> None:
    tests = [FOLDER / "test" / f"{test}.jsonl" for test in TESTS]
    done = subprocess.run(["python3", ROOT / "scripts" / "study" / "rules.py", *tests], stdout=subprocess.PIPE,
                          text=True, check=True)
    keep(RULES, [json.loads(line)["answer"] for line in done.stdout.splitlines()])


def search(options) -> None:
    """Looks for the frugal recipe, and keeps what was tried without the folders of this machine."""
    folder = WORK / SEARCH
    file, extra, _ = next(iter(BASES.values()))
    values = [f"model.base={options.models / file}", "model.revision=null", *extra]
    found = greffon(options, "frugal", FOLDER / "full.yaml", "--to", folder, "--parts", PARTS, "--json",
                    *sum((["--set", value] for value in values), []))
    for tried in [found["full"], *found["tried"]]:
        del tried["folder"]
    write(page.FRONTIER, (folder / "frontier.svg").read_text(encoding="utf-8"))
    write(figures_of(SEARCH), json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def train(options, base: str, recipe: str, seed: int, model: list[str]) -> None:
    """Trains one run, keeps its figures, and asks it; with the first run of a base that base too."""
    name = adapted(base, recipe, seed)
    run = WORK / slug(name)
    # What is forgotten is asked of the recipe that is recommended.
    suite = [] if recipe == next(iter(RECIPES)) else ["forgetting.suite=none"]
    values = [*model, *suite, f"train.seed={seed}", f"output={run}"]
    outcome = greffon(options, "train", FOLDER / f"{RECIPES[recipe]}.yaml", "--or-resume", "--json",
                      *sum((["--set", value] for value in values), []))
    of_base = answers_of(prompted(base, 0))
    rival = ["--rival", of_base] if of_base.exists() else []
    found = greffon(options, "eval", run, "--json", *rival)
    if not rival:
        keep(prompted(base, 0), [answer["base"] for answer in found["answers"]])
    figures = {key: outcome.get(key) for key in ("steps", "tokens", "seconds", "validation_loss", "energy", "forgetting")}
    write(figures_of(name), json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    keep(name, [answer["adapter"] for answer in found["answers"]])


def prompt(options, base: str) -> None:
    name = adapted(base, next(iter(RECIPES)), SEEDS[0])
    found = greffon(options, "eval", WORK / slug(name), "--json", "--answers", answers_of(name),
                    "--set", f"eval.num_fewshot={SHOWN}")
    keep(prompted(base, SHOWN), [answer["base"] for answer in found["answers"]])


if __name__ == "__main__":
    main()
