"""Tables of recordings and transcripts: comma, tab or | between the columns, one table a split.

With a header, columns are known by their usual names (below); without one they are LJ Speech's:
name, text, text with numbers spelled out. Recordings are looked for beside the table, and in
`wavs`, `clips`, `audio`; names may lack their ending.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from data_prep.corpus import Clip, Corpus, CorpusError, Splits
from data_prep.download import Archive
from data_prep.recipes.folder import AUDIO

_AUDIO = (
    "audio_filepath",
    "wav_filename",
    "path",
    "file",
    "file_name",
    "filename",
    "wav",
    "audio",
    "id",
)
_TEXT = ("normalized_text", "text", "sentence", "transcript", "transcription")
_SPEAKER = ("speaker", "speaker_id", "client_id")
_SUFFIXES = {".csv", ".tsv", ".psv"}
_FOLDERS = ("", "wavs", "clips", "audio")


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    root = folders[0]
    found = [root] if root.is_file() else sorted(p for p in root.iterdir() if p.suffix in _SUFFIXES)
    if not found:
        raise CorpusError(f"{root}: no table, *.csv or *.tsv", "name its folder or the file")
    return {"train" if p.stem == "metadata" else p.stem: _clips(p) for p in found}


def _clips(path: Path) -> Iterator[Clip]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        first = file.readline()
        file.seek(0)
        delimiter = max("|\t,", key=first.count)
        # Transcripts hold unpaired quotes; only comma-separated tables need quoting.
        quotes = '"' if delimiter == "," else None
        rows = list(csv.reader(file, delimiter=delimiter, quotechar=quotes))
    names = [name.strip().lower() for name in rows[0]] if rows else []
    audio_column, text_column = _column(names, _AUDIO), _column(names, _TEXT)
    speaker_column = _column(names, _SPEAKER)
    if text_column is None:
        audio_column, text_column, speaker_column = 0, -1, None
    else:
        rows = rows[1:]
    if audio_column is None:
        raise CorpusError(
            f"{path}: no column names the recordings: {', '.join(names)}", f"call it {_AUDIO[0]}"
        )
    for row in rows:
        if len(row) < max(2, audio_column + 1, text_column + 1, (speaker_column or 0) + 1):
            raise CorpusError(f"{path}: a row lacks columns: {row}")
        speaker = None if speaker_column is None else row[speaker_column] or None
        yield Clip(_find(path.parent, row[audio_column]), row[text_column], speaker)


def _column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _find(folder: Path, name: str) -> Path:
    for sub_folder in _FOLDERS:
        for suffix in ("", *AUDIO):
            path = folder / sub_folder / f"{name}{suffix}"
            if path.is_file():
                return path
    return folder / name  # to be reported as missing, one utterance at a time


CORPUS = Corpus(
    name="csv",
    title="any table of recordings and transcripts, LJ Speech's among them",
    licence="yours",
    languages="",
    read=read,
    instructions="asr-prepare csv --from-folder FOLDER --to DIR",
)

LJSPEECH = Corpus(
    name="ljspeech",
    title="LJ Speech: one reader of non-fiction books",
    licence="public domain",
    languages="en",
    hours=23.9,
    read=read,
    archives=(
        Archive(
            "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
            2_748_572_632,
            "sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        ),
    ),
    inside="LJSpeech-1.1",
    page="https://keithito.com/LJ-Speech-Dataset/",
)
