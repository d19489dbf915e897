"""`asr align`: when each word of a known text is said."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asr.cli import complain
from asr.cli._inputs import STDIN
from asr.cli._losses import warn_of_losses
from asr.cli._outputs import output_stems
from asr.cli._progress import Progress
from asr.errors import ASRError, ConfigError, ManifestError
from asr.files import read_text
from asr.types import Utterance
from asr.writers import FORMATS, render, save, writer_for

if TYPE_CHECKING:
    from asr.aligner import Aligner
    from asr.types import Transcript

MANIFEST = ".jsonl"
# With the bundled model, 98 of 100 words that were put into texts of dev recordings fall below
# this, and 6 of 100 that are really said.
DOUBTFUL = 0.05
NAMED = 10  # doubtful words that are named
MOST_FAILURES = 100


@click.command(
    context_settings={"show_default": True},
    epilog="Exit status: the number of recordings that failed, 100 at most.",
)
@click.argument("inputs", nargs=-1, required=True, metavar="AUDIO TEXT | MANIFEST")
@click.option("--model", "-m", metavar="FOLDER", help="Model to use.  [default: bundled English]")
@click.option(
    "--format",
    "-f",
    "formats",
    default="TextGrid",
    metavar="LIST",
    help=f"Formats, parted by commas: {', '.join(FORMATS)}.",
)
@click.option(
    "--out",
    "-o",
    metavar="FOLDER",
    help="Write files there: talk.mp3 gives FOLDER/talk.TextGrid. Else to standard output.",
)
@click.option(
    "--lexicon",
    metavar="FILE",
    help="Pronunciations of words that the model's lexicon lacks, in CMUdict's format; others are"
    " pronounced by its example.",
)
@click.option(
    "--skip-unknown",
    is_flag=True,
    help="Leave a gap for words that cannot be pronounced instead of refusing the text.",
)
@click.option(
    "--vad",
    type=click.Choice(["auto", "silero", "energy", "none"]),
    default="auto",
    help="How speech is found; none takes everything for speech.",
)
@click.option("--threads", "-t", type=click.IntRange(1), help="Cores to use.  [default: all]")
def command(
    inputs: tuple[str, ...],
    model: str | None,
    formats: str,
    out: str | None,
    lexicon: str | None,
    skip_unknown: bool,
    vad: str,
    threads: int | None,
) -> int:
    """Find when each word of TEXT, a text file, is said in AUDIO, or of each recording of a
    MANIFEST (JSON lines with audio_filepath and text). Recordings may be hours long.

    Each line of the text is a segment. Text and sound need not agree everywhere: words that are not
    heard get the confidence 0 and a guessed time, and the doubtful ones are named on standard
    error; what is said beside the text is passed over. TextGrid and JSON also give the times of
    characters or phones, whichever the model spells.

    \b
      asr align talk.mp3 talk.txt -f srt
      asr align talk.mp3 talk.txt -f TextGrid,json --out aligned/
      asr align dev.jsonl -f ctm --out aligned/ --skip-unknown
    """
    wanted = formats.split(",")
    for name in wanted:
        writer_for(name)
    pairs = _pairs(inputs)
    if not pairs:
        raise ManifestError(f"{inputs[0]}: holds no utterance", "give recordings with their texts")
    if out is None and (len(wanted) > 1 or len(pairs) > 1):
        raise click.UsageError("several files of output need --out FOLDER")
    stems = output_stems([_output_name(utterance) for utterance in pairs])
    aligner = _aligner(model, lexicon, skip_unknown, vad, threads)
    failures = 0
    with Progress(len(pairs)) as progress:
        for utterance, stem in zip(pairs, stems, strict=True):
            recording = utterance.audio_filepath
            try:
                transcript = _align(aligner, utterance, progress)
                with progress.hidden():
                    warn_of_losses(recording, transcript.losses)
                    _name_doubtful(recording, transcript)
                    if out is None:
                        click.echo(
                            render(transcript, wanted[0], Path(_output_name(utterance)).stem),
                            nl=False,
                        )
                for format in wanted if out is not None else ():
                    path = Path(out or ".", f"{stem}.{format}")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    save(transcript, path, format)
            except ASRError as error:  # the others go on
                failures += 1
                with progress.hidden():
                    complain(error if recording in str(error) else f"{recording}: {error}")
    return min(failures, MOST_FAILURES)


def _pairs(inputs: Sequence[str]) -> list[Utterance]:
    """The recordings and texts that stand on the command line."""
    if len(inputs) == 1 and inputs[0].endswith(MANIFEST):
        from asr.data.manifest import read_manifest

        return read_manifest(inputs[0])
    if len(inputs) != 2:
        raise click.UsageError(f"give a recording and its text, or one manifest (*{MANIFEST})")
    recording, text = inputs
    try:
        return [Utterance(recording, 0.0, read_text(text, "utf-8-sig"))]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{text}: cannot be read: {reason}", "give a UTF-8 text file") from error


def _aligner(
    model: str | None, lexicon: str | None, skip_unknown: bool, vad: str, threads: int | None
) -> Aligner:
    from asr.aligner import Aligner
    from asr.bundle import Bundle, bundled
    from asr.text.phones import read_lexicon
    from asr.vad import VadConfig

    return Aligner(
        Bundle.load(model or bundled()),
        pronunciations=read_lexicon(lexicon) if lexicon else None,
        skip_unknown=skip_unknown,
        vad=VadConfig(detector=vad),  # type: ignore[arg-type]
        threads=threads,
    )


def _output_name(utterance: Utterance) -> str:
    """Its recording; a part of one is told apart by where it begins, in milliseconds."""
    if utterance.offset is None:
        return utterance.audio_filepath
    path = Path(utterance.audio_filepath)
    milliseconds = round(1000 * utterance.offset)
    return str(path.with_name(f"{path.stem}-{milliseconds:08d}{path.suffix}"))


def _align(aligner: Aligner, utterance: Utterance, progress: Progress) -> Transcript:
    """Times count from the start of the file, also where only a part of it is aligned."""
    from asr import audio
    from asr.data.manifest import read_audio

    if utterance.offset is not None:
        waveform = read_audio(utterance)
        part = aligner.align(waveform, utterance.text, audio.SAMPLE_RATE)
        progress.finish(utterance.name, part.duration)
        return part.shifted(utterance.offset)
    recording, text = utterance.audio_filepath, utterance.text
    source = sys.stdin.buffer if recording == STDIN else recording
    known = progress.shown and recording != STDIN
    duration = audio.probe(recording).duration if known else None
    transcript = aligner.align(
        source,
        text,
        progress=lambda seconds: progress.within(recording, seconds, duration),
    )
    progress.finish(recording, transcript.duration)
    return transcript


def _name_doubtful(recording: str, transcript: Transcript) -> None:
    doubtful = [word for word in transcript.words if word.confidence < DOUBTFUL]
    if doubtful:
        named = ", ".join(f"{word.word} ({word.start:.1f} s)" for word in doubtful[:NAMED])
        complain(
            f"{recording}: {len(doubtful)} of {len(transcript.words)} words are doubtful:"
            f" {named}{', …' if len(doubtful) > NAMED else ''}"
        )
