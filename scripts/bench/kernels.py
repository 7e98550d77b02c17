#!/usr/bin/env python3
"""Turns what `cargo bench --bench kernels` measured into docs/kernels.md; kernels.sh starts both (about 5 minutes).

For each operator of trainer/src/kernels: milliseconds of the fused and of the reference implementation, forward alone
and forward with backward, at the shapes of SmolLM2-135M and 2048 tokens (the head: 512 supervised tokens). The products
are compared with `gemm`, the library that the reference multiplies with, on the plain product of the same shape.
"""

import argparse
import json
import sys
from pathlib import Path

import report

ROOT = Path(__file__).resolve().parents[2]
PASSES = ("forward", "forward and backward")


def milliseconds(folder: Path) -> float | None:
    """The median of a benchmark, if it was run."""
    path = folder / "new" / "estimates.json"
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))["median"]["point_estimate"] / 1e6


def cells(operator: Path, side: str) -> tuple[str, str, str]:
    """Fused and reference milliseconds of one pass, and how many times as fast the fused one is."""
    fused, reference = (milliseconds(operator / kernels / side if side else operator / kernels)
                        for kernels in ("Fused", "Reference"))
    if fused is None or reference is None:
        return "", "", ""
    return f"{fused:.2f}", f"{reference:.2f}", f"{reference / fused:.1f}"


def rows(criterion: Path) -> list[list[str]]:
    found = []
    for operator in sorted(path for path in criterion.iterdir() if (path / "Fused").is_dir()):
        # The optimizer has no backward pass, and so no passes to tell apart.
        sides = PASSES if (operator / "Fused" / PASSES[0]).is_dir() else ("", None)
        first, second = (cells(operator, side) if side is not None else ("", "", "") for side in sides)
        gemm, fused = milliseconds(operator / "gemm" / "the plain product"), milliseconds(operator / "Fused" / "forward")
        share = f"{gemm / fused:.0%}" if gemm and fused else ""
        bf16 = [milliseconds(operator / "Bf16" / side) for side in PASSES]
        found.append([operator.name, *first, *second, share, *("" if time is None else f"{time:.2f}" for time in bf16)])
    return found


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--criterion", type=Path, required=True, help="the folder where criterion left its figures")
    arguments.add_argument("--greffon", type=Path, required=True, help="the program, for its version")
    arguments.add_argument("--page", type=Path, default=ROOT / "docs/kernels.md", help="default: docs/kernels.md")
    options = arguments.parse_args()
    measured = rows(options.criterion)
    if not measured:
        print(f"kernels.py: {options.criterion} holds no figures; run cargo bench first", file=sys.stderr)
        return 2
    about = report.machine(Path(sys.executable), options.greffon, ROOT, 2)
    about = {key: about[key] for key in ("date", "processor", "system", "greffon")}
    lines = ["# The hot operators, one by one", "", "Written by `scripts/bench/kernels.sh`; do not edit.", "",
             *report.table(["", ""], [[key, value] for key, value in about.items()]), "",
             "Milliseconds (median of 10 samples) at the shapes of SmolLM2-135M and 2,048 tokens, the head's loss with "
             "512 supervised tokens. *Fused* is the run's default, *reference* the same in burn's ordinary operators "
             "(`kernels: reference`). *Of gemm's rate* is the rate of the plain product `x Wᵀ` that the fused operator "
             "reaches, by gemm's on the same shape: the fused operator makes the low-rank update in that time, too. *bf16* is "
             "the fused operator with its frozen products in bfloat16 (`kernels: bf16`).", "",
             *report.table(["operator", "forward: fused", "reference", "times", "with backward: fused", "reference",
                            "times", "of gemm's rate", "forward: bf16", "with backward: bf16"], measured), ""]
    options.page.write_text("\n".join(lines), encoding="utf-8")
    print(f"wrote {options.page}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
