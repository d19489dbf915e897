"""`asr evaluate`: error rates on recordings with known text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asr.cli import warn
from asr.cli._progress import Progress
from asr.cli._recognizer_options import Settings, recognizer_options
from asr.errors import AudioError, ManifestError
from asr.files import replacing

if TYPE_CHECKING:
    from asr.analysis.metrics import Comparison
    from asr.recognizer import Recognizer
    from asr.types import Utterance

BATCH = 32  # utterances that are recognised together


@dataclass
class Result:
    """Results of one manifest.

    silent: recordings with an empty reference, and the words that were recognised there;
    silent_seconds: how long they are in all. failures: recordings that could not be read.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    silent: list[tuple[str, str]] = field(default_factory=list)
    silent_seconds: float = 0.0
    failures: int = 0

    @property
    def inserted(self) -> int:
        """Words that were recognised in recordings without speech."""
        return sum(len(text.split()) for _, text in self.silent)

    @property
    def insertions_per_minute(self) -> float:
        return 60 * self.inserted / self.silent_seconds if self.silent_seconds else 0.0


@click.command(context_settings={"show_default": True})
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    required=True,
    metavar="FILE",
    help="JSON lines with audio_filepath, duration and text. Repeatable.",
)
@click.option(
    "--report",
    "report_folder",
    metavar="FOLDER",
    help="Write FOLDER/MANIFEST.txt: confusions and all aligned utterances, worst first.",
)
@recognizer_options(punctuation=False)
def command(settings: Settings, manifests: tuple[str, ...], report_folder: str | None) -> int:
    """Measure the error rates of a model, separately for each manifest.

    References and results are normalised in the same way. WER has a 95 % confidence interval. Words
    recognised in recordings without speech (an empty text) count separately, as insertions per
    minute. Recordings that are damaged or cannot be read are skipped, and the exit status is 1.
    With --vad none each recording is decoded as a whole, however long it is.

    \b
      asr evaluate --manifest dev.jsonl
      asr evaluate -m models/mine --manifest a.jsonl --manifest b.jsonl --report errors/
    """
    from asr.data.manifest import read_manifest

    sets = [(path, read_manifest(path)) for path in manifests]
    for path, utterances in sets:
        if not utterances:
            raise ManifestError(f"{path}: has no utterances", "add recordings with their texts")
    recognizer, use_vad = settings.load(), settings.vad != "none"
    failures = 0
    for path, utterances in sets:
        began = time.monotonic()
        with Progress(len(utterances)) as progress:
            result = _compare(recognizer, utterances, use_vad, progress)
        elapsed = time.monotonic() - began
        failures += result.failures
        seconds = sum(utterance.duration for utterance in utterances)
        click.echo(_summary(path, result, seconds, elapsed))
        if report_folder:
            _write_report(Path(report_folder), path, result)
    return int(failures > 0)


def _compare(
    recognizer: Recognizer, utterances: Sequence[Utterance], use_vad: bool, progress: Progress
) -> Result:
    from asr.analysis.metrics import compare
    from asr.text.languages import normalizer

    normalize = normalizer(recognizer.bundle.config.language)
    result = Result()
    for first in range(0, len(utterances), BATCH):
        batch = utterances[first : first + BATCH]
        recognized = _recognize(recognizer, batch, use_vad)
        for utterance, found in zip(batch, recognized, strict=True):
            progress.finish(utterance.name, utterance.duration)
            if isinstance(found, AudioError):
                result.failures += 1
                with progress.hidden():
                    warn(found)
                continue
            text, seconds = found
            reference, hypothesis = normalize(utterance.text), normalize(text)
            if reference:
                result.comparisons.append(compare(reference, hypothesis, utterance.name))
            else:
                result.silent.append((utterance.name, hypothesis))
                result.silent_seconds += seconds
    return result


def _recognize(
    recognizer: Recognizer, utterances: Sequence[Utterance], use_vad: bool
) -> list[tuple[str, float] | AudioError]:
    """The text and duration (s) of each recording, or why it cannot be evaluated."""
    from asr.audio import SAMPLE_RATE
    from asr.data.manifest import read_audio

    results: list[tuple[str, float] | AudioError] = [("", 0.0)] * len(utterances)
    waveforms = {}
    for i, utterance in enumerate(utterances):
        try:
            if not use_vad:
                waveforms[i] = read_audio(utterance)
                continue
            if utterance.offset is None:
                transcript = recognizer.transcribe(utterance.audio_filepath)
            else:
                transcript = recognizer.transcribe(read_audio(utterance), SAMPLE_RATE)
            if transcript.losses:
                loss = transcript.losses[0]
                raise AudioError(
                    f"{utterance.name}: damaged after {loss.start:.2f} s: {loss.reason}",
                    "left out; copy it again, or convert it to FLAC and take that",
                )
            results[i] = transcript.text, transcript.duration
        except AudioError as error:
            results[i] = error
    hypotheses = recognizer.recognize(list(waveforms.values()))
    for (i, waveform), hypothesis in zip(waveforms.items(), hypotheses, strict=True):
        results[i] = hypothesis.text, len(waveform) / SAMPLE_RATE
    return results


def _summary(title: str, result: Result, seconds: float, took: float) -> str:
    from asr.analysis.metrics import confidence_interval, total

    words = total(c.words for c in result.comparisons)
    characters = total(c.characters for c in result.comparisons)
    low, high = confidence_interval([c.words for c in result.comparisons])
    speed = f"{seconds / 3600:.2f} h in {took:.0f} s: {seconds / took:.0f}x real time"
    lines = [f"{title}: {len(result.comparisons)} utterances, {words.reference} words"]
    if result.comparisons:
        lines += [
            f"  WER {words.rate:7.2%}  [{low:.2%}, {high:.2%}]  {words.substitutions}"
            f" substitutions, {words.deletions} deletions, {words.insertions} insertions",
            f"  CER {characters.rate:7.2%}  {speed}",
        ]
    else:
        lines.append(f"  no error rate: no recording that could be read has a text  {speed}")
    if result.silent:
        lines.append(f"  {_silence(result)}")
    return "\n".join(lines)


def _silence(result: Result) -> str:
    return (
        f"{len(result.silent)} recordings without speech, {result.silent_seconds / 60:.2f} min:"
        f" {result.inserted} words inserted, {result.insertions_per_minute:.2f} a minute"
    )


def _write_report(folder: Path, manifest: str, result: Result) -> None:
    from asr.analysis.metrics import error_report

    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join(Path(manifest).with_suffix("").parts[-2:])  # commonvoice-en/dev.jsonl
    report = error_report(manifest, result.comparisons)
    if result.silent:
        inserted = (
            f"{len(text.split()):3}     {name}\n        {text}\n"
            for name, text in result.silent
            if text
        )
        report += f"\nSilence\n{_silence(result)}\n" + "".join(inserted)
    with replacing(folder / f"{name}.txt") as temporary:
        temporary.write_text(report, encoding="utf-8", errors="backslashreplace")
