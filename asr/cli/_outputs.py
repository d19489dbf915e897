"""Where transcripts go: formats, files that are never replaced by accident, and what is done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asr.cli._inputs import STDIN, absolute
from asr.errors import ASRError, ConfigError
from asr.files import replacing
from asr.subtitles import SubtitleLayout
from asr.writers import FORMATS, save, writer_for

if TYPE_CHECKING:
    from asr.types import Transcript

ALL = "all"
# What people write elsewhere, so that `-o talk.docx` is no folder of that name.
_NOT_WRITTEN = frozenset(
    "ass csv doc docx htm html lrc md odt pdf rtf sbv ssa stl ttml xml".split()
)


@dataclass(frozen=True)
class Target:
    """The formats to write, and where: a folder, one file, or standard output (neither)."""

    formats: tuple[str, ...]
    folder: Path | None = None
    file: Path | None = None

    @property
    def is_stdout(self) -> bool:
        return self.folder is None and self.file is None

    @property
    def parent(self) -> Path:
        """The folder in which `outputs` lie."""
        return self.folder or (self.file or Path()).parent

    def outputs(self, stem: Path) -> list[Path]:
        """The files of a recording, one for each format, for the name `stem` without extension."""
        if self.file is not None:
            return [Path(self.file.name)]
        return [stem.with_name(f"{stem.name}.{format}") for format in self.formats]


def target(formats: str | None, out: str | None, n_recordings: int, default: str = "txt") -> Target:
    """What --format and --out mean together for this number of recordings.

    `--out talk.srt` is a file of that format, for one recording. Raises ASRError for an unknown
    format, click.UsageError for what contradicts itself.
    """
    names = parse_formats(formats) if formats is not None else None
    if out in (None, STDIN):
        names = names or (default,)
        if len(names) > 1 or (n_recordings > 1 and names != ("txt",)):
            raise click.UsageError("several files of output need --out FOLDER")
        return Target(names)
    if not out:
        raise click.UsageError("--out is empty (give a folder, such as . for the current one)")
    path = Path(out)
    extension = path.suffix.removeprefix(".")
    is_format = extension.lower() in map(str.lower, FORMATS)
    if path.is_dir() or not is_format:
        if extension.lower() in _NOT_WRITTEN and not path.is_dir():
            writer_for(extension)  # which says what the formats are
        if path.exists() and not path.is_dir():
            raise click.UsageError(
                f"--out {out} is a file, and its extension names no format (give a folder, or a"
                f" name that ends with one of: {', '.join(FORMATS)})"
            )
        return Target(names or (default,), folder=path)
    if n_recordings > 1:
        raise click.UsageError(
            f"--out {out} is one file, and there are {n_recordings} recordings (give a folder)"
        )
    own = parse_formats(extension)
    if names not in (None, own):
        raise click.UsageError(
            f"--out {out} is a file of the format {own[0]}, and --format asks for"
            f" {','.join(names)} (leave --format out, or give a folder)"
        )
    return Target(own, file=path)


def parse_formats(text: str) -> tuple[str, ...]:
    """Comma-separated formats, by the names in FORMATS; `all` is all of them.

    Raises ConfigError for an unknown one.

    >>> parse_formats("SRT, vtt,srt")
    ('srt', 'vtt')
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise click.UsageError("--format names no format")
    if ALL in map(str.lower, names):
        return tuple(FORMATS)
    for name in names:
        writer_for(name)
    known = {name.lower(): name for name in FORMATS}
    return tuple(dict.fromkeys(known[name.lower()] for name in names))


@dataclass(frozen=True)
class Entry:
    """A recording: what it was, what was asked for, where that goes, and whether it is written."""

    recording: str
    size: int
    modified: int
    settings: str
    outputs: list[str]
    done: bool = False

    @classmethod
    def of(cls, recording: str, settings: str, outputs: Sequence[Path]) -> Entry:
        """For a recording as it is now, if it is there at all."""
        names = [str(output) for output in outputs]
        path = Path(absolute(recording))
        if recording == STDIN or not path.exists():
            return cls(recording, -1, -1, settings, names)
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns, settings, names)


class Journal:
    """Whose transcripts lie in an output folder, so that they can be told from other files.

    It is kept where programs keep their state (`$XDG_STATE_HOME`, by default ~/.local/state), a
    file for each output folder and a line for each recording. Where nothing can be written there,
    only the times of files tell a resumed run what is done.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        real = os.path.realpath(folder)
        key = hashlib.sha256(os.fsencode(real)).hexdigest()[:32]
        self.path = _state_folder() / "transcripts" / f"{key}.jsonl"
        self._owner: dict[str, Entry] = {}
        self._read()

    def has(self, entry: Entry) -> bool:
        """Whether exactly this was done, and its outputs are still there."""
        wanted = replace(entry, done=True)
        return entry.size >= 0 and all(
            self._owner.get(output) == wanted and (self.folder / output).is_file()
            for output in entry.outputs
        )

    def seems_done(self, entry: Entry) -> bool:
        """Whether nothing is known of the outputs, but all are there, and newer than the recording:
        as where the folder comes from another machine."""
        return entry.size >= 0 and all(
            output not in self._owner
            and (self.folder / output).is_file()
            and (self.folder / output).stat().st_mtime_ns >= entry.modified
            for output in entry.outputs
        )

    def check_free(self, entry: Entry) -> None:
        """Raise ConfigError if an output would replace what is not this recording's."""
        for output in entry.outputs:
            path, owner = self.folder / output, self._owner.get(output)
            is_own = owner and owner.recording == entry.recording != STDIN
            if is_own or not os.path.lexists(path):
                continue
            if path.is_dir():
                raise ConfigError(f"{entry.recording}: {path} is a folder", "choose another --out")
            what = f"holds the transcript of {owner.recording}" if owner else "is there already"
            raise ConfigError(
                f"{entry.recording}: {path} {what}",
                "remove it or choose another --out, or replace it with --overwrite",
            )

    def write(
        self,
        entry: Entry,
        transcript: Transcript,
        where: Target,
        layout: SubtitleLayout | None = None,
    ) -> None:
        """Write the outputs of a recording, and remember that they are its own."""
        self._add(entry)  # before, in case that the machine stops in between
        for output, format in zip(entry.outputs, where.formats, strict=True):
            save(transcript, self.folder / output, format, layout)
        self._add(replace(entry, done=True))

    def _read(self) -> None:
        try:
            lines = self.path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError):
            return
        for line in lines:
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError):
                continue  # a line cut off when the machine stopped: its recording is done again
            self._own(entry)
        entries = {id(entry): entry for entry in self._owner.values()}.values()
        if len(lines) > 100 + 2 * len(entries):
            with replacing(self.path) as temporary:
                temporary.write_text("".join(map(_line, entries)), encoding="utf-8")

    def _add(self, entry: Entry) -> None:
        self._own(entry)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(entry))
        except OSError:
            pass

    def _own(self, entry: Entry) -> None:
        self._owner.update(dict.fromkeys(entry.outputs, entry))


@contextlib.contextmanager
def making(folder: Path) -> Iterator[None]:
    """Make a folder and those above it; what is still empty at the end is removed again.

    Raises ASRError where that is impossible.
    """
    missing = [path for path in (folder, *folder.parents) if not os.path.lexists(path)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ASRError(
                f"{folder}: cannot be made: {error.strerror or error}", "choose another --out"
            ) from error
        yield
    finally:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()


def _line(entry: Entry) -> str:
    return json.dumps(asdict(entry)) + "\n"  # in ASCII: names may hold what UTF-8 does not


def _state_folder() -> Path:
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given, "asr")
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home(), "asr", "state")
    return Path(os.path.expanduser("~"), ".local/state/asr")  # noqa: PTH111 - never raises
