"""Cuts the extracts of the forgetting suites (trainer/suites) out of a folder of benchmark files.

usage: python3 scripts/make_suites.py FOLDER      with FOLDER/en/*.jsonl and FOLDER/fr/*.jsonl

Where each file comes from, and under which licence, stands in trainer/suites/SOURCES.md. Items are taken at even
distances, so that a file sorted by subject gives some of each.
"""

import json
import sys
from pathlib import Path

SUITES = Path(__file__).resolve().parents[1] / "trainer" / "suites"
# File and how many of its items are kept.
KEPT = {
    "en/arc_challenge_test_500": 300,
    "en/arc_easy_test_500": 300,
    "en/blimp_670": 670,
    "en/boolq_val_400": 150,
    "en/commonsenseqa_dev_500": 300,
    "en/copa_val_100": 100,
    "en/gsm8k_test_300": 50,
    "en/hellaswag_val_500": 300,
    "en/ifeval_541": 100,
    "en/lambada_openai_500": 300,
    "en/mmlu_test_570": 285,
    "en/openbookqa_test_500": 300,
    "en/piqa_val_500": 300,
    "en/ppl_wikitext2_valtest": 109,
    "en/winogrande_500": 300,
    "en/wsc273_273": 273,
    "fr/agreement_pairs_gsd": 400,
    "fr/exams_fr_test_318": 200,
    "fr/frenchmedmcqa_test_single": 200,
    "fr/mgsm_fr_250": 50,
    "fr/ppl_service_public_150": 30,
    "fr/ppl_ud_gsd_500": 200,
    "fr/ppl_verne_100": 20,
    "fr/ppl_wikipedia_fr_piaf": 100,
    "fr/rte3_fr_test_800": 200,
    "fr/xwinograd_fr": 65,
}
# Keys that no score needs.
DROPPED = {"solution", "choice_texts", "field", "distance", "uid", "subject"}


def main() -> None:
    source = Path(sys.argv[1])
    for name, kept in KEPT.items():
        records = [json.loads(line) for line in (source / f"{name}.jsonl").read_text().split("\n") if line]
        count = min(kept, len(records))
        chosen = [records[i * len(records) // count] for i in range(count)]
        lines = [json.dumps({k: v for k, v in r.items() if k not in DROPPED}, ensure_ascii=False) for r in chosen]
        target = SUITES / name.split("/")[0] / f"{chosen[0]['task']}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("\n".join(lines) + "\n")
        print(f"{target.relative_to(SUITES)}: {count} of {len(records)}, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
