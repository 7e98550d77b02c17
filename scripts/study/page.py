"""The study's page: its tables and plots, from the kept answers and figures alone.

What stands between `<!-- NAME -->` and `<!-- end -->` in the page is written here, the rest by people. Every share and
interval is what `greffon eval --answers A --rival B` finds, which asks no model.
"""

import json
import statistics
import subprocess
from pathlib import Path

import plot
from systems import BASES, FOLDER, ROOT, RULES, SEARCH, SEEDS, SHOWN, TESTS
from systems import adapted, answers_of, figures_of, prompted, slug

PAGE = ROOT / "docs" / "study-releve-information.md"
FRONTIER = PAGE.parent / "study-frontier.svg"
ABSENT = "Information absente du document"
METRICS = ("exact match", "token F1")


def made(greffon: str) -> dict[Path, str]:
    """The page and its plots, as the kept answers and figures have them."""
    found = {base: {name: compared(greffon, name, prompted(base, 0)) for name in of_base(base)} for base in BASES
             if answers_of(prompted(base, 0)).exists()}
    parts = {metric: by_test(found, metric) for metric in METRICS}
    parts |= {"kinds": by_kind(found), "absent": absent(found), "runs": runs(), "search": search(), "thrift": thrift(found)}
    files = {PAGE.parent / f"study-{slug(base)}.svg": plot.shares(base, points(base, systems), list(TESTS.values()))
             for base, systems in found.items()}
    parts["plots"] = "\n".join(f"![{path.stem}]({path.name})" for path in files)
    text = PAGE.read_text(encoding="utf-8")
    for name, part in parts.items():
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        if not begin or not end:
            raise SystemExit(f"{PAGE}: no place for {name}: expected <!-- {name} --> and <!-- end -->")
        text = f"{before}{begin}{part}\n{end}{after}"
    return files | {PAGE: text}


def of_base(base: str) -> list[str]:
    """The systems of a base that have answered, and the rules."""
    names = [prompted(base, 0), prompted(base, SHOWN), *(n for way in BASES[base][2] for n in of_way(base, way)), RULES]
    return [name for name in names if answers_of(name).exists()]


def of_way(base: str, recipe: str) -> list[str]:
    return [name for seed in SEEDS if answers_of(name := adapted(base, recipe, seed)).exists()]


def compared(greffon: str, name: str, rival: str) -> dict[tuple[str, str, str], dict]:
    """By group, its value and metric: what is found of one system against another."""
    done = subprocess.run([greffon, "eval", FOLDER / "train.yaml", "--json", "--answers", answers_of(name), "--rival",
                           answers_of(rival)], stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    groups = [{"by": "all", "value": "", "metrics": found["metrics"]}, *found["groups"]]
    return {(group["by"], Path(group["value"]).stem if group["by"] == "file" else group["value"], metric["metric"]): metric
            for group in groups for metric in group["metrics"]}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def share(metric: dict) -> str:
    return f"{100 * metric['adapter']:.1f}"


def against(metric: dict) -> str:
    low, high = (100 * bound for bound in metric["interval"])
    return f"{share(metric)} ({low:+.1f} to {high:+.1f})"


def with_keys(found: dict, keys: list[tuple[str, str]], metric: str) -> list[list[str]]:
    """A row for each system, and one for the mean over the seeds of each way of training."""
    rows = []
    for base, systems in found.items():
        for name, of_system in systems.items():
            cell = share if name == prompted(base, 0) else against
            rows.append([name] + [cell(of_system[(*key, metric)]) for key in keys])
        for way in BASES[base][2]:
            seeds = of_way(base, way)
            if len(seeds) > 1:
                means = [statistics.mean(systems[name][(*key, metric)]["adapter"] for name in seeds) for key in keys]
                rows.append([f"**{base}, {way}, mean of {len(seeds)}**"] + [f"**{100 * mean:.1f}**" for mean in means])
    return rows


def by_test(found: dict, metric: str) -> str:
    keys = [("file", test) for test in TESTS]
    return table([f"{metric}, % (against the base with 0 shown)", *TESTS.values()], with_keys(found, keys, metric))


def by_kind(found: dict) -> str:
    keys = {"damaged text": ("ocr_noise", "true"), "whole text": ("ocr_noise", "false"), "printed": ("answer_kind", "span"),
            "counted": ("answer_kind", "derived"), "absent": ("answer_kind", "absent")}
    head = ["exact match, % (against the base with 0 shown)", *keys]
    return table(head, with_keys(found, list(keys.values()), METRICS[0]))


def expected() -> list[str]:
    lines = [line for test in TESTS for line in (FOLDER / "test" / f"{test}.jsonl").read_text("utf-8").splitlines()]
    return [json.loads(line)["messages"][-1]["content"] for line in lines]


def kept(name: str) -> list[str]:
    return [json.loads(line)["answer"] for line in answers_of(name).read_text("utf-8").splitlines()]


def absent(found: dict) -> str:
    """How often « Information absente du document » is said, and is right."""
    right = expected()
    rows = []
    for systems in found.values():
        for name in systems:
            said = [answer.strip().rstrip(".") == ABSENT for answer in kept(name)]
            due = [answer == ABSENT for answer in right]
            both = sum(a and b for a, b in zip(said, due, strict=True))
            precision = f"{100 * both / sum(said):.1f} %" if any(said) else "never said"
            rows.append([name, f"{sum(said)}", precision, f"{100 * both / sum(due):.1f} % of {sum(due)}"])
    return table(["", "said", "rightly (precision)", "of those due (recall)"], rows)


def figures(name: str) -> dict:
    return json.loads(figures_of(name).read_text(encoding="utf-8"))


def runs() -> str:
    rows = []
    for base, (_, _, ways) in BASES.items():
        for name in [name for way in ways for name in of_way(base, way) if figures_of(name).exists()]:
            of_run = figures(name)
            gate = gate_of(of_run["forgetting"])
            rows.append([name, str(of_run["steps"]), f"{of_run['tokens']:,}", f"{of_run['seconds']:.0f} s",
                         f"{1e3 * of_run['energy']['kwh']:.2f} Wh", f"{of_run['validation_loss']:.4f}", gate])
    return table(["", "steps", "tokens", "training", "energy of the run", "validation loss", "forgetting gate"], rows)


def gate_of(forgetting: dict | None) -> str:
    if forgetting is None:
        return "not asked"
    mean = forgetting.get("average_difference")
    verdict = "passed" if forgetting["verdict"]["passed"] else "not passed"
    return verdict + (f", {100 * mean:+.1f} points" if mean else "")


def search() -> str:
    """What was tried in the search, in its order."""
    if not figures_of(SEARCH).exists():
        return ""
    found = figures(SEARCH)
    full = found["full"]["seconds"]
    rows = [[of["name"], f"{100 * of['seconds'] / full:.1f} %", str(of["steps"]), f"{of['seconds']:.0f} s",
             f"{1e3 * of['kwh']:.2f} Wh", f"{of['loss']:.4f}",
             "" if of["exact_match"] is None else f"{100 * of['exact_match']:.1f} %"]
            for of in [found["full"], *found["tried"]]]
    head = ["", "of the time", "steps", "training", "energy", "validation loss", "exact match, validation"]
    return table(head, rows)


def thrift(found: dict) -> str:
    """The frugal recipe against the one without thrift, seed by seed."""
    rows = []
    for base, systems in found.items():
        if len(BASES[base][2]) < 2:
            continue
        less, full = (BASES[base][2][i] for i in (0, 1))
        for seed in SEEDS:
            names = [adapted(base, way, seed) for way in (less, full)]
            if all(name in systems and figures_of(name).exists() for name in names):
                seconds = [figures(name)["seconds"] for name in names]
                tests = [("file", test) for test in list(TESTS)[:3]]
                shares = [statistics.mean(systems[name][(*key, METRICS[0])]["adapter"] for key in tests) for name in names]
                rows.append((seed, *seconds, *shares))
    cells = [[f"seed {seed}", f"{b:.0f} s", f"{a:.0f} s", f"{100 * (1 - a / b):.1f} %", f"{100 * d:.1f}", f"{100 * c:.1f}",
              f"{100 * (c - d):+.1f}"] for seed, a, b, c, d in rows]
    if len(rows) > 1:
        mean = [statistics.mean(row[i] for row in rows) for i in range(1, 5)]
        a, b, c, d = mean
        cells.append([f"**mean of {len(rows)}**", f"**{b:.0f} s**", f"**{a:.0f} s**", f"**{100 * (1 - a / b):.1f} %**",
                      f"**{100 * d:.1f}**", f"**{100 * c:.1f}**", f"**{100 * (c - d):+.1f}**"])
    head = ["", "without thrift", "frugal", "less time", "exact match without thrift, %", "frugal, %", "points"]
    return table(head, cells)


def points(base: str, systems: dict) -> list[tuple[str, list[tuple[float, float, float]]]]:
    """Of each system its share by test with the lowest and highest over its seeds."""
    groups = {prompted(base, 0): [prompted(base, 0)], prompted(base, SHOWN): [prompted(base, SHOWN)]}
    groups |= {f"{base}, {way}": of_way(base, way) for way in BASES[base][2]} | {RULES: [RULES]}
    drawn = []
    for label, names in groups.items():
        names = [name for name in names if name in systems]
        if names:
            shares = [[systems[name][("file", test, METRICS[0])]["adapter"] for name in names] for test in TESTS]
            drawn.append((label, [(statistics.mean(s), min(s), max(s)) for s in shares]))
    return drawn
