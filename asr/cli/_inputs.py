"""From what stands on the command line to the recordings that are meant."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

STDIN = "-"
# In a folder, files with these extensions are taken; a file that is named is read whatever its own.
_SUFFIXES = """
.wav .flac .ogg .oga .opus .mp3 .m4a .m4b .mp4 .aac .webm .mkv .mka .mov .avi .wma .aif .aiff .aifc
.au .caf .w64 .amr .3gp .ac3 .ts .sph
"""
SUFFIXES = frozenset(_SUFFIXES.split())


def expand(arguments: Iterable[str]) -> list[str]:
    """Files, folders (searched through), patterns and `-` as recordings, each once, in order.

    What matches nothing stays as it is: reading it gives the error.
    """
    return list(dict.fromkeys(path for argument in arguments for path in _expand(argument)))


def _expand(argument: str) -> Iterator[str]:
    path = Path(argument)
    if argument == STDIN:
        yield argument
    elif path.is_dir():
        found = [str(p) for p in sorted(path.rglob("*")) if _is_recording(p, path)]
        yield from found or [argument]
    elif glob.has_magic(argument) and not path.exists():
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - of any folder
        for match in matches:
            yield from _expand(match) if Path(match).is_dir() else [match]
        if not matches:
            yield argument
    else:
        yield argument


def _is_recording(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()
