"""Downloads a file: resumable, whole or absent, and verified against a checksum."""

from __future__ import annotations

import hashlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import hf_hub_url
from tqdm.auto import tqdm

from ..support import DataError
from ..support.store import no_link, to_disk, write_json
from .files import parse_json

LOCK = "checksums.json"


@dataclass(frozen=True)
class Source:
    """One file to download: from a data set repository on the Hugging Face hub, or from a plain address."""

    name: str  # of the file here
    size: str
    repository: str | None = None
    file: str = ""  # its path in the repository
    revision: str = ""  # a commit, so that the file can not change under us
    url: str | None = None
    sha256: str | None = None  # None: not known beforehand, see `LOCK`

    @property
    def address(self) -> str:
        if self.repository is None:
            return self.url or ""
        return hf_hub_url(self.repository, self.file, repo_type="dataset", revision=self.revision, endpoint=endpoint())


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def endpoint() -> str:
    """The hub, or the mirror that the environment names; read at every call."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def download(source: Source, path: Path, *, progress: bool = True) -> None:
    """Put one file at `path`; an interrupted download continues where it stopped, even in a later run.

    The hub's own library gives the address but does not load the file: it takes half a minute of retries to
    notice that there is no connection, and since its version 2 a broken download starts over, as with pooch.

    Raises:
        DataError: without a connection; the message names the file to fetch by hand and the place to put it.
    """
    try:
        if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "on", "yes", "true"):
            raise OSError("HF_HUB_OFFLINE is set")
        _stream(source.address, path, progress)
    except (OSError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(
            f"{path}: could not be downloaded ({reason}); run this again to resume, or fetch {source.address} "
            f"({source.size}) by hand and put it there under the name {path.name}"
        ) from None


def _stream(url: str, path: Path, progress: bool) -> None:
    """Write to `path` + ".part", requesting only the missing bytes; then rename, so that `path` is whole or absent."""
    part = path.with_name(f"{path.name}.part")
    done = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "docre-lite", **({"Range": f"bytes={done}-"} if done else {})}
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part here is already as long as the file, or does not belong to it
            raise
        part.unlink()
        return _stream(url, path, progress)
    broke = False
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")
        if response.status == 206 and not resumed:
            raise OSError("the server sent another piece of the file than the one that is missing")
        done = done if resumed else 0  # a server without range requests sends the whole file
        length = response.headers.get("Content-Length")
        total = None if length is None else done + int(length)
        bar = tqdm(total=total, initial=done, unit="B", unit_scale=True, desc=path.name, disable=not progress)
        with open(part, "ab" if resumed else "wb", opener=no_link) as file, bar:
            try:
                while block := response.read(1 << 16):
                    file.write(block)
                    bar.update(len(block))
            except http.client.IncompleteRead as error:
                file.write(error.partial)
                broke = True  # a server that sends no length still signals that data is missing
            to_disk(file)
    size = part.stat().st_size
    if broke or total is not None and size < total:
        raise OSError(f"the connection broke after {size} {'' if total is None else f'of {total} '}bytes")
    if total is not None and size > total:
        part.unlink()
        raise OSError(f"{size} bytes came, but {total} were announced")
    part.replace(path)


def verify(path: Path, sha256: str | None = None) -> None:
    """Checks a file against its known checksum, or against the one that its first download left in `LOCK`, if any."""
    found, expected = _digest(path), sha256 or _recorded(path).get(path.name, None)
    if expected not in (None, found):
        source = "known one" if sha256 else f"one recorded in {LOCK}"
        changed = "" if sha256 else f"; if its publisher changed it on purpose, delete its line in {LOCK} too"
        raise DataError(
            f"{path}: checksum {found[:12]}... differs from the {source}, {expected[:12]}...; the file is damaged or "
            f"has changed: delete it and fetch again{changed}"
        )


def record(path: Path, say: Callable[[str], None] = to_stderr) -> None:
    """Leaves the checksum of a file in `LOCK` unless it has one there."""
    known = _recorded(path)
    if path.name not in known:
        known[path.name] = _digest(path)
        write_json(path.with_name(LOCK), dict(sorted(known.items())))
        say(f"{path}: no checksum was known; recorded this download's in {LOCK}, to check later ones against it")


def _recorded(path: Path) -> dict[str, str]:
    lock = path.with_name(LOCK)
    known = parse_json(lock.read_text(errors="replace"), str(lock)) if lock.is_file() else {}
    if not isinstance(known, dict) or not all(isinstance(value, str) for value in known.values()):
        raise DataError(f"{lock}: not a map of file names to checksums; delete it to record them again")
    return known


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
