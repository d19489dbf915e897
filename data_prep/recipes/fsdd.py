"""Free Spoken Digit Dataset: `recordings/7_jackson_32.wav` is the digit seven, at 8 kHz.

The first five recordings of each speaker and digit are the test set, as its README defines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from asr.text.english_numbers import cardinal
from data_prep.corpus import Clip, Corpus, Splits, required
from data_prep.download import Archive

N_TEST = 5


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    recordings = folders[0] / "recordings"
    required(recordings)
    return {split: _clips(recordings, split == "test") for split in ("train", "test")}


def _clips(recordings: Path, test: bool) -> Iterator[Clip]:
    for path in sorted(recordings.glob("[0-9]_*_*.wav")):
        digit, speaker, number = path.stem.split("_")
        if (int(number) < N_TEST) == test:
            yield Clip(path, cardinal(int(digit)), speaker)


CORPUS = Corpus(
    name="fsdd",
    title="Free Spoken Digit Dataset",
    licence="CC BY-SA 4.0",
    languages="en",
    hours=0.4,
    read=read,
    archives=(
        Archive(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",
            11_975_353,
            "sha256:8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0",
        ),
    ),
    inside="free-spoken-digit-dataset-1.0.9",
    page="https://github.com/Jakobovski/free-spoken-digit-dataset",
)
