"""What the study compares, and where it keeps what it found."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "recipes" / "releve-information"
KEPT = FOLDER / "study"
TESTS = {
    "seen": "seen in kind",
    "unseen-layouts": "unseen layouts",
    "unseen-questions": "unseen questions",
    "human-questions": "questions by people",
}
SEEDS = (0, 1, 2)
SHOWN = 3
# What each way of training is called, and its recipe.
RECIPES = {"adapted": "train", "adapted without thrift": "full"}
# By name: the file that scripts/fetch_*.py brings, what the recipe is given on top, and the ways it is trained.
BASES = {
    "SmolLM2-135M": ("SmolLM2-135M-Instruct.Q4_1.gguf", [], list(RECIPES)),
    "Gemma 3 270M": ("gemma-3-270m-q4_k_m.gguf",
                     [f"data.chat_template={ROOT / 'recipes' / 'chat_templates' / 'gemma.jinja'}"], ["adapted"]),
}
RULES = "rules"
SEARCH = "search"


def adapted(base: str, recipe: str, seed: int) -> str:
    return f"{base}, {recipe}, seed {seed}"


def prompted(base: str, shown: int) -> str:
    return f"{base}, {shown} shown"


def slug(name: str) -> str:
    return name.lower().replace(", ", "-").replace(" ", "-")


def answers_of(name: str) -> Path:
    return KEPT / f"{slug(name)}.jsonl"


def figures_of(name: str) -> Path:
    return KEPT / f"{slug(name)}.json"
