"""Tables of recordings and transcripts, one table a split: comma, semicolon, tab or | between the
columns.

With a header, columns are known by their usual names (below); without one they are LJ Speech's:
name, text, text with numbers spelled out. Recordings are looked for beside the table, and in
`wavs`, `clips`, `audio`; names may lack their ending. Of Common Voice's tables the splits are read,
or `validated.tsv` where there are none.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

from asr import recordings
from asr.text.encoding import read_text
from data_prep.corpus import Clip, Corpus, CorpusError, Splits
from data_prep.download import Archive

_AUDIO = (
    "audio_filepath",
    "wav_filename",
    "path",
    "file",
    "file_name",
    "filename",
    "wav",
    "audio",
    "audio_path",
    "audio_file",
    "wav_path",
    "filepath",
    "recording",
    "id",
)
_TEXT = ("normalized_text", "text", "sentence", "transcript", "transcription", "transcripts")
_SPEAKER = ("speaker", "speaker_id", "client_id", "spk")
SUFFIXES = (".csv", ".tsv", ".psv")
_FOLDERS = ("", "wavs", "clips", "audio")
_COMMON_VOICE_SPLITS = ("train", "dev", "test")
_DELIMITERS = "|\t,;"
csv.field_size_limit(1 << 20)


def read(folders: Sequence[Path], parts: Sequence[str]) -> Splits:
    root = folders[0]
    found = [root] if root.is_file() else _tables(root)
    if not found:
        raise CorpusError(f"{root}: no table, *.csv or *.tsv", "name its folder or the file")
    return {"train" if p.stem in ("metadata", "validated") else p.stem: _clips(p) for p in found}


def _tables(root: Path) -> list[Path]:
    found = sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES)
    by_name = {path.stem: path for path in found}
    if "validated" not in by_name or "client_id" not in _header(by_name["validated"]):
        return found
    splits = [by_name[name] for name in _COMMON_VOICE_SPLITS if name in by_name]
    return splits or [by_name["validated"]]


def _header(path: Path) -> str:
    with path.open("rb") as file:
        return file.readline(1 << 16).decode("utf-8", "replace")


def _clips(path: Path) -> Iterator[Clip]:
    rows = _rows(path)
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
    needed = max(2, audio_column + 1, text_column + 1, (speaker_column or 0) + 1)
    for row in rows:
        if len(row) < needed:
            yield Clip(Path(row[0][:80]), "", problem=f"a row of {path.name} that lacks columns")
            continue
        speaker = None if speaker_column is None else row[speaker_column] or None
        yield Clip(_find(path.parent, row[audio_column].strip()), row[text_column], speaker)


def _rows(path: Path) -> list[list[str]]:
    """All rows that are not empty. Raises CorpusError for a file that is no table."""
    try:
        text, _ = read_text(path)
        first = text.partition("\n")[0]
        delimiter = max(_DELIMITERS, key=first.count)
        # Transcripts hold unpaired quotes; only tables as spreadsheets write them need quoting.
        quotes = '"' if delimiter in ",;" else None
        return list(
            filter(None, csv.reader(io.StringIO(text), delimiter=delimiter, quotechar=quotes))
        )
    except (OSError, ValueError, csv.Error) as error:
        raise CorpusError(f"{path}: cannot be read as a table: {error}") from error


def _column(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)


def _find(folder: Path, name: str) -> Path:
    for sub_folder in _FOLDERS:
        for suffix in ("", *recordings.SUFFIXES):
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
