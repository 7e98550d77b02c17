"""Finds near-duplicates with Greffon and with datasketch, in one run.

Quality: 5,000 texts are cut out of the documents given (JSON Lines with a `text`, or SQuAD records with a `context`); half
of them are edits of the other half, with a random share of the words changed, so that pairs lie on both sides of the
threshold. Every pair is compared by the definition of Jaccard similarity over shingles of three words; the pairs that a
program reports are held against that.

Speed: short texts of 12 to 30 words in a JSON Lines file, one in ten of them a slight edit of an earlier one; from the file
to a file without near-duplicates. Greffon runs `greffon data dedup` with all cores and with one. The peer reads the same
file in one process, makes `MinHash(num_perm=128)` with `update_batch`, asks `MinHashLSH(threshold, num_perm=128)` and
inserts what is new: the use that its documentation shows. It runs on --peer-texts of the texts, Greffon on as many and on
all. Prints a table and, as its last line, `ratio dedup X.XX`: the peer's seconds over Greffon's with one core, at the
same number of texts.
"""

import argparse
import json
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

SEED = 20261122
WORD = re.compile(r"[^\W_]+")
PERMUTATIONS = 128
# What changes an allocator or a thread pool: neither side may inherit it by accident.
FOREIGN = ("MALLOC_", "OMP_", "RAYON_", "LD_PRELOAD", "GREFFON_CACHE")


def shingles(text: str) -> set[str]:
    words = WORD.findall(text.lower())
    if 0 < len(words) < 3:
        return {" ".join(words)}
    return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}


def documents(paths: list[Path]) -> list[list[str]]:
    """The words of each different text in the files."""
    texts = {}
    for path in paths:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                record = json.loads(line)
                text = record.get("text") or record.get("context")
                if text:
                    texts[text] = None
    return [text.split() for text in texts]


def write(path: Path, texts: list[str]) -> None:
    with path.open("w", encoding="utf-8") as out:
        for number, text in enumerate(texts):
            out.write(json.dumps({"id": number, "text": text}, ensure_ascii=False) + "\n")


def edited(sources: list[list[str]], count: int) -> list[str]:
    """Texts of which each second one is an edit of the one before; no two have the same shingles."""
    draw = random.Random(SEED)
    words = [word for source in sources for word in source]
    texts, seen = [], set()

    def add(tokens: list[str]) -> None:
        text = " ".join(tokens)
        key = frozenset(shingles(text))
        if key and key not in seen and len(texts) < count:
            seen.add(key)
            texts.append(text)

    while len(texts) < count:
        source = draw.choice(sources)
        length = draw.randint(30, 200)
        start = draw.randrange(max(1, len(source) - length))
        tokens = source[start : start + length]
        if len(tokens) < 20:
            continue
        add(tokens)
        copy = list(tokens)
        for _ in range(draw.randint(1, max(1, len(copy) // 8))):
            at = draw.randrange(len(copy))
            match draw.randrange(3):
                case 0:
                    copy[at] = draw.choice(words)
                case 1:
                    copy.insert(at, draw.choice(words))
                case _:
                    if len(copy) > 5:
                        del copy[at]
        add(copy)
    return texts


def short(sources: list[list[str]], count: int) -> list[str]:
    draw = random.Random(SEED + 1)
    words = [word for source in sources for word in source]
    texts = []
    while len(texts) < count:
        if texts and draw.random() < 0.1:
            tokens = draw.choice(texts).split()
            if draw.random() < 0.5:
                tokens[draw.choice((0, -1))] = draw.choice(words)
            else:
                tokens[0] = tokens[0].upper() + " !"
        else:
            start = draw.randrange(len(words) - 30)
            tokens = words[start : start + draw.randint(12, 30)]
            tokens = [draw.choice(words) if draw.random() < 0.3 else token for token in tokens]
        texts.append(" ".join(tokens))
    return texts


def exact_pairs(texts: list[str], threshold: float) -> set[tuple[int, int]]:
    """All pairs at or above the threshold, by counting what each two texts share."""
    sets = [shingles(text) for text in texts]
    having = defaultdict(list)
    pairs = set()
    for number, own in enumerate(sets):
        shared = Counter(other for shingle in own for other in having[shingle])
        for other, both in shared.items():
            if both / (len(own) + len(sets[other]) - both) >= threshold:
                pairs.add((other, number))
        for shingle in own:
            having[shingle].append(number)
    return pairs


def peak_megabytes(process: int) -> float:
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def run(command: list[str], cores: int) -> tuple[dict, float, float]:
    """Runs a command; the JSON that it printed, its seconds, and its peak in megabytes."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    with tempfile.TemporaryFile() as out:
        started = time.monotonic()
        child = os.posix_spawnp(command[0], command, variables | {"RAYON_NUM_THREADS": str(cores)},
                                file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
        os.sched_setaffinity(child, sorted(os.sched_getaffinity(0))[:cores])
        peak = 0.0
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
            # Not `ru_maxrss`: of a spawned process it begins with the memory of the one that spawned it.
            peak = max(peak, peak_megabytes(child))
            time.sleep(0.02)
        status, seconds = done[1], time.monotonic() - started
        if status != 0:
            sys.exit(f"dedup.py: {' '.join(command)} failed with {os.waitstatus_to_exitcode(status)}")
        out.seek(0)
        return json.loads(out.read()), seconds, peak


def peer(arguments: list[str]) -> None:
    """The peer's side: a file, a threshold, and where pairs or kept records go."""
    import numpy  # noqa: F401 - its import is not counted on either side
    from datasketch import MinHash, MinHashLSH

    source, threshold, what, target = arguments
    started = time.monotonic()
    lsh = MinHashLSH(threshold=float(threshold), num_perm=PERMUTATIONS)
    sketches, pairs, kept = {}, [], 0
    with open(source, encoding="utf-8") as lines, open(target, "w", encoding="utf-8") as out:
        for number, line in enumerate(lines):
            own = MinHash(num_perm=PERMUTATIONS)
            own.update_batch([shingle.encode() for shingle in shingles(json.loads(line)["text"])])
            found = lsh.query(own)
            if what == "pairs":
                sketches[number] = own
                pairs += [(other, number, own.jaccard(sketches[other])) for other in found]
                lsh.insert(number, own)
            elif not found:
                lsh.insert(number, own)
                out.write(line)
                kept += 1
        if what == "pairs":
            out.writelines(json.dumps(pair) + "\n" for pair in pairs)
    print(json.dumps({"kept": kept, "seconds": time.monotonic() - started}))


def quality(name: str, found: set[tuple[int, int]], expected: set[tuple[int, int]]) -> str:
    both = len(found & expected)
    recall, precision = both / max(1, len(expected)), both / max(1, len(found))
    return f"| {name} | {len(found)} | {recall:.4f} | {precision:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="JSON Lines with a `text` or a `context`")
    parser.add_argument("--greffon", required=True, help="the program; dedup.sh builds it")
    parser.add_argument("--python", required=True, help="a Python with datasketch; dedup.sh makes it")
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--quality-texts", type=int, default=5000)
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--peer-texts", type=int, default=100_000)
    args = parser.parse_args()
    sources = documents(args.files)
    cores = len(os.sched_getaffinity(0))
    threshold = str(args.threshold)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        texts = edited(sources, args.quality_texts)
        expected = exact_pairs(texts, args.threshold)
        near = len(exact_pairs(texts, max(0.05, args.threshold - 0.2)) - expected)
        source, pairs = folder / "quality.jsonl", folder / "pairs.jsonl"
        write(source, texts)
        print(f"{len(texts)} texts, {len(expected)} pairs at or above {threshold}, {near} up to 0.2 below\n")
        print("| | pairs | recall | precision |\n|---|---|---|---|")
        run([args.greffon, "data", "dedup", str(source), "--threshold", threshold, "--pairs", str(pairs), "--json"], cores)
        line = lambda place: int(place.rsplit(":", 1)[1]) - 1
        records = [json.loads(text) for text in pairs.read_text(encoding="utf-8").splitlines()]
        found = {(line(pair["first"]), line(pair["second"])) for pair in records}
        print(quality("Greffon", found, expected))
        run([args.python, __file__, "--peer", str(source), threshold, "pairs", str(pairs)], 1)
        records = [json.loads(text) for text in pairs.read_text(encoding="utf-8").splitlines()]
        print(quality("datasketch, as its index answers", {(a, b) for a, b, _ in records}, expected))
        print(quality("datasketch, answers checked on the signatures",
                      {(a, b) for a, b, likeness in records if likeness >= args.threshold}, expected))

        texts = short(sources, args.texts)
        whole, part, kept = folder / "whole.jsonl", folder / "part.jsonl", folder / "kept.jsonl"
        write(whole, texts)
        write(part, texts[: args.peer_texts])
        del texts
        print("\n| | texts | cores | seconds | texts/s | peak MB | kept |\n|---|---|---|---|---|---|---|")
        taken = {}

        def row(name: str, source: Path, count: int, used: int, command: list[str]) -> None:
            kept.unlink(missing_ok=True)
            report, seconds, peak = run(command, used)
            taken[name, count, used] = seconds
            print(f"| {name} | {count:,} | {used} | {seconds:.1f} | {count / seconds:,.0f} | {peak:,.0f} | "
                  f"{report['kept']:,} |", flush=True)

        def ours(source: Path, count: int, used: int) -> None:
            row("Greffon", source, count, used, [args.greffon, "data", "dedup", str(source), "--threshold", threshold,
                                                 "--to", str(kept), "--json"])

        ours(part, args.peer_texts, 1)
        row("datasketch", part, args.peer_texts, 1, [args.python, __file__, "--peer", str(part), threshold, "kept", str(kept)])
        for used in sorted({1, cores}):
            ours(whole, args.texts, used)
        ratio = taken["datasketch", args.peer_texts, 1] / taken["Greffon", args.peer_texts, 1]
        print(f"\nratio dedup {ratio:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peer"]:
        peer(sys.argv[2:])
    else:
        main()
