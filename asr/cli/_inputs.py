"""From what stands on the command line to the recordings that are meant."""

from __future__ import annotations

import glob
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from asr.recordings import SUFFIXES, find_recordings

STDIN = "-"
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


@dataclass(frozen=True, slots=True)
class Input:
    """A recording, and its name below an output folder.

    The name depends on the argument that named the recording alone: it is the name of the file, or
    its path below the folder or the fixed part of the pattern that was given.
    """

    path: str
    name: Path

    def stem(self, full_names: bool = False) -> Path:
        """The name of its outputs, to which an extension is added; `full_names` keep their own."""
        return self.name if full_names else self.name.with_suffix("")


class RecordingsCommand(click.Command):
    """A command that takes recordings, one of which may be called like an option."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        takes_value = {
            name
            for option in self.params
            if isinstance(option, click.Option) and not option.is_flag
            for name in option.opts
        }
        before = args[: args.index("--")] if "--" in args else args
        for previous, argument in zip(["", *before], before, strict=False):
            if not argument.startswith("-") or argument == STDIN or "=" in argument:
                continue
            is_file = Path(argument).suffix.lower() in SUFFIXES or os.path.lexists(argument)
            if is_file and previous not in takes_value:
                raise click.UsageError(
                    f"{argument} begins like an option; names of files that do so go behind --:"
                    f" {context.command_path} -- {shlex.quote(argument)}",
                    context,
                )
        return super().parse_args(context, args)


def expand(arguments: Iterable[str]) -> list[str]:
    """The recordings of `expand_inputs`, without the names of their outputs."""
    return [found.path for found in expand_inputs(arguments)]


def expand_inputs(arguments: Iterable[str]) -> list[Input]:
    """Files, folders (searched through), patterns and `-` as recordings, each once, in order.

    What matches nothing stays as it is: reading it gives the error. Raises click.UsageError for
    addresses and empty names.
    """
    found: dict[str, Input] = {}
    for argument in arguments:
        check_is_file_name(argument)
        for item in _expand(argument):
            found.setdefault(item.path if item.path == STDIN else absolute(item.path), item)
    return list(found.values())


def check_is_file_name(argument: str) -> None:
    """Raise click.UsageError for what is an address and no file, with how to fetch it, and for an
    empty name, which would otherwise be the current folder."""
    if not argument:
        raise click.UsageError("a name is empty (give the name of a recording, or . for a folder)")
    match = _ADDRESS.match(argument)
    if not match or Path(argument).exists():
        return
    scheme, quoted = match[1].lower(), shlex.quote(argument)
    name = shlex.quote(argument.rstrip("/").rsplit("/", 1)[-1].split("?")[0] or "recording")
    remedy = {
        "s3": f"fetch it with: aws s3 cp {quoted} .",
        "gs": f"fetch it with: gcloud storage cp {quoted} .",
        "file": f"give the path: {shlex.quote(argument[match.end() :])}",
    }.get(
        scheme,
        f"fetch it with: curl -L -o {name} {quoted}; the sound of a page with a video with:"
        f" yt-dlp -x {quoted}",
    )
    raise click.UsageError(f"{argument} is an address, and files are read here ({remedy})")


def absolute(recording: str) -> str:
    return os.path.abspath(recording)  # noqa: PTH100 - resolve() would rename links


def named_input(recording: str) -> Input:
    """A recording that is named by itself."""
    if recording == STDIN:
        return Input(recording, Path("stdin"))
    return Input(recording, Path(Path(absolute(recording)).name))


def input_below(recording: str, folder: Path) -> Input:
    """A recording that a file in `folder`, a manifest, names."""
    path, base = Path(absolute(recording)), Path(absolute(str(folder)))
    return (
        Input(recording, path.relative_to(base)) if base in path.parents else named_input(recording)
    )


def check_names_differ(inputs: Sequence[Input], full_names: bool = False) -> None:
    """Raise click.UsageError if two recordings would have the same outputs."""
    owners: dict[str, Input] = {}
    for item in inputs:
        name = str(item.stem(full_names))
        # Elsewhere A.txt and a.txt are most likely one file.
        owner = owners.setdefault(name if os.name == "posix" else name.casefold(), item)
        if owner is not item:
            full = "" if full_names else ", or give --full-names, which keeps their extensions"
            raise click.UsageError(
                f"{owner.path} and {item.path} would both be written to {name}.* (give the folder"
                f" that holds both, write them to different folders{full})"
            )


def _expand(argument: str) -> Iterator[Input]:
    path = Path(argument)
    if argument != STDIN and path.is_dir():
        yield from list(_inside(path, path)) or [named_input(argument)]
    elif glob.has_magic(argument) and not path.exists():
        matches = sorted(glob.glob(argument, recursive=True))  # noqa: PTH207 - of any folder
        base = _fixed_part(argument)
        for match in map(Path, matches):
            if match.is_dir():
                yield from _inside(match, base)
            else:
                yield Input(str(match), match.relative_to(base))
        if not matches:
            yield named_input(argument)
    else:
        yield named_input(argument)


def _inside(folder: Path, base: Path) -> Iterator[Input]:
    for path in find_recordings(folder):
        yield Input(str(path), path.relative_to(base))


def _fixed_part(pattern: str) -> Path:
    """
    >>> str(_fixed_part("talks/**/*.wav")), str(_fixed_part("*.wav"))
    ('talks', '.')
    """
    fixed: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)
