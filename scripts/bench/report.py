"""docs/benchmarks.md, written whole from what was measured."""

import datetime
import json
import os
import platform
import statistics
import subprocess
from pathlib import Path

from targets import DISTURBED, LOSS_TOLERANCE, NEW_TOKENS, TARGETS, TOKENS_A_STEP, TUNED_TEXT, Effort

PACKAGES = ["torch", "transformers", "peft", "trl", "accelerate", "tokenizers"]


def output(*command) -> str:
    try:
        finished = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return finished.stdout.strip()


def machine(python: Path, greffon: Path, root: Path, threads: int) -> dict:
    """What the figures were measured on and with."""
    processor = output("lscpu")
    found = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in processor.splitlines())}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    vectors = [name for name in ("avx512f", "avx2", "asimd") if name in found.get("Flags", "").split()][:1]
    versions = output(python, "-c", "import importlib.metadata as m, sys; print(sys.version.split()[0], "
                      + ", ".join(f"m.version('{name}')" for name in PACKAGES) + ")").split()
    commit = output("git", "-C", root, "describe", "--always", "--dirty")
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{found.get('Model name', platform.processor())}, family {found.get('CPU family', '?')} model "
                     f"{found.get('Model', '?')}, {os.cpu_count()} cores, {' '.join(vectors)}",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "threads": f"{threads} on both sides",
        "greffon": f"{output(greffon, '--version')}, commit {commit or 'unknown'}, {output('rustc', '--version')}",
        "peer": ", ".join(f"{name} {version}" for name, version in zip(["Python", *PACKAGES], versions)),
    }


def gib(size: float) -> str:
    return f"{size / 2**30:.2f}"


def verdict(target, value) -> str:
    return "reached" if target.reached(value) else "**missed**"


def table(header: list[str], rows: list[list]) -> list[str]:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]


def medians(results: dict) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in results["ratios"].items()}


def summary(results: dict, names: list[str]) -> list[str]:
    """The target table with what was reached."""
    middle, rows = medians(results), []
    for target in (target for target in TARGETS if target.name in names):
        limit = f"at most {target.at_least:.2f}" if target.less_is_better else f"{target.at_least:g}"
        aim = "" if target.aim is None else f"{target.aim:.2g}"
        if target.name in middle:
            raw = " ".join(f"{value:.3f}" for value in results["ratios"][target.name])
            row = [f"**{middle[target.name]:.3f}**", verdict(target, middle[target.name]), raw]
        else:
            row = ["", "not measured", (results["failed"].get(target.name) or "").splitlines()[:1]]
            row[2] = row[2][0] if row[2] else ""
        rows.append([f"`{target.name}`", target.meaning, limit, aim, *row])
    return table(["name", "what", "at least", "aim", "median", "", "each pair"], rows)


def raw_pairs(results: dict) -> list[str]:
    """Every run of every pair."""
    lines = []
    for key, pairs in results["pairs"].items():
        rows = []
        for number, pair in enumerate(pairs, 1):
            for side, run in pair.items():
                if "tokens_per_second" in run and "first_loss" in run:
                    rows.append([number, side, f"{run['tokens_per_second']:.1f}", gib(run["peak_bytes"]),
                                 f"{run['first_loss']:.6f}", " ".join(f"{s:.2f}" for s in run["step_seconds"]),
                                 f"{run['cores']:.2f}", f"{run['others']:.2f}"])
        if rows:
            lines += ["", f"### {key}", ""]
            lines += table(["pair", "side", "tokens/s", "peak GiB", "first loss", "seconds of each step, warm-up first",
                            "own cores", "others' cores"], rows)
    for number, pair in enumerate(results["pairs"].get("generate", []), 1):
        if number == 1:
            lines += ["", "### generate", ""]
            lines += table(["pair", "batch", "greffon tokens/s", "transformers tokens/s", "ratio", "same text"], [])
        for batch, ours in pair["greffon"]["batches"].items():
            theirs = pair["transformers"]["batches"][batch]
            lines.append(f"| {number} | {batch} | {ours['tokens_per_second']:.1f} | {theirs['tokens_per_second']:.1f} |"
                         f" {pair['by_batch'][batch]:.2f} | {'yes' if ours['text'] == theirs['text'] else 'no'} |")
    return lines


def roofline(results: dict) -> list[str]:
    pairs = [pair for pair in results["pairs"].get("full", []) if "limit" in pair]
    if not pairs:
        return ["Not measured in this run."]

    def middle(get):
        return statistics.median(get(pair) for pair in pairs)

    rate, best = middle(lambda p: p["matmul"]["rate"]), middle(lambda p: p["matmul"]["best"])
    lines = [
        f"PyTorch multiplies the model's own matrices (2048 tokens, forward and backward) at {rate:.0f} GFLOP/s "
        f"(median; best {best:.0f}). A token of training takes 4 FLOP a frozen weight: forward, and the gradient of "
        f"the input. LoRA's own products and attention are not counted, nor is `lm_head` where no token is supervised, "
        f"so the share is a lower bound of the arithmetic done.",
        "",
    ]
    limit = middle(lambda p: p["limit"]["tokens_per_second"])
    whole = middle(lambda p: p["limit"]["tokens_per_second_whole_head"])
    speed, share = middle(lambda p: p["greffon"]["tokens_per_second"]), middle(lambda p: p["limit"]["share"])
    lines.append(f"**Roofline: {share:.1%} of the matrix-product limit** ({speed:.0f} of {limit:.0f} tokens/s; the limit "
                 f"is {whole:.0f} tokens/s when every token reaches `lm_head`).")
    with_peer = [pair for pair in pairs if "full" in pair]
    if with_peer:
        peer = statistics.median(pair["full"]["tokens_per_second"] for pair in with_peer)
        lines.append(f"PEFT, whose every token reaches `lm_head`: {peer:.0f} tokens/s, {peer / whole:.1%} of its limit.")
    lines.append("The operators one by one, against `gemm` too: [kernels.md](kernels.md).")
    lines.append("")
    return lines + table(["product", "median GFLOP/s", "best"], [
        [shape["product"], f"{shape['median']:.0f}", f"{shape['best']:.0f}"] for shape in pairs[0]["matmul"]["shapes"]])


def growth(results: dict, key: str, header: str) -> list[str]:
    measured = results["pairs"].get(key)
    if not measured:
        return ["Not measured in this run."]
    rows, first = [], None
    for value, run in sorted(measured[0].items(), key=lambda item: int(item[0])):
        milliseconds = 1000 / run["tokens_per_second"]
        first = first or (milliseconds, run["peak_bytes"])
        rows.append([value, f"{run['tokens_per_second']:.1f}", f"{milliseconds:.2f}",
                     f"{milliseconds / first[0]:.2f}", gib(run["peak_bytes"]), f"{run['peak_bytes'] / first[1]:.2f}"])
    return table([header, "tokens/s", "ms a token", "over the first", "peak GiB", "over the first"], rows)


def page(results: dict, names: list[str], about: dict, effort: Effort, fast: bool, command: str) -> str:
    """The page as Markdown."""
    kind = "the short comparison (`--fast`): fewer pairs and steps than the whole one" if fast else \
        "the whole comparison"
    lines = ["# Benchmarks", "",
             f"Written by `{command}`; do not edit. This is {kind}: {effort.full_pairs} pairs of full rows, "
             f"{effort.mixed_pairs} of mixed lengths, {effort.trl_pairs} against TRL, {effort.flat_pairs} of `flat`, "
             f"{effort.small_pairs} of the others.", ""]
    lines += table(["", ""], [[key, value] for key, value in about.items()])
    lines += ["", "## Targets", "", *summary(results, names), "", "## How it was measured", "", *HOW]
    lines += ["", "## Roofline", "", *roofline(results)]
    lines += ["", "## Growth with the length of a sequence", "",
              f"Greffon alone, {TOKENS_A_STEP} tokens a step in one micro-batch: 16 x 256, 8 x 512, up to 1 x 4096.", "",
              *growth(results, "lengths", "length")]
    lines += ["", "## Growth with the rank", "", "Greffon alone, 4 rows of 512, alpha twice the rank.", "",
              *growth(results, "ranks", "rank")]
    lines += ["", "## Growth with the number of samples: the data pipeline", ""]
    if results.get("data"):
        lines += ["By `scripts/bench/data.sh`:", "", "```text", *results["data"], "```"]
    else:
        lines.append(results["failed"].get("data", "Not measured in this run."))
    lines += ["", "## Samples", ""]
    lines += table(["file", "conversations", "tokens", "supervised", "shortest", "median", "longest"], [
        [name, one["conversations"], one["tokens"], f"{one['supervised_tokens'] / one['tokens']:.0%}", one["shortest"],
         one["median"], one["longest"]] for name, one in results["samples"].items()])
    if results["failed"]:
        lines += ["", "## What failed", ""]
        for name, why in results["failed"].items():
            lines += [f"- `{name}`: {why.splitlines()[0]}"]
    lines += ["", "## Raw output", "", "Every run of every pair; the last column is what everything else on the machine "
              f"used meanwhile. A pair with more than {DISTURBED} was run again, twice at most.", *raw_pairs(results)]
    lines += ["", "```text", *ratio_lines(results, names), "```", ""]
    return "\n".join(lines)


def ratio_lines(results: dict, names: list[str]) -> list[str]:
    middle = medians(results)
    return [f"ratio {target.name} {middle[target.name]:.3f}" if target.name in middle else f"ratio {target.name} failed"
            for target in TARGETS if target.name in names]


HOW = [
    "- Model: SmolLM2-135M-Instruct, dequantised from its GGUF file (Q4_1) to float32, one folder read by both sides. "
    "LoRA of rank 16, alpha 32, on all seven linear modules; AdamW; float32; no dropout; no gradient checkpointing in "
    "the peer.",
    "- Greffon is the program itself, `greffon train` on a recipe; seconds and tokens of a step are those in the run "
    "folder's `metrics.jsonl`. The peer writes the same lines around forward, backward and update. The first step of "
    "each process is warm-up on both sides and left out.",
    "- Tokens are real ones, prompts included, padding not. Speed is the tokens of the timed steps over their seconds.",
    "- Peak memory is the process's largest resident set (`ru_maxrss`), mapped weights included, on both sides.",
    "- The runs of a pair follow each other, and their order turns round from pair to pair. `full` and `tuned` share "
    "Greffon's run between them, so do `grouped`, `longest` and `max`.",
    f"- The same work: where both sides have the same batches (`full`, `tuned`, `longest`, `max`, and the first of "
    f"`grouped`) their tokens must be equal and their first losses agree within {LOSS_TOLERANCE:g}; otherwise the "
    "comparison fails.",
    "- `full`: each row is one conversation, cut by both sides to exactly 512 tokens; no padding anywhere. "
    f"`tuned`: the peer with {TUNED_TEXT}.",
    "- `grouped`, `longest`, `max`: conversations whose lengths follow databricks-dolly-15k, 4 in a step; the peer "
    "batches by length, pads to the longest, or pads to 512; Greffon packs. `trl`: TRL packs into 4 rows of 512 with "
    "`bfd` and drops a last, smaller step; Greffon takes as many conversations a step as fit those rows.",
    "- `limit`: see Roofline. `memory`: the runs of `full`. `flat`: Greffon at 1 x 4096 over Greffon at 8 x 512.",
    f"- `generate`: greedy, base model, {NEW_TOKENS} tokens after the first; time of {NEW_TOKENS + 1} tokens less the "
    "time of 1, so that prompt and loading are left out. The prompts are such that no answer ends before; that is "
    "checked.",
    "- `start`: from the start of the process until the line of the first step is in `metrics.jsonl`; the step is one "
    "conversation of 64 tokens, the base is the float32 safetensors file, which is in the page cache.",
]


def save_raw(results: dict, path: Path) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
