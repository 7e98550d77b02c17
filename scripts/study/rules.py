"""Answers questions about car-insurance statements by regular expressions, as a rival of the trained adapters.

Reads only the text of each question's message, the document and the question, and prints one JSON line per question, in
order: {"answer": ...}. The labels, the shapes of values and the words of questions were written from
recipes/releve-information/data/train.jsonl, with their plain synonyms; what it never asks is answered as absent.

Whatever the layout, a document becomes lines of labels and values: lines that a scan has joined are broken again at the
labels, and a row of column heads above a row of values becomes one line for each column. Labels are searched in a text
without accents and blanks where the letters that a scan confuses are one, so that "Perrni s n°" reads as "permis n".
"""

import functools
import json
import re
import sys
import unicodedata
from difflib import get_close_matches
from pathlib import Path

ABSENT = "Information absente du document"
# The letters that a scan confuses.
CONFUSED = str.maketrans("01i58", "ollsb")
# The labels by kind, as expressions where blanks do not count. The kinds that no field names only end a value.
LABELS = {
    "driver": r"(souscripteur et)? (conduct(eur|rice)|cond) (principale? | habituel(le)? | designee? | nommee?)"
              r"|(qui)? conduit (le plus souvent | principalement | habituellement)",
    "driver part": r"conduct(eur|rice) | cond",
    "other": r"(conduct(eur|rice)|cond|permis) (secondaire | adjointe? | supplementaire | occasionnel(le)?)"
             r"|(autre | seconde? | deuxieme) conduct(eur|rice) | conduit aussi",
    "birth": r"(date de|dt)? naiss(ance)? | nee? e? le",
    "licence": r"n (de)? permis (de conduire)? | permis (de conduire)? (numero | num | n)?",
    "licence date": r"(delivre | obtenue?) le | permis b? (du | date) | date (de | du)? permis"
                    r"|(date (de | d)?)? (delivrance | obtention) (du permis)?",
    "vehicle": r"marque (et? modele)? | modele | (vehicule | voiture | automobile) (assuree?)?",
    "plate": r"immat(riculation | riculee?)? | plaque",
    "vin": r"(numero | num | n)? (de | d)? (serie | chassis | identification | vin) (vin)?",
    "usage": r"usage (suivant | declare | du vehicule)? | utilisation (declaree)? | emploi",
    "contract": r"(numero | num | n | reference | ref) (de | du)? (contrat | police)|(contrat | police) n (de contrat)?"
                r"|police | reference",
    "contract part": r"contrat",
    "effect": r"(date | dt)? (de | d)? (prise)? d? (effet | souscription) | (pris | prend) effet le | souscrite? le"
              r"|(garantie | assuree? (chez nous)?) depuis (le)?",
    "crm": r"(coefficient (de)?)? (code crm | crm | bonus /? malus) | coefficient (de reduction majoration (crm)?)?",
    "current crm": r"(coefficient | crm | bonus malus) (actuel | en vigueur)",
    "claims": r"(nombre | nb | total) (de | des)? sinistres? | nombre | sinistres? (enregistres | declares)?"
              r"|sinistralite | date [|\t;]? (sinistre | nature)",
    "edition": r"(date d | dt)? edition | (edite | etabli | fait) le",
    "state": r"situation | statut | etat | contrat (en vigueur | resilie) | resili(ation | ee?) (le)? | termine depuis"
             r"|fin de garantie | motif | cause",
    "end": r"echeance (principale)? | ech (annuelle | princ) | souscripteur | souscrit par | preneur d assurance | pf"
           r"|titulaire du contrat | assuree? | mise? en circ(ulation)? (le)? | circulation | applique au | date | resp"
           r"|(1ere | premiere) (mise en)? circ(ulation)? (le)? | dt mec | puiss(ance)? fiscale | fiscalite"
           r"|nb resp | dont a tort | dont responsables | corp(orel)? | conducteurs | 0,50 depuis | dt crm | dt 050"
           r"|(?<![\dlosb]) cv | cv (?=\|mise) | coefficients? (anterieurs? | precedents?) | crm de 0,50 acquis",
}
EXPRESSIONS = {kind: re.compile(pattern.replace(" ", "").translate(CONFUSED)) for kind, pattern in LABELS.items()}
NO_CLAIM = re.compile("aucun(sinistre|evenement)|sinistres?[^a-z]*(aucun|neant)".translate(CONFUSED))
SEPARATOR = re.compile(r"\.?(?: *[|;] *|\t| {3,})")
MONTHS = "janvier|fevrier|mars|avril|mai|juin|juillet|aout|septembre|octobre|novembre|decembre"
DATE = re.compile(r"\b(?:\d\d?[/.-]\d\d?[/.-]\d{4}|\d{4}-\d\d-\d\d|(?:1er|\d\d?) (?:%s) \d{4})\b"
                  % MONTHS.replace("e", "[eé]").replace("u", "[uû]"), re.IGNORECASE)
LICENCE = re.compile(r"\b(?:\d{12}|\d\d[A-Z]{2}\d{5})\b")
PLATE = re.compile(r"\b(?:[A-Z]{2}[- ]\d{3}[- ][A-Z]{2}|\d{2,4} [A-Z]{2,3} (?:\d\d|2[AB]))\b(?![/-]\d)")
VIN = re.compile(r"\b(?=[A-Z]*\d)[A-HJ-NPR-Z0-9]{17}\b")
CRM = re.compile(r"(?<![\d.,/])[0-3][.,]\d\d(?!\d|[.,/]\d)")
CONTRACT = re.compile(rf"(?!{DATE.pattern})(?=(?:[A-Z /-]*\d){{5}})[A-Z]*[/-]?\d[A-Z\d]*(?:[/-][A-Z\d]+| \d+)*\b")
USAGE = re.compile(r"^[^\W\d_].*[^\W_]")
WORD = r"[A-ZÀ-Ý](?:[^\W\d_]|['’-])*"
NAME = re.compile(rf"^(?:est )?(?:(?:M\.|Mme|Mlle|Monsieur|Madame) )?({WORD}(?:,? {WORD})+)$")
STATED = re.compile(rf"(?:M\.|M(?:m|rn)e|Mlle|Monsieur|Madame)\s+({WORD}(?: {WORD})+)(?=,[^.]*\sconduct)")
VEHICLE = re.compile(
    r"\b(?:Alfa Romeo|Audi|BMW|Citro[ëe]n|Cupra|Dacia|DS|Fiat|Ford|Honda|Hyundai|Jeep|Kia|Land Rover|Lexus|Mazda|MG|"
    r"Mini|Mercedes|Mitsubishi|Nissan|Opel|Peugeot|Porsche|Renault|Seat|[ŠS]koda|Smart|Subaru|Suzuki|Tesla|Toyota|"
    r"Volvo|Volkswagen)(?-i:(?: (?:[A-ZÀ-Ý]|i?\d)[\w-]*){1,3})", re.IGNORECASE)
# By field: the kinds of label, first choice first, what their values look like, and what is searched without a label.
FIELDS = {
    "driver": (["driver", "driver part"], NAME, STATED), "birth": (["birth"], DATE, None),
    "licence": (["licence"], LICENCE, LICENCE), "licence date": (["licence date", "licence"], DATE, None),
    "vehicle": (["vehicle"], VEHICLE, VEHICLE), "plate": (["plate"], PLATE, PLATE), "vin": (["vin"], VIN, VIN),
    "usage": (["usage"], USAGE, None), "contract": (["contract", "contract part"], CONTRACT, None),
    "effect": (["effect"], DATE, None), "crm": (["current crm", "crm"], CRM, None),
}
# What a question asks: the first field with a word, or two in a row, of each of its groups.
NUMBER, DAY = "numero num n reference", "date quand remonte"
QUESTIONS = (
    (None, ["secondaire second autre responsable"]), ("claims", ["sinistre sinistres", "combien nombre total"]),
    ("last claim", ["sinistre", "dernier recent", DAY]), (None, ["sinistre sinistres"]),
    ("licence date", ["permis", DAY + " obtention obtenu delivrance delivre"]), ("licence", ["permis", NUMBER]),
    ("birth", ["naissance ne nee"]), ("plate", ["immatriculation immatricule plaque"]),
    ("vin", ["vin chassis serie identification"]), ("usage", ["usage utilisation sert"]),
    ("vehicle", ["marque modele quel_vehicule quelle_voiture"]), ("crm", ["crm coefficient bonus malus"]),
    ("effect", ["souscription souscrit effet"]), ("contract", ["contrat police", NUMBER]),
    ("driver", ["conducteur conduit", "qui nom prenom identite"]),
)


def fold(text: str) -> str:
    """The text in lower case without accents, as long as before."""
    return "".join(unicodedata.normalize("NFD", letter)[0].lower()[0] for letter in text)


def canonical(text: str) -> tuple[str, list[tuple[int, int]]]:
    """What labels are searched in, and where each of its letters was in the text."""
    kept = list(re.finditer(r"rn| {3,}|[^ _.°'’()-]", fold(text).translate(CONFUSED)))
    letters = ("\t" if match[0].isspace() else match[0].replace("rn", "m") for match in kept)
    return "".join(letters), [match.span() for match in kept]


def labels(text: str) -> list[tuple[int, int, str]]:
    """The start, end and kind of the labels, the longest of each place, and of the end of the text."""
    letters, places = canonical(text)
    kept = [(0, 0, "")]
    for index, (start, _) in enumerate(places):
        if start >= kept[-1][1] and not text[start - 1:start].isalnum():
            ends = [(places[stop - 1][1], kind) for kind, pattern in EXPRESSIONS.items()
                    if (match := pattern.match(letters, index)) for stop in range(match.end(), index, -1)
                    if not text[places[stop - 1][1]:][:1].isalnum()
                    and (stop == match.end() or pattern.fullmatch(letters, index, stop))]
            kept += [(start, *max(ends))] if ends else []
    return [*kept[1:], (len(text), len(text), "")]


def reflowed(text: str) -> str:
    """Breaks the one line of a scan before each label that starts a line, and after a row of column heads."""
    result, last, row = "", 0, False
    for start, end, _ in labels(text):
        gap = text[last:start]
        together = SEPARATOR.fullmatch(gap)
        result += (gap if together else ("\n" + gap.lstrip() if row else gap) + "\n") + text[start:end]
        last, row = end, together or SEPARATOR.match(text, end)
    return result


def unrolled(text: str) -> str:
    """Makes one line of label and value for each column of the tables."""
    lines = [SEPARATOR.split(line.strip(" |\t")) for line in text.split("\n") if line.strip("-=+| ")]
    result = []
    while lines:
        heads, cells = lines.pop(0), lines[0] if lines else []
        named = any(head and labels(head)[0][0] == 0 for head in heads)
        if len(heads) == len(cells) > 1 and named and len(labels(cells[0])) == 1:
            result += [f"{head} : {cell}" for head, cell in zip(heads, cells)]
            lines.pop(0)
        else:
            result.append(" | ".join(heads))
    return "\n".join(result)


@functools.cache
def read(document: str) -> tuple[str, list[tuple[str, str]]]:
    """The document as lines without what it says of another driver, and the kind and text of its values."""
    lines = unrolled(document if "\n" in document.strip() else reflowed(document))
    lines = re.sub(r"[^.\n]* comme [^.\n]*conduct\w+ (?:secondaire|occasionnel)[^.\n]*", "", lines)
    text, last, other = "", 0, False
    for start, _, kind in labels(lines):
        text += "" if other else lines[last:start]
        last, other = start, kind == "other" or other and kind in ("birth", "licence", "licence date")
    found = labels(text)
    return text, [(kind, text[end:stop].lstrip(" \t\n:=.|)\"{-").split("\n")[0])
                  for (_, end, kind), (stop, _, _) in zip(found, found[1:])]


def claims(document: str) -> tuple[str | None, list[str]]:
    """The number of claims, if it is printed or there are none, and the dates of those listed."""
    number, dates, last, inside = None, [], 0, False
    for start, end, kind in labels(document):
        dates += DATE.findall(document, last, start) if inside else []
        if kind == "claims":
            number = number or re.match(r"[\s:=.|-]*(\d\d?)\b(?![/.)-] ?\w| \w+ \d{4})", document[end:])
        last, inside = start, kind == "claims" or inside and kind not in (
            "birth", "contract", "crm", "current crm", "edition", "effect", "licence", "state")
    none = not dates and NO_CLAIM.search(canonical(document)[0])
    return number[1] if number else "0" if none else None, dates


def day(date: str) -> tuple[int, ...]:
    """The year, month and day of a date."""
    months = MONTHS.split("|")
    parts = [months.index(part) + 1 if part in months else int(part.removesuffix("er"))
             for part in re.split(r"[/. -]", fold(date))]
    return tuple(parts if parts[0] > 31 else parts[::-1])


def asked(question: str) -> str | None:
    """The field that a question asks for, or none; words may be slightly misspelt."""
    words = re.findall(r"\w+", fold(question))
    words += map("_".join, zip(words, words[1:]))
    for field, groups in QUESTIONS:
        if all(any(get_close_matches(word, words, 1, 0.85) for word in group.split()) for group in groups):
            return field
    return "driver" if words[:2] == ["conducteur", "principal"] else None


def answer(document: str, question: str) -> str:
    """The value of the field that is asked for, as it is printed."""
    field = asked(question)
    if field in ("claims", "last claim"):
        number, dates = claims(document)
        return max(dates, key=day, default=ABSENT) if field == "last claim" else number or str(len(dates) or ABSENT)
    kinds, shape, anywhere = FIELDS.get(field, ([], None, None))
    text, values = read(document)
    for value in (value for wanted in kinds for kind, value in values if kind == wanted):
        # A name or a use is the whole of a cell; anything else is known by its shape.
        cell = re.split(r"[;|(\"]|(?<!M)\. |\t| {2,}", value)[0].strip(" ,.:-")
        if match := shape.search(cell if shape in (NAME, USAGE) else value):
            return match[match.lastindex or 0]
    match = anywhere.search(text) if anywhere else None
    return match[match.lastindex or 0] if match else ABSENT


def main() -> None:
    for path in sys.argv[1:]:
        for line in filter(None, Path(path).read_text(encoding="utf-8").split("\n")):
            message = json.loads(line)["messages"][1]["content"]
            document, _, question = message.removeprefix("Document :\n").rpartition("\n\nQuestion : ")
            print(json.dumps({"answer": answer(document, question)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
