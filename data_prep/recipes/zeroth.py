"""Zeroth-Korean: read news, 105 speakers to train on and 10 others to test with.

train_data_01/003/106/106_003.trans.txt      106_003_0000 인사를 결정하는 …
train_data_01/003/106/106_003_0000.flac
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.corpus import Clip, Corpus, Splits, required
from data_prep.download import Archive


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    data = {split: folders[0] / f"{split}_data_01" for split in ("train", "test")}
    required(*data.values())
    return {split: _clips(folder) for split, folder in data.items()}


def _clips(folder: Path) -> Iterator[Clip]:
    for transcript in sorted(folder.rglob("*.trans.txt")):
        for line in transcript.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            if name:
                speaker = transcript.parent.name
                yield Clip(transcript.parent / f"{name}.flac", text, speaker)


CORPUS = Corpus(
    name="zeroth-korean",
    title="Zeroth-Korean: read news",
    licence="CC BY 4.0",
    languages="ko",
    hours=52.8,
    read=read,
    archives=(
        Archive(
            "https://www.openslr.org/resources/40/zeroth_korean.tar.gz",
            10_339_720_618,
            "md5:8e0a4268bb8e80db3773c331025ef1e2",
        ),
    ),
    page="https://www.openslr.org/40/",
)
