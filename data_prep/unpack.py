"""Unpack archives that strangers made: nothing outside the folder, no links, no bombs."""

from __future__ import annotations

import io
import lzma
import os
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

from asr.errors import ASRError

MAX_FILES = 5_000_000
# Speech in an archive grows a little when unpacked, digital silence more; bombs grow 1000-fold.
MAX_GROWTH = 30
ALWAYS_ALLOWED = 1 << 30  # bytes, however small the archive
BLOCK = 1 << 20
# What a library reads whole into memory before anybody sees a member:
MAX_HEADER = 1 << 20  # bytes of one long name or of one set of attributes, in a tar archive
MAX_CONTENTS = 64 << 20  # bytes of the table of contents of a zip archive

_DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError),
    *(ValueError, OverflowError, struct.error, IndexError),  # of numbers and names out of range
)
_SEALED = (RuntimeError, NotImplementedError)  # zipfile's words for passwords and rare methods


class UnpackError(ASRError):
    """An archive is damaged, or is not safe to unpack."""


@dataclass(frozen=True)
class Member:
    name: str
    size: int  # bytes, unpacked
    is_file: bool
    is_folder: bool
    opened: IO[bytes] | None


def unpack(archive: Path, folder: Path, max_bytes: int | None = None) -> None:
    """Write the files of a .tar (.gz, .bz2, .xz) or .zip archive below `folder`.

    Raises UnpackError, before anything of that kind is written, for a path that leads out of the
    folder, for links and devices, and for more than `max_bytes` (by default 30 times the archive);
    also for damaged archives, and for headers that would fill the memory.
    """
    _check_is_file(archive)
    limit = max_bytes or max(ALWAYS_ALLOWED, MAX_GROWTH * archive.stat().st_size)
    folder.mkdir(parents=True, exist_ok=True)
    n_files = n_bytes = 0
    try:
        with members(archive) as found:
            for member in found:
                n_files, n_bytes = n_files + 1, n_bytes + member.size
                if n_bytes > limit or n_files > MAX_FILES:
                    raise UnpackError(
                        f"{archive.name}: unpacks to more than {limit:,} bytes or "
                        f"{MAX_FILES:,} files",
                        "this looks like a bomb; if it is not, unpack it yourself and pass "
                        "--from-folder DIR",
                    )
                _write(member, _target(member, folder, archive), archive)
    except _SEALED as error:
        raise UnpackError(
            f"{archive.name}: {error}", "unpack it yourself and pass --from-folder DIR"
        ) from error
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno:  # the disk's fault, not the archive's
            raise UnpackError(f"{error.filename or folder}: {error.strerror}") from error
        raise UnpackError(
            f"{archive.name}: damaged archive ({error})", "remove it and fetch it again"
        ) from error


def _target(member: Member, folder: Path, archive: Path) -> Path:
    """Where the member goes; raises UnpackError if that is not below `folder`."""
    path = PurePosixPath(member.name.replace("\\", "/"))
    target = folder / path
    outside = path.is_absolute() or ".." in path.parts or re.match("[a-zA-Z]:", member.name)
    if (
        outside
        or not target.parent.resolve().is_relative_to(folder.resolve())
        or target.is_symlink()
    ):
        raise UnpackError(f"{archive.name}: {member.name!r} leads out of the folder")
    if not (member.is_file or member.is_folder):
        raise UnpackError(
            f"{archive.name}: {member.name!r} is a link or a device",
            "unpack it yourself and pass --from-folder DIR",
        )
    return target


def _write(member: Member, target: Path, archive: Path) -> None:
    if member.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    assert member.opened is not None
    written = 0
    with member.opened as source, target.open("wb") as file:
        while block := source.read(min(BLOCK, member.size - written + 1)):
            written += len(block)
            if written > member.size:
                break
            file.write(block)
    if written != member.size:
        raise UnpackError(
            f"{archive.name}: {member.name!r} does not have the size that the archive promises",
            "remove it and fetch it again",
        )


def _check_is_file(archive: Path) -> None:
    """A pipe or a device would hang, or never end."""
    if not archive.is_file():
        raise UnpackError(f"{archive}: no archive: not there, or not a file", "check the path")


@contextmanager
def members(archive: Path) -> Iterator[Iterator[Member]]:
    """What an archive holds, to be read member by member, without unpacking it."""
    _check_is_file(archive)
    if zipfile.is_zipfile(archive):
        with _Bounded(archive) as file, zipfile.ZipFile(file) as zipped:
            yield _zip_members(zipped)
    else:
        with tarfile.open(archive, "r:*", tarinfo=_Header) as tar:
            yield _tar_members(tar)
            # The checksum of a compressed stream stands at its end, behind the last member.
            while tar.fileobj is not None and tar.fileobj.read(BLOCK):
                pass


class _Header(tarfile.TarInfo):
    """A member of a tar archive whose headers are bounded before they are read.

    `tarfile` reads long names and PAX attributes whole, of whatever size they claim to be, keeps
    the attributes that hold for all further members, and lists the holes of sparse files.
    """

    _READ_WHOLE = (
        *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
        *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    )

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        """What `tarfile` calls with the 512 bytes of each header, and says to override."""
        size = self.size
        if self.type == tarfile.XGLTYPE:  # they add up
            size = tar.global_bytes = getattr(tar, "global_bytes", 0) + size  # type: ignore[attr-defined]
        if self.size < 0 or (self.type in self._READ_WHOLE and size > MAX_HEADER):
            raise UnpackError(
                f"{Path(str(tar.name)).name}: a header of {self.size:,} bytes",
                f"none of an honest archive has more than {MAX_HEADER:,}: fetch it again",
            )
        return super()._proc_member(tar)  # type: ignore[misc]

    def _refuse_sparse(self, *_: object) -> NoReturn:
        raise UnpackError(
            "the archive holds a sparse file", "unpack it yourself and pass --from-folder DIR"
        )

    _proc_sparse = _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _refuse_sparse


class _Bounded(io.FileIO):
    """A zip archive of which no more is read at a time than an honest one needs."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        if (left if size is None or size < 0 else min(size, left)) > MAX_CONTENTS:
            raise UnpackError(
                f"{Path(str(self.name)).name}: a table of contents of more than"
                f" {MAX_CONTENTS:,} bytes",
                "unpack it yourself and pass --from-folder DIR",
            )
        return super().read(size) or b""


def _tar_members(tar: tarfile.TarFile) -> Iterator[Member]:
    while (info := tar.next()) is not None:
        if info.size < 0:  # an attribute may say so, and the next header would be this one again
            raise UnpackError(f"{info.name!r} has {info.size} bytes", "fetch the archive again")
        opened = tar.extractfile(info) if info.isfile() else None
        yield Member(
            info.name, info.size if info.isfile() else 0, info.isfile(), info.isdir(), opened
        )
        tar.members = []  # type: ignore[attr-defined]  # or millions of headers stay in memory


def _zip_members(zipped: zipfile.ZipFile) -> Iterator[Member]:
    for info in zipped.infolist():
        unix_kind = info.external_attr >> 28  # of st_mode: 0 not told, 8 a file, 4 a folder
        is_folder = info.is_dir()
        is_file = not is_folder and unix_kind in (0, 8)
        opened = zipped.open(info) if is_file else None
        yield Member(info.filename, info.file_size, is_file, is_folder, opened)
