"""AN4: spelled names, addresses and numbers (Acero 1993), 948 training and 130 test utterances.

an4/etc/an4_train.fileids           an4_clstk/fash/an251-fash-b
an4/etc/an4_train.transcription     <s> YES </s> (an251-fash-b)
an4/wav/an4_clstk/fash/an251-fash-b.sph
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.corpus import Clip, Corpus, Splits, required
from data_prep.download import Archive


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    return {split: _clips(folders[0], split) for split in ("train", "test")}


def _clips(root: Path, split: str) -> Iterator[Clip]:
    file_ids = root / "etc" / f"an4_{split}.fileids"
    transcription = root / "etc" / f"an4_{split}.transcription"
    required(file_ids, transcription)
    texts = {}
    for line in transcription.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"(?:<s>)?(.*?)(?:</s>)?\s*\((\S+)\)\s*$", line):
            texts[match[2]] = match[1].strip()
    for file_id in file_ids.read_text(encoding="utf-8").split():
        path = root / "wav" / f"{file_id}.sph"
        yield Clip(path, texts.get(path.stem, ""), speaker=path.parent.name)


CORPUS = Corpus(
    name="an4",
    title="AN4: spelled names, addresses and numbers",
    licence="free, see its README",
    languages="en",
    hours=0.9,
    read=read,
    archives=(
        Archive(
            "https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz",
            checksum="sha256:a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12",
        ),
    ),
    gigabytes=0.064,
    inside="an4",
    page="http://www.speech.cs.cmu.edu/databases/an4/",
)
