"""The names that are compared, what is wanted of each, and how long the comparison is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A figure and its goal. Where less is better the figure must not exceed it."""

    name: str
    meaning: str
    at_least: float
    aim: float | None
    less_is_better: bool = False

    def reached(self, value: float) -> bool:
        return value <= self.at_least if self.less_is_better else value >= self.at_least


TARGETS = [
    Target("full", "tokens/s over PEFT's, 4 full rows of 512", 1.5, 2.0),
    Target("tuned", "the same, over PEFT with its allocator tuned", 1.2, 1.5),
    Target("grouped", "tokens/s over PEFT's grouped by length, same samples", 1.5, 2.0),
    Target("longest", "tokens/s over PEFT's padded to the longest of the batch, same samples", 2.2, 3.0),
    Target("max", "tokens/s over PEFT's padded to 512, same samples", 6.0, 9.0),
    Target("trl", "tokens/s over TRL's packing (bfd), same samples", 3.0, 4.0),
    Target("limit", "share of the matrix-product limit, 4 full rows of 512", 0.65, 0.85),
    Target("memory", "peak memory over PEFT's, 4 full rows of 512 (less is better)", 1 / 3, 1 / 6, True),
    Target("flat", "peak memory at 1 x 4096 over that at 8 x 512 (less is better)", 1.15, None, True),
    Target("generate", "greedy tokens/s with a cache over transformers', the smaller of batch 1 and 8", 1.5, 3.0),
    Target("start", "seconds from the start of the process to the end of a first, short step (less is better)",
           2.0, None, True),
]
NAMES = [target.name for target in TARGETS]
GROWTH = ["lengths", "ranks", "data"]
"""What is measured of Greffon alone, for the page."""


@dataclass(frozen=True)
class Effort:
    """How much is run: pairs of each kind, timed steps after the warm-up, conversations."""

    full_pairs: int
    full_steps: int
    mixed_pairs: int
    mixed_conversations: int
    trl_pairs: int
    trl_conversations: int
    flat_pairs: int
    small_pairs: int
    """Of generate and start."""
    growth_steps: int
    lengths: tuple[int, ...]
    """Tokens of a sequence; each divides TOKENS_A_STEP."""
    ranks: tuple[int, ...]


WHOLE = Effort(full_pairs=5, full_steps=4, mixed_pairs=5, mixed_conversations=68, trl_pairs=5, trl_conversations=60,
               flat_pairs=5, small_pairs=5, growth_steps=2, lengths=(256, 512, 1024, 2048, 4096),
               ranks=(4, 8, 16, 32, 64, 128))
FAST = Effort(full_pairs=2, full_steps=2, mixed_pairs=1, mixed_conversations=20, trl_pairs=1, trl_conversations=32,
              flat_pairs=1, small_pairs=2, growth_steps=1, lengths=(256, 512, 1024, 4096), ranks=(4, 16, 128))

# As the peer's users tune glibc: freed memory stays in the process instead of being given back every step.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "68719476736", "MALLOC_TOP_PAD_": "67108864",
         "OMP_WAIT_POLICY": "PASSIVE"}
TUNED_TEXT = " ".join(f"`{name}={value}`" for name, value in TUNED.items())

TOKENS_A_STEP = 4096
FLAT = (512, 4096)
NEW_TOKENS = 64
LOSS_TOLERANCE = 1e-3
DISTURBED = 0.15
"""Cores used by others above which a pair is run again."""
RERUNS = 2
