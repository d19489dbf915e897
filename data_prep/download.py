"""Archives from the network: resumed where they were cut, checked, and unpacked safely."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import shutil
import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from asr.errors import ASRError
from asr.program import OUTPUT
from data_prep.unpack import unpack

ATTEMPTS = 5  # in a row without a single new byte
FIRST_WAIT = 1.0  # seconds before the second attempt, doubled before each further one
TIMEOUT = 30.0  # seconds without a byte
BLOCK = 1 << 20

_NO_NETWORK = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}
_OUR_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EFBIG}

RESUME = "run the same command again: it resumes where it stopped"
BRING_IT = "get the archive from somewhere else and pass it with --from-archive FILE"


class DownloadError(ASRError):
    """An archive cannot be had, or is not the one that was published."""


@dataclass(frozen=True)
class Archive:
    """A file to download, and what is known about it.

    `checksum` is `sha256:…` or `md5:…` as published. `part` is the part of the corpus that it
    holds, empty if every part needs it. `folder` is for archives that have no folder inside.
    """

    url: str
    size: int | None = None  # bytes
    checksum: str = ""
    part: str = ""
    folder: str = ""

    @property
    def name(self) -> str:
        return unquote(Path(urlsplit(self.url).path).name)


def obtain(archive: Archive, folder: Path, local: Path | None = None) -> None:
    """Have `archive` unpacked in `folder`, unless an earlier run completed that.

    A `local` copy is checked like a downloaded one, and kept; a downloaded one is removed when it
    is unpacked. Raises DownloadError and UnpackError.
    """
    marker = folder / f".{archive.name}.completed"
    if marker.exists():
        return
    path = local or folder / archive.name
    sha256 = _check(archive, local) if local else download(archive, path)
    unpack(path, folder / archive.folder)
    provenance = {"url": archive.url, "size": path.stat().st_size, "sha256": sha256}
    marker.write_text(json.dumps(provenance) + "\n", encoding="utf-8")
    if local is None:
        path.unlink()


def download(archive: Archive, path: Path) -> str:
    """Fetch to `path`, and return the sha256 of what lies there then.

    Resumes `path`.part where an earlier attempt was cut, and retries what may pass: cut
    connections, timeouts, busy servers. Wrong bytes are fetched once more. Raises DownloadError
    for what will not pass: no network, no such file, not the published bytes, a full disk.
    """
    if path.exists():
        return _check(archive, path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    _check_space(archive, part)
    with _progress() as progress:
        bar = progress.add_task(archive.name, total=archive.size)
        for last_try in (False, True):
            _fetch(archive, part, progress, bar)
            try:
                sha256 = _check(archive, part)
                break
            except DownloadError:
                part.unlink()
                if last_try:
                    raise
    part.rename(path)
    return sha256


def _fetch(archive: Archive, part: Path, progress: Progress, bar: TaskID) -> None:
    """Attempt after attempt, until every byte that the server promises is there."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _attempt(archive, part, progress, bar):
                return
            problem = "the connection was cut"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # nothing lies behind what we have: it is complete, or another
                on_server = error.headers.get("Content-Range", "").rpartition("/")[2]
                if str(before) in (on_server, str(archive.size)):
                    return
                part.unlink()
                problem = "the file on the server has changed"
            elif error.code in (408, 429) or error.code >= 500:
                problem = f"HTTP {error.code} {error.reason}"
            else:
                raise _refused(archive.url, error) from error
        except (OSError, http.client.HTTPException) as error:
            reason: Any = getattr(error, "reason", None) or error
            if getattr(reason, "errno", None) in _OUR_DISK:
                raise DownloadError(
                    f"{part}: cannot be written: {reason.strerror}", RESUME
                ) from error
            host = urlsplit(archive.url).hostname
            problem = f"no answer from {host}: {getattr(reason, 'strerror', None) or reason!r}"
            unreachable = getattr(reason, "errno", None) in _NO_NETWORK
            if (unreachable or isinstance(reason, socket.gaierror)) and not before:
                raise DownloadError(problem, f"check the network, or {BRING_IT}") from error
        failures = 0 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise DownloadError(f"{archive.url}: {problem}, {ATTEMPTS} times in a row", RESUME)
        pause = FIRST_WAIT * 2**failures
        progress.console.print(f"{archive.name}: {problem}; trying again in {pause:g} s")
        time.sleep(pause)


def _attempt(archive: Archive, part: Path, progress: Progress, bar: TaskID) -> bool:
    """One request for what is missing; True if the file is complete now."""
    have = _size(part)
    headers = {"User-Agent": "asr-prepare", **({"Range": f"bytes={have}-"} if have else {})}
    request = urllib.request.Request(archive.url, headers=headers)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        start = have if response.status == 206 else 0  # 200: the server cannot resume
        if start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise http.client.HTTPException("the server sent another range than asked for")
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        if archive.size is not None and total is not None and total != archive.size:
            raise DownloadError(
                f"{archive.url}: {total:,} bytes on the server, {archive.size:,} were published",
                f"the archive has changed or the address leads to a page; {BRING_IT}",
            )
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            while block := response.read(BLOCK):
                file.write(block)
                progress.update(bar, completed=file.tell(), total=total or archive.size)
            return total is None or file.tell() == total


def _check(archive: Archive, path: Path) -> str:
    """The sha256 of the file, if size and checksum are those that were published."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        algorithm, _, published = archive.checksum.partition(":")
        if archive.checksum and algorithm != "sha256":
            with path.open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
        else:
            found = sha256
    except OSError as error:
        raise DownloadError(f"{path}: cannot be read: {error.strerror}") from error
    wrong = ""
    if archive.size is not None and size != archive.size:
        wrong = f"{size:,} bytes, {archive.size:,} were published"
    elif published and found != published:
        wrong = f"its {algorithm} is {found}, {published} was published"
    if wrong:
        raise DownloadError(
            f"{path.name}: {wrong}", f"{BRING_IT}, or unpack it yourself and pass --from-folder DIR"
        )
    return sha256


def _check_space(archive: Archive, part: Path) -> None:
    """Archive and contents lie side by side for a while; sound hardly grows when unpacked."""
    needed = 2 * (archive.size or 0) - _size(part)
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise DownloadError(
            f"{archive.name}: needs about {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free",
            "choose another folder with --to DIR",
        )


def _refused(url: str, error: urllib.error.HTTPError) -> DownloadError:
    if error.code in (404, 410):
        return DownloadError(f"{url}: no longer there (HTTP {error.code})", BRING_IT)
    return DownloadError(f"{url}: refused (HTTP {error.code} {error.reason})", BRING_IT)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=OUTPUT.quiet,
    )
