"""What a recipe is: the facts about a corpus, and a function that reads its folder."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from asr.errors import ASRError
from data_prep.download import Archive, obtain
from data_prep.unpack import unpack


class CorpusError(ASRError):
    """A corpus is not there, or is not laid out as it should be."""


@dataclass(frozen=True, slots=True)
class Clip:
    """An utterance as a recipe finds it: a recording, or `duration` seconds of it from `start` on.

    `channel` counts from 0; None averages all. `id` is the stem of the file unless given. Keys of
    `extra` go into the manifest as they are; phone labels in `extra["phones"]` make a manifest of
    phones. A clip with a `problem` is no utterance: it is left out, counted and named. A `remark`
    is reported for one that is used.
    """

    audio: Path
    text: str
    speaker: str | None = None
    id: str = ""
    start: float = 0.0
    duration: float | None = None
    channel: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    remark: str = ""


Splits: TypeAlias = dict[str, Iterable[Clip]]
# The folders of the corpus, and the parts that were asked for (none: all) -> clips of each split.
Reader: TypeAlias = Callable[[Sequence[Path], Sequence[str]], Splits]

# What a recipe stumbles with over a line or a name that is not as it should be.
_MISREAD = (ValueError, LookupError)


@dataclass(frozen=True)
class Corpus:
    """One line of `asr-prepare list`, and how to get and read the corpus.

    What can be downloaded has `archives`, or a function `fetch` (folder, parts) that returns the
    folder to read; other corpora have `instructions`, which say where to get them and how to go
    on. `parts` is None if the recipe knows them better, as with a hundred languages. `inside` is
    the folder that the archives unpack to. `folders` names those that `--from-folder` takes.
    """

    name: str
    title: str
    licence: str
    languages: str
    read: Reader
    hours: float | None = None
    gigabytes: float | None = None  # to download
    parts: tuple[str, ...] | None = ()
    archives: tuple[Archive, ...] = ()
    fetch: Callable[[Path, Sequence[str]], Path] | None = None
    instructions: str = ""
    inside: str = ""
    folders: tuple[str, ...] = ("the unpacked corpus",)
    page: str = ""

    @property
    def size(self) -> float | None:
        """Gigabytes to download; None where nobody knows."""
        sizes = [archive.size for archive in self.archives]
        if sizes and None not in sizes:
            return sum(size or 0 for size in sizes) / 1e9
        return self.gigabytes

    @property
    def can_download(self) -> bool:
        return bool(self.archives or self.fetch)

    def download(self, folder: Path, parts: Sequence[str] = (), local: Sequence[Path] = ()) -> Path:
        """Have the corpus in `folder`, from the network or from `local` archives.

        Returns the folder to read. Raises CorpusError with the instructions of a corpus that
        cannot be downloaded, DownloadError and UnpackError.
        """
        self.check_parts(parts)
        folder.mkdir(parents=True, exist_ok=True)
        wanted = [a for a in self.archives if not (parts and a.part) or a.part in parts]
        if local and not self.archives:
            for path in local:
                unpack(_existing(path), folder)
        elif wanted:
            for archive in wanted:
                obtain(archive, folder, _local_copy(archive, local, len(wanted)))
        elif self.fetch:
            return self.fetch(folder, parts)
        else:
            raise CorpusError(f"{self.title} cannot be downloaded by a program", self.instructions)
        return self.root(folder)

    def root(self, folder: Path) -> Path:
        """`folder` itself, or the one inside of it that the archives unpack to."""
        inner = folder / self.inside
        return inner if inner.is_dir() else folder

    def prepare(self, folders: Sequence[Path], parts: Sequence[str] = ()) -> Splits:
        """The clips of each split. Raises CorpusError if a folder is not that of the corpus."""
        self.check_parts(parts)
        if len(folders) != len(self.folders):
            names = ", ".join(self.folders)
            raise CorpusError(
                f"{self.name} is read from {len(self.folders)} folders, not {len(folders)}",
                f"pass --from-folder for each of: {names}",
            )
        missing = [str(folder) for folder in folders if not folder.exists()]
        if missing:
            raise CorpusError(f"no such folder: {', '.join(missing)}")
        roots = [self.root(folder) for folder in folders]
        if self.parts and not parts and roots[0].is_dir():  # those that are there
            there = {path.stem for path in roots[0].iterdir()}
            parts = [part for part in self.parts if part in there]
        try:
            splits = self.read(roots, parts)
        except _MISREAD as error:
            raise self._misread(roots, error) from error
        return {name: self._guarded(clips, roots) for name, clips in splits.items()}

    def _guarded(self, clips: Iterable[Clip], roots: Sequence[Path]) -> Iterator[Clip]:
        try:
            yield from clips
        except _MISREAD as error:
            raise self._misread(roots, error) from error

    def _misread(self, roots: Sequence[Path], error: Exception) -> CorpusError:
        return CorpusError(
            f"{', '.join(map(str, roots))}: not as {self.name} should be: "
            f"{type(error).__name__}: {error}",
            f"compare with {self.page or 'the formats that `asr-prepare list` names'}",
        )

    def check_parts(self, parts: Sequence[str]) -> None:
        if self.parts is None:
            return
        for part in parts:
            if self.parts and part not in self.parts:
                raise CorpusError(
                    f"{self.name} has no part {part!r}{did_you_mean(part, self.parts)}",
                    f"its parts are {', '.join(self.parts)}",
                )
        if parts and not self.parts:
            raise CorpusError(f"{self.name} comes in one piece", "leave --parts out")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """
    >>> did_you_mean("librispech", ["librispeech", "timit"])
    ', did you mean librispeech?'
    """
    near = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {near[0]}?" if near else ""


def required(*paths: Path) -> None:
    """Raise CorpusError naming the first of `paths` that is not there."""
    for path in paths:
        if not path.exists():
            raise CorpusError(
                f"{path}: not there", "name the folder that holds the unpacked corpus"
            )


def _local_copy(archive: Archive, local: Sequence[Path], n_wanted: int) -> Path | None:
    """The archive among those that the user brought: by its name, or because it is the only one."""
    for path in local:
        if path.name == archive.name or (n_wanted == 1 and len(local) == 1):
            return _existing(path)
    if local:
        raise CorpusError(
            f"{archive.name} is not among the archives passed",
            "add --from-archive FILE for it, or choose parts with --parts",
        )
    return None


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise CorpusError(f"{path}: no such file")
    return path
