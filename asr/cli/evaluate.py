"""`asr evaluate`: error rates on recordings with known text."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from asr.cli import complain
from asr.cli._batch import Settings
from asr.cli._progress import Progress
from asr.errors import AudioError
from asr.files import replacing

if TYPE_CHECKING:
    from asr.metrics import Comparison
    from asr.recognizer import Recognizer
    from asr.types import Utterance

BATCH = 32  # utterances that are recognised together


@click.command(context_settings={"show_default": True})
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    required=True,
    metavar="FILE",
    help="JSON lines with audio_filepath, duration and text. May be given several times.",
)
@click.option("--model", "-m", metavar="FOLDER", help="Model to use.  [default: bundled English]")
@click.option(
    "--decoder",
    type=click.Choice(["beam", "greedy"]),
    default="beam",
    help="As in `asr transcribe`.",
)
@click.option("--beam", type=click.IntRange(1), help="Hypotheses the search keeps.")
@click.option("--hotwords", metavar="FILE", help="Phrases to listen for, one a line.")
@click.option(
    "--vad/--no-vad",
    "use_vad",
    default=True,
    help="Find speech first, as for long recordings, or take each recording as a whole.",
)
@click.option("--reject/--no-reject", default=True, help="As in `asr transcribe`.")
@click.option("--threads", "-t", type=click.IntRange(1), help="Cores to use.  [default: all]")
@click.option(
    "--report",
    "report_folder",
    metavar="FOLDER",
    help="Write FOLDER/MANIFEST.txt: confusions, and every utterance aligned, the worst first.",
)
def command(
    manifests: tuple[str, ...], use_vad: bool, report_folder: str | None, **choices: Any
) -> int:
    """Count the errors of a model, for each manifest by itself.

    Reference and result are normalised in the same way. WER comes with its 95 % confidence
    interval. Exit status 1 if a recording could not be read; it is left out.

    \\b
      asr evaluate --manifest dev.jsonl
      asr evaluate -m models/mine --manifest a.jsonl --manifest b.jsonl --report errors/
    """
    from asr.data.manifest import read_manifest

    sets = [(path, read_manifest(path)) for path in manifests]
    recognizer = Settings(**choices).load()
    unreadable = 0
    for path, utterances in sets:
        began = time.monotonic()
        with Progress(len(utterances)) as progress:
            comparisons, failures = _compare(recognizer, utterances, use_vad, progress)
        elapsed = time.monotonic() - began
        unreadable += failures
        seconds = sum(utterance.duration for utterance in utterances)
        click.echo(_summary(path, comparisons, seconds, elapsed))
        if report_folder:
            _write_report(Path(report_folder), path, comparisons)
    return int(unreadable > 0)


def _compare(
    recognizer: Recognizer, utterances: Sequence[Utterance], use_vad: bool, progress: Progress
) -> tuple[list[Comparison], int]:
    """Comparisons of all utterances that have a text, and how many could not be read."""
    from asr.metrics import compare
    from asr.text.languages import normalizer

    normalize = normalizer(recognizer.bundle.config.language)
    spoken = [(u, text) for u in utterances if (text := normalize(u.text))]
    comparisons: list[Comparison] = []
    failures = 0
    for first in range(0, len(spoken), BATCH):
        batch = spoken[first : first + BATCH]
        heard = _recognize(recognizer, [u.audio_filepath for u, _ in batch], use_vad)
        for (utterance, reference), result in zip(batch, heard, strict=True):
            progress.finish(utterance.audio_filepath, utterance.duration)
            if isinstance(result, AudioError):
                failures += 1
                with progress.hidden():
                    complain(result)
            else:
                comparisons.append(compare(reference, normalize(result), utterance.audio_filepath))
    return comparisons, failures


def _recognize(
    recognizer: Recognizer, paths: Sequence[str], use_vad: bool
) -> list[str | AudioError]:
    """The text of each recording, or why it cannot be read."""
    from asr import audio

    results: list[str | AudioError] = [""] * len(paths)
    waveforms = {}
    for i, path in enumerate(paths):
        try:
            if use_vad:
                results[i] = recognizer.transcribe(path).text
            else:
                waveforms[i] = audio.read(path)
        except AudioError as error:
            results[i] = error
    hypotheses = recognizer.recognize(list(waveforms.values()))
    for i, hypothesis in zip(waveforms, hypotheses, strict=True):
        results[i] = hypothesis.text
    return results


def _summary(title: str, comparisons: Sequence[Comparison], seconds: float, took: float) -> str:
    from asr.metrics import confidence_interval, total

    words = total(c.words for c in comparisons)
    characters = total(c.characters for c in comparisons)
    low, high = confidence_interval([c.words for c in comparisons])
    return (
        f"{title}: {len(comparisons)} utterances, {words.reference} words\n"
        f"  WER {words.rate:7.2%}  [{low:.2%}, {high:.2%}]  {words.substitutions} substitutions,"
        f" {words.deletions} deletions, {words.insertions} insertions\n"
        f"  CER {characters.rate:7.2%}  {seconds / 3600:.2f} h in {took:.0f} s:"
        f" {seconds / took:.0f}x real time"
    )


def _write_report(folder: Path, manifest: str, comparisons: Sequence[Comparison]) -> None:
    from asr.report import error_report

    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join(Path(manifest).with_suffix("").parts[-2:])  # commonvoice-en/dev.jsonl
    with replacing(folder / f"{name}.txt") as temporary:
        temporary.write_text(error_report(manifest, comparisons), encoding="utf-8")
