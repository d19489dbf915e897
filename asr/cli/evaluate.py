"""`asr evaluate`: error rates on recordings with known text."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from asr.cli._progress import Progress
from asr.cli._recognizer_options import Settings, recognizer_options
from asr.cli._scoring import normalize_option, read_recognized, read_utterances, recognize
from asr.cluster import connected
from asr.errors import AudioError
from asr.files import replacing
from asr.program import cluster_option

if TYPE_CHECKING:
    from asr.analysis.page import Recording
    from asr.analysis.scoring import Normalization, Recognised, Score
    from asr.recognizer import Recognizer

MAX_PLAYERS = 200  # utterances with sound and picture on a page: 20 to 40 kB each


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
    help="Write FOLDER/MANIFEST.html, a page with rates by speaker and other columns, confusions,"
    " players and spectrograms, and FOLDER/MANIFEST.txt: confusions and all aligned utterances.",
)
@click.option(
    "--hypotheses",
    metavar="FILE",
    help="Score the transcripts of another recogniser instead: JSON of Whisper, JSON lines, CTM,"
    " STM, TRN, plain text, or a folder of them. For one manifest.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per manifest.")
@normalize_option
@cluster_option
@recognizer_options(punctuation=False)
@click.pass_context
def command(
    context: click.Context,
    settings: Settings,
    manifests: tuple[str, ...],
    report_folder: str | None,
    hypotheses: str | None,
    as_json: bool,
    normalize: Normalization,
    cluster: str | None,
) -> int:
    """Measure the error rates of a model, separately for each manifest.

    References and results are normalised in the same way. WER has a 95 % confidence interval. Words
    recognised in recordings without speech (an empty text) count separately, as insertions per
    minute. Recordings that are damaged or cannot be read are skipped, and the exit status is 1.
    With --vad none each recording is decoded as a whole, however long it is.

    \b
      asr evaluate --manifest dev.jsonl
      asr evaluate -m models/mine --manifest a.jsonl --manifest b.jsonl --report errors/
      asr evaluate --manifest dev.jsonl --hypotheses whisper.json --normalize whisper
    """
    from asr.analysis.scoring import make_normalizer, score

    sets = [(path, read_utterances(path)) for path in manifests]
    if hypotheses:
        _check_unused(context, len(sets))
    recognizer = None if hypotheses else settings.load()
    language = recognizer.bundle.config.language if recognizer else settings.language or "en"
    normalizer = make_normalizer(normalize, language)
    failures = 0
    with connected(cluster):
        for path, utterances in sets:
            began = time.monotonic()
            found: Sequence[Recognised | AudioError]
            if recognizer is None:
                assert hypotheses
                found = read_recognized(hypotheses, utterances)
            else:
                found = recognize(recognizer, utterances, settings, cluster)
            kept = [
                (utterance, one)
                for utterance, one in zip(utterances, found, strict=True)
                if not isinstance(one, AudioError)
            ]
            failures += len(utterances) - len(kept)
            result = score([u for u, _ in kept], [one for _, one in kept], normalizer)
            took = time.monotonic() - began
            seconds = sum(u.duration for u in utterances) if recognizer else None
            show = _json if as_json else _summary
            click.echo(show(path, result, seconds, took, normalize))
            if report_folder:
                by = hypotheses or settings.model or "the bundled model"
                _write_report(
                    Path(report_folder), path, result, recognizer, (by, normalize, language)
                )
    return int(failures > 0)


def _check_unused(context: click.Context, manifests: int) -> None:
    """Refuse options of the recogniser where none is used."""
    if manifests > 1:
        raise click.UsageError("--hypotheses are of one manifest: give one --manifest")
    used = {"manifests", "report_folder", "hypotheses", "as_json", "normalize", "language"}
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in used:
            raise click.UsageError(f"{parameter.opts[0]} says nothing about --hypotheses")


def _numbers(result: Score) -> dict[str, Any]:
    from asr.analysis.metrics import confidence_interval, total

    words = total(one.comparison.words for one in result.scored)
    characters = total(one.comparison.characters for one in result.scored)
    low, high = confidence_interval([one.comparison.words for one in result.scored])
    return {
        "utterances": len(result.scored),
        "words": words.reference,
        "wer": words.rate,
        "wer_low": low,
        "wer_high": high,
        "cer": characters.rate,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "silent": len(result.silent),
        "inserted_in_silence": result.inserted,
    }


def _json(title: str, result: Score, seconds: float | None, took: float, normalize: str) -> str:
    numbers = {"manifest": title, "normalize": normalize, **_numbers(result)}
    if seconds is not None:
        numbers |= {"audio_seconds": round(seconds, 3), "wall_seconds": round(took, 3)}
    return json.dumps(numbers, ensure_ascii=False)


def _summary(title: str, result: Score, seconds: float | None, took: float, normalize: str) -> str:
    n = _numbers(result)
    speed = f"normalised: {normalize}"
    if seconds is not None:
        speed = f"{seconds / 3600:.2f} h in {took:.0f} s: {seconds / took:.0f}x real time, {speed}"
    lines = [f"{title}: {n['utterances']} utterances, {n['words']} words"]
    if result.scored:
        lines += [
            f"  WER {n['wer']:7.2%}  [{n['wer_low']:.2%}, {n['wer_high']:.2%}]"
            f"  {n['substitutions']} substitutions, {n['deletions']} deletions,"
            f" {n['insertions']} insertions",
            f"  CER {n['cer']:7.2%}  {speed}",
        ]
    else:
        lines.append(f"  no error rate: no recording that could be read has a text  {speed}")
    if result.silent:
        lines.append(f"  {result.silence}")
    return "\n".join(lines)


def _write_report(
    folder: Path,
    manifest: str,
    result: Score,
    recognizer: Recognizer | None,
    facts: tuple[str, Normalization, str],
) -> None:
    from asr.analysis.breakdown import breakdown, special_words
    from asr.analysis.metrics import error_report
    from asr.analysis.page import Page, error_page

    by, normalize, language = facts
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join(Path(manifest).with_suffix("").parts[-2:])  # commonvoice-en/dev.jsonl
    report = error_report(manifest, [one.comparison for one in result.scored])
    if result.silent:
        inserted = (
            f"{len(text.split()):3}     {name}\n        {text}\n"
            for name, text in result.silent
            if text
        )
        report += f"\nSilence\n{result.silence}\n" + "".join(inserted)
    recordings = _recordings(result, recognizer)
    scored = [recording.scored for recording in recordings]
    notes = [f"Recognised by {by}. References and results are normalised: {normalize}."]
    if len(recordings) > MAX_PLAYERS:
        notes.append(f"The {MAX_PLAYERS} utterances with the most errors have players.")
    page = Page(
        manifest,
        notes,
        recordings,
        breakdown(scored),
        result.silent,
        result.silence if result.silent else "",
        special_words(scored, language),
        _phones(result, recognizer),
    )
    for suffix, text in ((".txt", report), (".html", error_page(page))):
        with replacing(folder / f"{name}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def _recordings(result: Score, recognizer: Recognizer | None) -> list[Recording]:
    """With the sound of all for the noise level, and players and pictures of the worst."""
    from dataclasses import replace

    from asr.acoustics import Acoustics
    from asr.analysis.breakdown import signal_to_noise
    from asr.analysis.page import Recording, picture, sound
    from asr.audio import SAMPLE_RATE
    from asr.data.manifest import read_audio

    acoustics = Acoustics(recognizer.bundle) if recognizer else None
    by_errors = sorted(
        range(len(result.scored)), key=lambda i: -result.scored[i].comparison.words.errors
    )
    shown = set(by_errors[:MAX_PLAYERS])
    recordings = []
    with Progress(len(result.scored)) as progress:
        for i, (scored, words) in enumerate(zip(result.scored, result.words, strict=True)):
            try:
                waveform = read_audio(scored.utterance)
            except AudioError:  # transcripts of others may be scored without the audio
                recordings.append(Recording(scored, words))
                continue
            scored = replace(scored, noise=signal_to_noise(waveform, SAMPLE_RATE))
            drawn = None
            if i in shown and acoustics and recognizer:
                [heads] = acoustics.log_probs([waveform])
                config, vocabulary = recognizer.bundle.config, recognizer.bundle.vocabulary
                if heads:
                    drawn = picture(
                        waveform, heads[0], vocabulary, config.features, config.frame_shift
                    )
            data = sound(waveform, SAMPLE_RATE) if i in shown else b""
            recordings.append(Recording(scored, words, data, drawn))
            progress.finish(scored.utterance.name, scored.utterance.duration)
    return recordings


def _phones(result: Score, recognizer: Recognizer | None) -> list[tuple[str, str]]:
    """Aligned phones of references and results, where the lexicon pronounces them."""
    from asr.analysis.metrics import compare
    from asr.lexicon import Lexicon

    if recognizer is None or recognizer.bundle.vocabulary.kind != "phones":
        return []
    path = recognizer.bundle.lexicon_path
    if path is None:
        return []
    lexicon = Lexicon.load(path)

    def phones(text: str) -> str:
        known = [word for word in text.split() if word in lexicon]
        return " ".join(lexicon.labels[i] for word in known for i in lexicon.spellings(word)[0])

    pairs: list[tuple[str, str]] = []
    for one in result.scored:
        said = phones(one.comparison.reference)
        if said and one.comparison.words.errors:
            pairs += compare(said, phones(one.comparison.hypothesis)).pairs
    return pairs
