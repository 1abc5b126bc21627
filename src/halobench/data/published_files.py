"""Obtain files that others publish on GitHub: download the missing ones, and compare the checksums that are known.

Files are stored under the data root. A file's address includes its commit, so what the file holds never changes.
HALOBENCH_MIRROR is the address of a copy to download from; it replaces the host in each address.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from halobench.core.errors import RefusedError, describe_error, refuse
from halobench.data.data_root import check_root, data_root, may_fetch, unfit
from halobench.storage import files as store

CHANGES_NUMBERS = False  # see `halobench.experiment.code_version`; content is checked
PATIENCE = 60.0  # seconds without a received byte after which a download fails
MIRROR = "HALOBENCH_MIRROR"
HOSTS = ("https://raw.githubusercontent.com", "https://github.com")


@dataclass(frozen=True)
class PublishedFile:
    """A file at `path` under the data root, published at `url` under a `licence`, which is described in one phrase.

    `sha256` may be "" if the caller checks the content.
    """

    path: str
    url: str
    sha256: str
    licence: str

    def address(self) -> str:
        """Return the address to download from, which begins with the mirror's if there is one."""
        mirror = os.environ.get(MIRROR, "").rstrip("/")
        host = next((host for host in HOSTS if mirror and self.url.startswith(f"{host}/")), None)
        return self.url if host is None else mirror + self.url.removeprefix(host)


def check_obtainable(*files: PublishedFile) -> list[Path]:
    """Return the paths of files without opening any; raise SpecError if a file can't be obtained."""
    check_root()
    paths = [data_root() / file.path for file in files]
    for file, path in zip(files, paths, strict=True):
        if kind := unfit(path):
            raise RefusedError(str(path), f"is {kind}, where a published file should be; move it elsewhere")
        advice = f"set fetch: true (HALOBENCH_FETCH=1), or {_by_hand(file)}"
        refuse(not path.exists() and not may_fetch(), str(path), f"is missing, and fetch is false; {advice}")
    return paths


def obtain(*files: PublishedFile) -> list[Path]:
    """Download missing files, and return the paths of all; raise SpecError if that fails or a checksum is wrong."""
    paths = check_obtainable(*files)
    for file, path in zip(files, paths, strict=True):
        if not path.exists():
            _fetch(file, path)
        elif file.sha256:
            with store.reading(path, "a readable file"):
                digest = store.checksum(path)
            what = f"isn't the published file (SHA-256 {digest[:16]}, published {file.sha256[:16]})"
            refuse(digest != file.sha256, str(path), f"{what}; delete it to fetch it again")
    return paths


def _fetch(file: PublishedFile, path: Path) -> None:
    """Download a file, one process at a time."""
    url = file.address()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with store.alone(data_root()):
            if path.exists():  # downloaded while this process waited
                return
            print(f"fetching {file.path} from {url} ({file.licence})", flush=True)
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                content = answer.read()
            digest = hashlib.sha256(content).hexdigest()
            if file.sha256 not in ("", digest):
                raise OSError(f"received SHA-256 {digest[:16]}, published {file.sha256[:16]}")
            with store.replacing(path) as temporary:
                temporary.write_bytes(content)
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address that isn't one
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the answer, too
        sentence = f"is missing, and fetching it failed ({describe_error(error)}); {_by_hand(file)}, or try again later"
        raise RefusedError(str(path), sentence) from None


def _by_hand(file: PublishedFile) -> str:
    return f"download {file.address()} ({file.licence}) and save it there"
