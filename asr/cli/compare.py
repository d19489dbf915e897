"""`asr compare`: which of two recognisers makes fewer errors, and how significant that is."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asr.cli._recognizer_options import Settings, recognizer_options
from asr.cli._scoring import normalize_option, read_recognized, read_utterances, recognize
from asr.errors import AudioError
from asr.files import replacing

if TYPE_CHECKING:
    from asr.analysis.comparison import Match
    from asr.analysis.scoring import Normalization
    from asr.recognizer import Recognizer


@click.command(context_settings={"show_default": True})
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option(
    "--manifest",
    required=True,
    metavar="FILE",
    help="JSON lines with audio_filepath, duration and text; speakers are drawn if it has them.",
)
@click.option("--report", "report_folder", metavar="FOLDER", help="Write FOLDER/A-B.html as well.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@normalize_option
@recognizer_options(punctuation=False)
def command(
    settings: Settings,
    first: str,
    second: str,
    manifest: str,
    report_folder: str | None,
    as_json: bool,
    normalize: Normalization,
) -> None:
    """Compare A and B on the same recordings.

    Each is a model, or a file with the transcripts of a recogniser: JSON of Whisper, JSON lines,
    CTM, STM, TRN or plain text. `bundled` is the bundled model. Options of the recogniser are those
    of both models. Two tests measure the significance: a bootstrap over speakers
    (Bisani & Ney 2004) and matched pairs of segments (MAPSSWE, Gillick & Cox 1989).

    \b
      asr compare bundled models/mine --manifest dev.jsonl
      asr compare whisper.json bundled --manifest dev.jsonl --normalize whisper --report errors/
    """
    from asr.analysis.comparison import comparison_page, comparison_text, match
    from asr.analysis.scoring import make_normalizer

    if settings.model is not None:
        raise click.UsageError("--model says nothing here: A and B are the models")
    utterances = read_utterances(manifest)
    recognizers = [_recognizer(name, settings) for name in (first, second)]
    languages = [one.bundle.config.language for one in recognizers if one is not None]
    found = [
        read_recognized(name, utterances)
        if recognizer is None
        else recognize(recognizer, utterances, settings)
        for name, recognizer in zip((first, second), recognizers, strict=True)
    ]
    kept = [
        i
        for i, pair in enumerate(zip(*found, strict=True))
        if not any(isinstance(one, AudioError) for one in pair)
    ]
    result = match(
        (_label(first), _label(second)),
        [utterances[i] for i in kept],
        [found[0][i] for i in kept],  # type: ignore[misc]
        [found[1][i] for i in kept],  # type: ignore[misc]
        make_normalizer(normalize, settings.language or next(iter(languages), "en")),
    )
    title = f"{manifest}, normalised: {normalize}"
    click.echo(_json(result) if as_json else comparison_text(title, result))
    if report_folder:
        folder = Path(report_folder)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{Path(first).stem}-{Path(second).stem}.html"
        with replacing(folder / name) as temporary:
            page = comparison_page(title, result)
            temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _recognizer(name: str, settings: Settings) -> Recognizer | None:
    """That of a model; None for a file of transcripts."""
    from asr.packaging.bundle import CONFIG

    if name != "bundled" and not (Path(name) / CONFIG).is_file():
        return None
    return replace(settings, model=None if name == "bundled" else name).load()


def _label(name: str) -> str:
    return name if name == "bundled" else Path(name).name


def _json(result: Match) -> str:
    (a, low_a, high_a), (b, low_b, high_b) = result.rates
    return json.dumps(
        {
            "a": {"name": result.names[0], "wer": a, "wer_low": low_a, "wer_high": high_a},
            "b": {"name": result.names[1], "wer": b, "wer_low": low_b, "wer_high": high_b},
            "utterances": len(result.first),
            "bootstrap": asdict(result.bootstrap),
            "mapsswe": asdict(result.pairs),
            "conclusion": result.conclusion,
        },
        ensure_ascii=False,
    )
