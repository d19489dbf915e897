"""What `asr evaluate` and `asr compare` share: recognising a manifest, and its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asr import stores
from asr.cli import note, warn
from asr.cli._progress import Progress
from asr.cli._recognizer_options import Settings
from asr.cluster import each
from asr.errors import ASRError, AudioError, ManifestError

if TYPE_CHECKING:
    from asr.analysis.scoring import Recognised
    from asr.recognizer import Recognizer
    from asr.types import Utterance

BATCH = 32  # utterances that are recognised together

normalize_option = click.option(
    "--normalize",
    type=click.Choice(["asr", "whisper", "none"]),
    default="asr",
    help="How references and results are normalised: asr as for training; whisper as Whisper's"
    " published figures; none compares words as they are.",
)


def read_utterances(path: str | Path) -> list[Utterance]:
    """The utterances of a manifest. Raises ManifestError if there are none."""
    from asr.data.manifest import read_manifest

    utterances = read_manifest(path)
    if not utterances:
        raise ManifestError(f"{path}: has no utterances", "add recordings with their texts")
    return utterances


def recognize(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    settings: Settings,
    cluster: str | None = None,
) -> list[Recognised | AudioError]:
    """What is recognised in each recording, or why it cannot be evaluated.

    `cluster`: where to do it (`asr.cluster`); `recognizer` does it here.
    """
    batches = [utterances[first : first + BATCH] for first in range(0, len(utterances), BATCH)]
    make = partial(_recognition, settings, recognizer if cluster is None else None)
    results: dict[int, list[Recognised | AudioError]] = {}
    with Progress(len(utterances)) as progress:
        for number, found in each(cluster, batches, make, name=lambda batch: batch[0].name):
            if isinstance(found, Exception):
                if not isinstance(found, ASRError):
                    raise found
                found = [AudioError(found.cause, found.remedy)] * len(batches[number])
            results[number] = found
            for utterance, one in zip(batches[number], found, strict=True):
                progress.finish(utterance.name, utterance.duration)
                if isinstance(one, AudioError):
                    with progress.hidden():
                        warn(one)
    return [one for number in range(len(batches)) for one in results[number]]


def _recognition(
    settings: Settings, recognizer: Recognizer | None
) -> Callable[[Sequence[Utterance]], list[Recognised | AudioError]]:
    """What recognises a batch; without a recogniser, in a process of a cluster, with its own."""
    recognizer = recognizer or settings.on_one_core().load(quiet=True)
    return partial(recognize_batch, recognizer, settings.vad != "none")


def recognize_batch(
    recognizer: Recognizer, use_vad: bool, utterances: Sequence[Utterance]
) -> list[Recognised | AudioError]:
    """As `recognize`, of utterances that are decoded together."""
    from asr.analysis.scoring import Recognised
    from asr.audio import SAMPLE_RATE
    from asr.data.manifest import read_audio

    results: list[Recognised | AudioError] = [Recognised("")] * len(utterances)
    waveforms = {}
    for i, utterance in enumerate(utterances):
        try:
            if not use_vad:
                waveforms[i] = read_audio(utterance)
                continue
            if utterance.offset is None:
                with stores.reading(utterance.audio_filepath) as recording:
                    transcript = recognizer.transcribe(recording)
            else:
                transcript = recognizer.transcribe(read_audio(utterance), SAMPLE_RATE)
            if transcript.losses:
                loss = transcript.losses[0]
                raise AudioError(
                    f"{utterance.name}: damaged after {loss.start:.2f} s: {loss.reason}",
                    "left out; copy it again, or convert it to FLAC and take that",
                )
            results[i] = Recognised(transcript.text, transcript.words, transcript.duration)
        except AudioError as error:
            results[i] = error
    hypotheses = recognizer.recognize(list(waveforms.values()))
    for (i, waveform), hypothesis in zip(waveforms.items(), hypotheses, strict=True):
        results[i] = Recognised(hypothesis.text, hypothesis.words, len(waveform) / SAMPLE_RATE)
    return results


def read_recognized(path: str | Path, utterances: Sequence[Utterance]) -> list[Recognised]:
    """The transcripts of another recogniser; utterances without one count as empty."""
    from asr.analysis.hypotheses import read_hypotheses
    from asr.analysis.scoring import Recognised

    texts = read_hypotheses(path, utterances)
    missing = [u.name for u, text in zip(utterances, texts, strict=True) if text is None]
    if missing:
        note(f"{path}: no text for {len(missing)} utterances, such as {missing[0]}: all deleted")
    return [Recognised(text or "") for text in texts]
