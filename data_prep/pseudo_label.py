"""Transcripts by a model for recordings that have none: what it is sure of becomes training data.

Pseudo-labels (Kahn et al., ICASSP 2020) are only as good as the model, so most of the care is in
what to leave out: what it heard little in, and what it doubts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from asr.errors import AudioError
from asr.types import Transcript, Word
from data_prep.clips import Skipped
from data_prep.corpus import Clip, CorpusError
from data_prep.recipes.folder import AUDIO

WHOLE_SECONDS = 20.0  # up to this length a recording stays one utterance


def recordings(paths: Iterable[Path]) -> list[Path]:
    """The recordings among files and, to any depth, in folders. Raises CorpusError if none."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in AUDIO)
        found += inside if path.is_dir() else [path]
    if not found:
        raise CorpusError("no recordings in there", f"endings that are known: {' '.join(AUDIO)}")
    return found


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
        except AudioError as error:
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
