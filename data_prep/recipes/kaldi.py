"""Kaldi data directories: `wav.scp`, `text`, and where they are there `segments`, `utt2spk`,
`reco2file_and_channel`. A folder of such directories is read as one split for each.

A `wav.scp` may hold commands (`sph2pipe … x.sph |`). None is ever run: of a command only the one
existing file that it names is taken, and read by ourselves.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.text.encoding import read_text
from data_prep.corpus import Clip, Corpus, CorpusError, Splits, required
from data_prep.download import Archive


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    root = folders[0]
    if (root / "wav.scp").exists():
        return {root.name: clips(root)}
    found: Splits = {d.name: clips(d) for d in sorted(root.iterdir()) if (d / "wav.scp").exists()}
    if not found:
        raise CorpusError(f"{root}: no Kaldi data directory", "name the folder that holds wav.scp")
    return found


def clips(directory: Path) -> Iterator[Clip]:
    """The utterances of one data directory, in the order of its `text`."""
    required(directory / "wav.scp", directory / "text")
    recordings = _table(directory / "wav.scp")
    speakers = _table(directory / "utt2spk")
    segments = _table(directory / "segments")
    sides = _table(directory / "reco2file_and_channel")
    paths = {name: _path(directory, value) for name, value in recordings.items()}
    for utterance, text in _table(directory / "text").items():
        recording, start, duration = utterance, 0.0, None
        if utterance in segments:
            recording, begin, end = segments[utterance].split()
            start = float(begin)
            duration = float(end) - start if float(end) > 0 else None  # -1: to the end
        if recording not in paths:
            raise CorpusError(
                f"{directory / 'wav.scp'}: no recording {recording!r} for {utterance!r}"
            )
        side = sides.get(recording, "").split()[-1:]
        channel = {"A": 0, "B": 1}.get(side[0]) if side else None
        yield Clip(
            paths[recording], text, speakers.get(utterance), utterance, start, duration, channel
        )


def _table(path: Path) -> dict[str, str]:
    """`key value …` lines; an optional file that is not there is an empty table."""
    if not path.exists():
        return {}
    lines = (line.split(maxsplit=1) for line in read_text(path)[0].split("\n"))
    return {key: "".join(value).strip() for key, *value in filter(None, lines)}


def _path(directory: Path, value: str) -> Path:
    """The file that an entry of wav.scp means, looked for beside it and in the folders above."""
    is_command = value.endswith("|")
    words = shlex.split(value.rstrip("| ")) if is_command else [value]
    folders = [directory, *directory.absolute().parents, Path()]
    # Of a command the last file counts: its programs may be files too.
    for word in reversed(words):
        for folder in folders:
            if (folder / word).is_file():
                return folder / word
    if is_command:
        raise CorpusError(f"{directory / 'wav.scp'}: no file behind the command {value!r}")
    return directory / value  # to be reported as missing, one utterance at a time


CORPUS = Corpus(
    name="kaldi",
    title="any Kaldi data directory",
    licence="yours",
    languages="",
    read=read,
    instructions="asr-prepare kaldi --from-folder data/train --to DIR",
)

SPEECHOCEAN762 = Corpus(
    name="speechocean762",
    title="speechocean762: English by speakers of Mandarin, half of them children",
    licence="free for commercial and other use",
    languages="en",
    hours=6.0,
    read=read,
    archives=(Archive("https://www.openslr.org/resources/101/speechocean762.tar.gz"),),
    gigabytes=0.52,
    inside="speechocean762",
    page="https://www.openslr.org/101/",
)
