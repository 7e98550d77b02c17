"""The pairs: which runs belong together, and which ratios follow from them."""

import json
import sys

import targets
from child import Failed
from sides import Sides

FULL, MIXED, TRL = ("full", "tuned", "limit", "memory"), ("grouped", "longest", "max"), ("trl",)


def show(pair: int, run: dict) -> None:
    name = "greffon" if run["side"] == "greffon" else run["side"]
    print(f"  pair {pair}  {name:8} {run['tokens_per_second']:8.1f} tokens/s  {run['peak_bytes'] / 2**30:5.2f} GiB"
          f"  first loss {run['first_loss']:.6f}  others {run['others']:.2f} cores", flush=True)


class Works:
    """Runs what the names need and collects the raw pairs in `results`."""

    def __init__(self, sides: Sides, names: list[str], effort: targets.Effort, may_rerun: bool):
        self.sides, self.names, self.effort, self.may_rerun = sides, names, effort, may_rerun
        self.results: dict = {"ratios": {}, "pairs": {}, "failed": {}, "samples": {}}

    def plan(self) -> list:
        """The sample files that the names need: name, kind, conversations, tokens of a row."""
        effort, plan = self.effort, []
        if set(FULL) & set(self.names):
            plan.append(["full", "filled", 4 * (1 + effort.full_steps), 512])
        if set(MIXED) & set(self.names):
            plan.append(["mixed", "mixed", effort.mixed_conversations, 512])
        if "trl" in self.names:
            plan.append(["trl", "mixed", effort.trl_conversations, 512])
        if {"flat", "lengths"} & set(self.names):
            wanted = set(targets.FLAT if "flat" in self.names else ()) | set(
                effort.lengths if "lengths" in self.names else ())
            for length in sorted(wanted):
                count = targets.TOKENS_A_STEP // length * (1 + effort.growth_steps)
                plan.append([f"length-{length}", "filled", count, length])
        if "ranks" in self.names:
            plan.append(["rank", "filled", 4 * (1 + effort.growth_steps), 512])
        plan.append(["short", "filled", 1, 64])
        return plan

    def run(self, save) -> None:
        print("making the samples", flush=True)
        self.results["samples"] = self.sides.samples(self.plan())
        parts = [(FULL, self.full), (MIXED, self.mixed), (TRL, self.trl), (("flat",), self.flat),
                 (("generate",), self.generate), (("start",), self.start), (("lengths",), self.lengths),
                 (("ranks",), self.ranks)]
        for names, part in parts:
            wanted = [name for name in names if name in self.names]
            if not wanted:
                continue
            print(f"\n== {', '.join(wanted)}", flush=True)
            try:
                part()
            except (Failed, OSError, KeyError, ValueError, IndexError) as error:
                # One work that fails must not take the hour of the others with it.
                message = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
                print(f"  failed: {message}", file=sys.stderr, flush=True)
                for name in wanted:
                    self.results["failed"].setdefault(name, message)
            save(self.results)

    def pairs(self, key: str, count: int, runs: dict) -> list[dict]:
        """Runs `count` pairs, the order of their runs turned round each time; disturbed pairs again."""
        done = self.results["pairs"].setdefault(key, [])
        for pair in range(1, count + 1):
            names = list(runs) if pair % 2 else list(reversed(runs))
            best = None
            for attempt in range(1 + (targets.RERUNS if self.may_rerun else 0)):
                results = {}
                for name in names:
                    results[name] = runs[name]()
                    if "tokens_per_second" in results[name] and "first_loss" in results[name]:
                        show(pair, results[name])
                disturbed = max(result["others"] for result in results.values())
                if best is None or disturbed < best[0]:
                    best = (disturbed, results)
                if disturbed <= targets.DISTURBED:
                    break
                print(f"  pair {pair}  disturbed: others used {disturbed:.2f} cores", flush=True)
            done.append(best[1])
        return done

    def ratio(self, name: str, values: list[float]) -> None:
        if name in self.names:
            self.results["ratios"][name] = values

    def check_same_work(self, key: str, sides: list[str], every_step: bool) -> None:
        """The first loss, before any update, and the tokens must agree where both sides had the same batches."""
        for number, pair in enumerate(self.results["pairs"][key], 1):
            ours = pair["greffon"]
            for side in (side for side in sides if side in pair):
                theirs = pair[side]
                steps = slice(None) if every_step else slice(1)
                if ours["step_tokens"][steps] != theirs["step_tokens"][steps]:
                    raise Failed(f"pair {number}: the steps of greffon and {side} have different tokens: "
                                 f"{ours['step_tokens']} and {theirs['step_tokens']}")
                if sum(ours["step_tokens"]) != sum(theirs["step_tokens"]):
                    raise Failed(f"pair {number}: greffon and {side} saw different samples")
                gap = abs(ours["first_loss"] - theirs["first_loss"])
                if gap > targets.LOSS_TOLERANCE:
                    raise Failed(f"pair {number}: the first loss is {ours['first_loss']:.6f} with greffon and "
                                 f"{theirs['first_loss']:.6f} with {side}: not the same work")

    def full(self) -> None:
        sides, steps = self.sides, 1 + self.effort.full_steps
        runs = {}
        if {"full", "memory"} & set(self.names):
            runs["full"] = lambda: sides.peft("full", "full")
        runs["greffon"] = lambda: sides.greffon_train("full", steps, 4, 4, 512)
        if "tuned" in self.names:
            runs["tuned"] = lambda: sides.peft("full", "full", tuned=True)
        if "limit" in self.names:
            runs["matmul"] = sides.matmul
        pairs = self.pairs("full", self.effort.full_pairs, runs)
        self.check_same_work("full", ["full", "tuned"], every_step=True)
        for name in ("full", "tuned"):
            if name in runs:
                self.ratio(name, speed_ratios(pairs, name))
        if "memory" in self.names:
            self.ratio("memory", [pair["greffon"]["peak_bytes"] / pair["full"]["peak_bytes"] for pair in pairs])
        if "limit" in self.names:
            flop = flop_per_token(self.sides.model / "config.json")
            shares = []
            for pair in pairs:
                ours, rate = pair["greffon"], pair["matmul"]["rate"] * 1e9
                needed = flop["blocks"] + flop["head"] * ours["supervised_share"]
                pair["limit"] = {"tokens_per_second": rate / needed,
                                 "tokens_per_second_whole_head": rate / (flop["blocks"] + flop["head"]),
                                 "share": ours["tokens_per_second"] * needed / rate, "others": 0.0}
                shares.append(pair["limit"]["share"])
            self.ratio("limit", shares)

    def mixed(self) -> None:
        sides, steps = self.sides, self.effort.mixed_conversations // 4
        runs = {}
        if "grouped" in self.names:
            runs["grouped"] = lambda: sides.peft("grouped", "mixed")
        if "longest" in self.names:
            runs["longest"] = lambda: sides.peft("longest", "mixed")
        runs["greffon"] = lambda: sides.greffon_train("mixed", steps, 4, 4, 512)
        if "max" in self.names:
            runs["max"] = lambda: sides.peft("max", "mixed")
        pairs = self.pairs("mixed", self.effort.mixed_pairs, runs)
        self.check_same_work("mixed", ["longest", "max"], every_step=True)
        self.check_same_work("mixed", ["grouped"], every_step=False)
        for name in MIXED:
            if name in runs:
                self.ratio(name, speed_ratios(pairs, name))

    def trl(self) -> None:
        sides, count = self.sides, self.effort.trl_conversations
        # As many conversations a step as TRL packs into its 4 rows of 512.
        mean = self.results["samples"]["trl"]["tokens"] / count
        batch = max(1, int(4 * 512 / mean))
        if count < 2 * batch:
            raise Failed(f"{count} conversations are too few for two steps of {batch}")
        pairs = self.pairs("trl", self.effort.trl_pairs, {
            "trl": lambda: sides.trl("trl"),
            "greffon": lambda: sides.greffon_train("trl", count // batch, batch, 4, 512),
        })
        self.ratio("trl", speed_ratios(pairs, "trl"))

    def flat(self) -> None:
        short, long = targets.FLAT
        pairs = self.pairs("flat", self.effort.flat_pairs, {
            str(length): lambda length=length: self.one_length(length) for length in (short, long)})
        self.ratio("flat", [pair[str(long)]["peak_bytes"] / pair[str(short)]["peak_bytes"] for pair in pairs])

    def one_length(self, length: int) -> dict:
        """The same tokens a step, in sequences of one length, all of them in one micro-batch."""
        rows = targets.TOKENS_A_STEP // length
        return self.sides.greffon_train(f"length-{length}", 1 + self.effort.growth_steps, rows, rows, length)

    def generate(self) -> None:
        def ours():
            measured, others = {}, 0.0
            for batch in (1, 8):
                try:
                    measured[str(batch)] = self.sides.greffon_generate(targets.NEW_TOKENS, batch)
                    others = max(others, measured[str(batch)]["others"])
                except Failed as error:
                    if batch == 1:
                        raise
                    self.results["failed"]["generate"] = str(error)
            return {"others": others, "batches": measured}

        runs = {"transformers": lambda: self.sides.peer_generate(targets.NEW_TOKENS), "greffon": ours}
        pairs = self.pairs("generate", self.effort.small_pairs, runs)
        for number, pair in enumerate(pairs, 1):
            pair["by_batch"] = {}
            for batch, ours in pair["greffon"]["batches"].items():
                theirs = pair["transformers"]["batches"][batch]
                pair["by_batch"][batch] = ours["tokens_per_second"] / theirs["tokens_per_second"]
                print(f"  pair {number}  batch {batch}: greffon {ours['tokens_per_second']:.1f} tokens/s, transformers "
                      f"{theirs['tokens_per_second']:.1f}, same text: {ours['text'] == theirs['text']}", flush=True)
        if "generate" not in self.results["failed"]:
            self.ratio("generate", [min(pair["by_batch"].values()) for pair in pairs])

    def start(self) -> None:
        pairs = self.pairs("start", self.effort.small_pairs, {
            "greffon": lambda: self.sides.greffon_train("short", 1, 1, 1, 64, watch=True)})
        if any(pair["greffon"]["first_step_done"] is None for pair in pairs):
            raise Failed("the first step's metrics were not seen before the process ended")
        for number, pair in enumerate(pairs, 1):
            run = pair["greffon"]
            print(f"  pair {number}  first step done after {run['first_step_done']:.2f} s, of it in the step "
                  f"{run['step_seconds'][0]:.2f} s", flush=True)
        self.ratio("start", [pair["greffon"]["first_step_done"] for pair in pairs])

    def lengths(self) -> None:
        # The first pair of `flat` is the same work.
        measured = self.results["pairs"].get("flat") or [{}]
        self.growth("lengths", {length: (lambda length=length: measured[0].get(str(length)) or self.one_length(length))
                                for length in self.effort.lengths})

    def ranks(self) -> None:
        self.growth("ranks", {rank: lambda rank=rank: self.sides.greffon_train(
            "rank", 1 + self.effort.growth_steps, 4, 4, 512, rank=rank) for rank in self.effort.ranks})

    def growth(self, key: str, runs: dict) -> None:
        """One run for each value; one that fails leaves the others standing."""
        self.results["pairs"][key] = [{}]
        for value, run in runs.items():
            try:
                result = run()
            except Failed as error:
                self.results["failed"][f"{key} {value}"] = str(error)
                print(f"  {key} {value} failed: {error}", file=sys.stderr, flush=True)
                continue
            self.results["pairs"][key][0][str(value)] = result
            print(f"  {key} {value:5}  {result['tokens_per_second']:8.1f} tokens/s  "
                  f"{result['peak_bytes'] / 2**30:5.2f} GiB  others {result['others']:.2f} cores", flush=True)


def speed_ratios(pairs: list[dict], side: str) -> list[float]:
    return [pair["greffon"]["tokens_per_second"] / pair[side]["tokens_per_second"] for pair in pairs]


def flop_per_token(config_path) -> dict:
    """FLOP of the frozen matrices for one token of training: forward and the gradient of the input, 4 a weight."""
    config = json.loads(config_path.read_text(encoding="utf-8"))
    hidden, intermediate = config["hidden_size"], config["intermediate_size"]
    head = config.get("head_dim") or hidden // config["num_attention_heads"]
    attention = 2 * hidden * head * (config["num_attention_heads"] + config["num_key_value_heads"])
    block = attention + 3 * hidden * intermediate
    return {"blocks": 4 * config["num_hidden_layers"] * block, "head": 4 * hidden * config["vocab_size"]}
