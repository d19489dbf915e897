"""Which file holds whose transcript: names that never collide, and a journal to resume from."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.cli._inputs import STDIN
from asr.errors import ConfigError

JOURNAL = ".asr-journal.jsonl"


def output_stems(recordings: Sequence[str]) -> list[Path]:
    """For each recording, the path of its outputs in the output folder, without extension.

    The shortest form in which all of them differ: the name alone, with the folders below the one
    they share, or with the old extension too.

    >>> [str(stem) for stem in output_stems(["x/a.wav", "x/b.wav"])]
    ['a', 'b']
    >>> [str(stem) for stem in output_stems(["x/a.wav", "x/b.wav", "y/a.wav"])]
    ['x/a', 'x/b', 'y/a']
    """
    files = [_absolute(recording) for recording in recordings if recording != STDIN]
    shared = Path(os.path.commonpath([file.parent for file in files])) if files else Path()
    relative = [
        Path("stdin") if recording == STDIN else _absolute(recording).relative_to(shared)
        for recording in recordings
    ]
    names = [Path(path.stem) for path in relative]
    paths = [path.with_suffix("") for path in relative]
    return next((form for form in (names, paths) if _all_differ(form)), relative)


@dataclass(frozen=True)
class Entry:
    """A recording that is done: what it was, what was asked for, and where it went."""

    recording: str
    size: int
    modified: int
    settings: str
    outputs: list[str]

    @classmethod
    def of(cls, recording: str, settings: str, outputs: Sequence[Path]) -> Entry:
        """For a recording as it is now, if it is there at all."""
        names = [str(output) for output in outputs]
        path = _absolute(recording)
        if recording == STDIN or not path.exists():
            return cls(recording, -1, -1, settings, names)
        status = path.stat()
        return cls(str(path), status.st_size, status.st_mtime_ns, settings, names)


class Journal:
    """What lies in an output folder, one line a finished recording."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._owner: dict[str, Entry] = {}
        path = folder / JOURNAL
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
            try:
                entry = Entry(**json.loads(line))
            except (ValueError, TypeError):
                continue  # a line cut off when the machine stopped: its recording is done again
            self._own(entry)

    def has(self, entry: Entry) -> bool:
        """Whether exactly this was done, and its outputs are still there."""
        return entry.size >= 0 and all(
            self._owner.get(output) == entry and (self.folder / output).is_file()
            for output in entry.outputs
        )

    def check_free(self, entry: Entry) -> None:
        """Raise ConfigError if an output would replace that of another recording."""
        for output in entry.outputs:
            owner = self._owner.get(output)
            if owner and owner.recording != entry.recording and (self.folder / output).is_file():
                raise ConfigError(
                    f"{entry.recording}: {self.folder / output} holds the transcript of"
                    f" {owner.recording}",
                    "remove it or choose another --out",
                )

    def add(self, entry: Entry) -> None:
        self._own(entry)
        with (self.folder / JOURNAL).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")

    def _own(self, entry: Entry) -> None:
        self._owner.update(dict.fromkeys(entry.outputs, entry))


def _absolute(recording: str) -> Path:
    return Path(os.path.abspath(recording))  # noqa: PTH100 - resolve() would rename links


def _all_differ(paths: Sequence[Path]) -> bool:
    """Also on disks where `A.txt` and `a.txt` are one file."""
    return len({str(path).casefold() for path in paths}) == len(paths)
