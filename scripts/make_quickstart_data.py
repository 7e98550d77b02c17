#!/usr/bin/env python3
"""Choose the quick start's questions from PIAF, a French question-answering set made by people.

The source folder holds piaf_fr_train.squad.jsonl and piaf_fr_test.squad.jsonl: one object a line with id, title,
context, question and answers [{text, answer_start}], offsets in code points. Train and validation come from the
former, test from the latter; no article is in two files. A paragraph of PIAF has 500 characters or more, too long to
train on in a few minutes, so each context is cut to whole sentences around the answer, the answer's own sentence at
a random place among them. Everything else is left as its authors wrote it. The choice is seeded.

    python3 scripts/make_quickstart_data.py SOURCE --tokenizer MODEL/tokenizer.json
"""

import argparse
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path

# file: source, number of questions, and share of the source's articles (from, to) in a seeded order.
FILES = {
    "train": ("piaf_fr_train.squad.jsonl", 600, (0.0, 0.85)),
    "validation": ("piaf_fr_train.squad.jsonl", 60, (0.85, 1.0)),
    "test": ("piaf_fr_test.squad.jsonl", 150, (0.0, 1.0)),
}
SEED = 2026
CONTEXT_CHARS = (120, 260)
MAX_QUESTION_CHARS = 110
MAX_ANSWER_CHARS = 60
MAX_PER_PARAGRAPH = 2

# The end of a sentence: a full stop, question or exclamation mark, not after an initial or a usual abbreviation.
SENTENCE_END = re.compile(r"(?<!\b[A-Z]\.)(?<!\bMM\.)(?<!\bMme\.)(?<!\bDr\.)(?<!\bSt\.)(?<!\bav\.)(?<!\bapr\.)(?<!\bch\.)"
                          r"(?<!\bp\.)(?<!\bcf\.)(?<!\bn°\.)(?<=[.!?…])\s+(?=[«\"(]?\s?[A-ZÀ-ÖØ-Þ0-9])")

# "ItalieAmanda": where the source lost a footnote between two words.
GLUED_WORDS = re.compile(r"[a-zà-ÿ][A-ZÀ-ÖØ-Þ][a-zà-ÿ]")

SYSTEM = "Réponds par un extrait exact du texte."
PROMPT = "{context}\n\nQuestion : {question}"


def read(path: Path) -> list[dict]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        sys.exit(f"make_quickstart_data.py: {path}: {error}")
    for row in rows:
        row["title"] = re.sub(r"<[^>]+>", "", row["title"])  # some carry HTML tags for italics
        answer = row["answers"][0]
        found = row["context"][answer["answer_start"]:][:len(answer["text"])]
        if found != answer["text"]:
            sys.exit(f"make_quickstart_data.py: {path}: {row['id']}: the offset points at {found!r}, not {answer['text']!r}")
    return rows


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of each sentence, without the white space between them."""
    breaks = [match.span() for match in SENTENCE_END.finditer(text)]
    starts = [len(text) - len(text.lstrip())] + [end for _, end in breaks]
    ends = [start for start, _ in breaks] + [len(text.rstrip())]
    return list(zip(starts, ends))


def shorten(row: dict, chance: random.Random) -> dict | None:
    """The question with as many whole sentences around its answer as fit, or nothing when the answer's do not fit."""
    context, answer = row["context"], row["answers"][0]
    answer_end = answer["answer_start"] + len(answer["text"])
    spans = sentences(context)
    first = max(index for index, (start, _) in enumerate(spans) if start <= answer["answer_start"])
    last = min(index for index, (_, end) in enumerate(spans) if end >= answer_end)
    fits = lambda low, high: spans[high][1] - spans[low][0] <= CONTEXT_CHARS[1]
    if last < first or not fits(first, last):
        return None
    grown = True
    while grown:
        grown = False
        for side in chance.sample(["before", "after"], 2):
            low, high = (first - 1, last) if side == "before" else (first, last + 1)
            if not grown and low >= 0 and high < len(spans) and fits(low, high):
                first, last, grown = low, high, True
    start, end = spans[first][0], spans[last][1]
    if end - start < CONTEXT_CHARS[0]:
        return None
    short = context[start:end]
    # Every place of the same words would be as good, but the offset keeps pointing at the one that was marked.
    offset = answer["answer_start"] - start
    assert short[offset:offset + len(answer["text"])] == answer["text"]
    return {"id": row["id"], "title": row["title"], "context": short, "question": row["question"].strip(),
            "answers": [{"text": answer["text"], "answer_start": offset}]}


def wanted(row: dict) -> bool:
    """Questions and answers of an ordinary length, the answer whole words, none of them two run together."""
    answer, start = row["answers"][0]["text"], row["answers"][0]["answer_start"]
    around = row["context"][max(start - 1, 0):start] + " " + row["context"][start + len(answer):][:1]
    if any(character.isalnum() for character in around) or GLUED_WORDS.search(answer):
        return False
    return (len(row["question"]) <= MAX_QUESTION_CHARS and len(answer) <= MAX_ANSWER_CHARS and answer == answer.strip()
            and row["question"].strip().endswith("?") and "\n" not in row["context"])


def choose(rows: list[dict], count: int, titles: set[str], chance: random.Random) -> list[dict]:
    """Questions in a random order, at most two of a paragraph, spread evenly over the articles."""
    per_paragraph, per_title, chosen, seen = Counter(), Counter(), [], set()
    candidates = [row for row in rows if row["title"] in titles and wanted(row)]
    chance.shuffle(candidates)
    limit = 0
    while len(chosen) < count:
        limit += 1
        if limit > len(candidates):
            sys.exit(f"make_quickstart_data.py: only {len(chosen)} questions fit, expected {count}")
        for row in candidates:
            key = (row["question"], row["context"])
            if len(chosen) == count or key in seen or per_title[row["title"]] >= limit:
                continue
            if per_paragraph[row["context"]] >= MAX_PER_PARAGRAPH:
                continue
            short = shorten(row, random.Random(f"{SEED} {row['id']}"))
            if short:
                seen.add(key)
                per_paragraph[row["context"]] += 1
                per_title[row["title"]] += 1
                chosen.append(short)
    chance.shuffle(chosen)
    return chosen


def report(name: str, rows: list[dict], tokenizer) -> None:
    """Tokens of a whole example under SmolLM2's ChatML, the answer and its terminator included."""
    line = f"{name}: {len(rows)} questions, {len({row['title'] for row in rows})} articles"
    if tokenizer:
        texts = [(f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
                  f"{PROMPT.format(context=row['context'], question=row['question'])}<|im_end|>\n<|im_start|>assistant\n",
                  f"{row['answers'][0]['text']}<|im_end|>") for row in rows]
        whole = [len(tokenizer.encode(prompt + answer + "\n").ids) for prompt, answer in texts]
        supervised = [len(tokenizer.encode(answer).ids) for _, answer in texts]
        line += (f", tokens an example mean {sum(whole) / len(whole):.0f} max {max(whole)} total {sum(whole)}, "
                 f"supervised mean {sum(supervised) / len(supervised):.1f} max {max(supervised)}")
    print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with the two PIAF files")
    parser.add_argument("--out", type=Path, default=Path("recipes/quickstart/data"), help="folder to write (default: %(default)s)")
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json, to count tokens (needs the package tokenizers)")
    arguments = parser.parse_args()
    tokenizer = None
    if arguments.tokenizer:
        from tokenizers import Tokenizer
        tokenizer = Tokenizer.from_file(str(arguments.tokenizer))
    arguments.out.mkdir(parents=True, exist_ok=True)
    taken: dict[str, str] = {}  # the file that an article, or a context, is in
    for name, (source, count, (low, high)) in FILES.items():
        rows = read(arguments.source / source)
        titles = sorted({row["title"] for row in rows})
        random.Random(SEED).shuffle(titles)
        titles = set(titles[round(low * len(titles)):round(high * len(titles))])
        chosen = choose(rows, count, titles, random.Random(f"{SEED} {name}"))
        for row in chosen:
            for key in (row["title"], row["context"]):
                owner = taken.setdefault(key, name)
                assert owner == name, f"{key} is in {owner} and in {name}"
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in chosen)
        (arguments.out / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        report(name, chosen, tokenizer)


if __name__ == "__main__":
    main()
