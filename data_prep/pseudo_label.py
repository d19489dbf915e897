"""Transcripts by a model for recordings that have none: what it is sure of becomes training data.

Pseudo-labels (Kahn et al., ICASSP 2020) are only as good as the model, so most of the care is in
what to leave out: recordings with few words, and doubtful ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from asr import cluster
from asr.config import build, to_dict
from asr.errors import ASRError
from asr.files import JSON_ESCAPE
from asr.recordings import SUFFIXES, find_recordings
from asr.types import Transcript, Word
from data_prep.clips import Skipped
from data_prep.corpus import Clip, CorpusError

WHOLE_SECONDS = 20.0  # up to this length a recording stays one utterance


def recordings(paths: Iterable[Path]) -> list[Path]:
    """The recordings among files and, to any depth, in folders. Raises CorpusError if none."""
    found: list[Path] = []
    for path in paths:
        found += find_recordings(path) if path.is_dir() else [path]
    if not found:
        raise CorpusError("no recordings in there", f"endings that are known: {' '.join(SUFFIXES)}")
    return found


def transcriber(model: Path | None) -> Callable[[str], Transcript]:
    """What transcribes a recording in a process of a cluster, which has one core."""
    import asr

    return asr.load(model, threads=1).transcribe


class Journal:
    """A `transcribe` that saves its transcripts, and reuses them.

    A line of JSON for each recording, in `path`: an interrupted run resumes from there, and so
    does one that keeps more or less of the same recordings. Recordings that have changed, or that
    another model transcribed, are transcribed again; unreadable ones are tried again.
    """

    def __init__(self, path: Path, model: str, transcribe: Callable[[str], Transcript]):
        self.reused = 0
        self._failed: dict[str, Exception] = {}
        self._filled: set[str] = set()
        self._path, self._model, self._transcribe = path, model, transcribe
        self._begins: dict[str, int] = {}  # of the lines in the file, by what was heard
        if path.exists():
            self._look_through()

    def __call__(self, recording: str) -> Transcript:
        """See `Recognizer.transcribe`."""
        if recording in self._failed:
            raise self._failed[recording]
        heard = self._key(recording)
        if heard is None:
            return self._transcribe(recording)  # which says what is wrong
        if heard in self._begins:
            self.reused += heard not in self._filled
            return self._read(self._begins[heard])
        transcript = self._transcribe(recording)
        self._add(heard, transcript)
        return transcript

    def fill(self, recordings: Iterable[Path], address: str, model: Path | None) -> None:
        """Transcribe the recordings that are not in there on a cluster (`asr.cluster`)."""
        left = [str(path) for path in recordings if self._key(str(path)) not in self._begins]
        with cluster.connected(address):
            for number, found in cluster.each(address, left, partial(transcriber, model)):
                heard = self._key(left[number])
                if isinstance(found, Exception) or heard is None:
                    self._failed[left[number]] = found
                else:
                    self._begins[heard] = self._add(heard, found)
                    self._filled.add(heard)

    def _key(self, recording: str) -> str | None:
        """What a transcript depends on: the model, and the recording as it is; None without it."""
        path = Path(recording).resolve()
        if not path.exists():
            return None
        status = path.stat()
        return f"{self._model} {status.st_size} {status.st_mtime_ns} {path}"

    def _add(self, heard: str, transcript: Transcript) -> int:
        """Append a transcript; returns where its line begins."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"heard": heard, **to_dict(transcript)}, ensure_ascii=False)
        with self._path.open("ab") as file:
            begin = file.tell()
            file.write(line.encode(errors=JSON_ESCAPE) + b"\n")
        return begin

    def _look_through(self) -> None:
        whole = 0
        with self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    self._begins[json.loads(line)["heard"]] = whole
                    whole += len(line)
        os.truncate(self._path, whole)  # the last line, if it was cut off

    def _read(self, begin: int) -> Transcript:
        with self._path.open("rb") as file:
            file.seek(begin)
            found = json.loads(file.readline())
        del found["heard"]
        return build(Transcript, found, "transcript")


def pseudo_label(
    paths: Iterable[Path],
    transcribe: Callable[[str], Transcript],
    *,
    confidence: float,
    min_words: int,
    skipped: Skipped,
) -> Iterator[Clip]:
    """What `transcribe` says of recordings, where its words are right with that probability.

    Recordings up to `WHOLE_SECONDS` stay whole, longer ones are taken apart at their pauses. The
    confidence of a clip is the mean of those of its words, in `extra`. What has fewer words than
    `min_words`, or is doubted, or cannot be read, is `skipped`.
    """
    for path in paths:
        try:
            transcript = transcribe(str(path))
        except ASRError as error:
            skipped.add("cannot be read", str(error))
            continue
        for clip, words in _clips(path, transcript):
            if len(words) < min_words:
                skipped.add(f"fewer than {min_words} words", clip.id)
                continue
            sure = sum(word.confidence for word in words) / len(words)
            if sure < confidence:
                skipped.add(f"confidence below {confidence:g}", clip.id)
                continue
            clip.extra.update(confidence=round(sure, 3), pseudo_label=transcript.model)
            yield clip


def _clips(path: Path, transcript: Transcript) -> Iterator[tuple[Clip, Sequence[Word]]]:
    if transcript.duration <= WHOLE_SECONDS:
        yield Clip(path, transcript.text, id=path.stem), transcript.words
        return
    for number, segment in enumerate(transcript.segments):
        duration = segment.end - segment.start
        name = f"{path.stem}-{number:04d}"
        clip = Clip(path, segment.text, id=name, start=segment.start, duration=duration)
        yield clip, segment.words
