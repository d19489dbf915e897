"""`asr align`: when each word of a known text is spoken."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from asr import stores
from asr.cli import note, warn
from asr.cli._inputs import (
    STDIN,
    RecordingsCommand,
    check_is_file_name,
    check_names_differ,
    input_below,
)
from asr.cli._listeners import warn_of_losses
from asr.cli._outputs import Entry, Journal, making, parse_formats, target
from asr.cli._progress import Progress
from asr.cli._recognizer_options import Settings, recognizer_options
from asr.cluster import connected, each
from asr.errors import ASRError, ConfigError, ManifestError
from asr.files import read_text
from asr.program import cluster_option, explain
from asr.types import Utterance
from asr.writers import FORMATS, render

if TYPE_CHECKING:
    from asr.aligner import Aligner
    from asr.types import Transcript

MANIFEST = ".jsonl"
# With the bundled model, 98 of 100 words that were put into texts of dev recordings fall below
# this, and 6 of 100 that are really said.
DOUBTFUL = 0.05
NAMED = 10  # doubtful words that are named
MAX_FAILURES = 100


@click.command(
    cls=RecordingsCommand,
    context_settings={"show_default": True},
    epilog="Exit status: the number of recordings that failed, 100 at most.",
)
@click.argument("inputs", nargs=-1, required=True, metavar="AUDIO TEXT | MANIFEST")
@click.option(
    "--format",
    "-f",
    "formats",
    metavar="LIST",
    help=f"Comma-separated formats, or all: {', '.join(FORMATS)}.  [default: TextGrid, or the"
    " extension of the name in --out]",
)
@click.option(
    "--out",
    "-o",
    metavar="FOLDER|FILE",
    help="Write files into a folder: talk.mp3 gives FOLDER/talk.TextGrid; recordings of a manifest"
    " keep their path below it. For one recording also a file, such as talk.srt. Without"
    " --out, print on standard output.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace files in --out even if they may belong to another recording.",
)
@click.option(
    "--lexicon",
    metavar="FILE",
    help="Pronunciations of words that the model's lexicon lacks, in CMUdict's format; for other"
    " words they are learnt from the lexicon.",
)
@click.option(
    "--skip-unknown",
    is_flag=True,
    help="Leave a gap for words that cannot be pronounced instead of refusing the text.",
)
@cluster_option
@recognizer_options(search=False, punctuation=False)
def command(
    settings: Settings,
    inputs: tuple[str, ...],
    formats: str | None,
    out: str | None,
    overwrite: bool,
    lexicon: str | None,
    skip_unknown: bool,
    cluster: str | None,
) -> int:
    """Find when each word of TEXT, a text file, is spoken in AUDIO, or do so for each recording of
    a MANIFEST (JSON lines with audio_filepath and text). Recordings may be hours long.

    Each line of the text is a segment. Text and audio need not match everywhere: words that are not
    found get confidence 0 and a guessed time, doubtful words are named on standard error, and
    speech outside the text is skipped. TextGrid and JSON also contain the times of characters or
    phones, depending on the model.

    \b
      asr align talk.mp3 talk.txt -f srt
      asr align talk.mp3 talk.txt -f TextGrid,json --out aligned/
      asr align dev.jsonl -f ctm --out aligned/ --skip-unknown
    """
    if formats is not None:
        parse_formats(formats)
    pairs, folder = _pairs(inputs), Path(inputs[0]).parent
    if not pairs:
        raise ManifestError(f"{inputs[0]}: has no utterances", "add recordings with their texts")
    names = [input_below(_output_name(utterance), folder) for utterance in pairs]
    where = target(formats, out, len(pairs), default="TextGrid")
    if where.folder is not None:
        check_names_differ(names)
    if cluster is not None and where.is_stdout:
        raise click.UsageError("--cluster needs --out: recordings come in any order")
    journal = None if where.is_stdout else Journal(where.parent)
    failures = 0
    with Progress(len(pairs)) as progress, contextlib.ExitStack() as stack:
        if not where.is_stdout:
            stack.enter_context(making(where.parent))
        stack.enter_context(connected(cluster))

        def report(recording: str, error: Exception) -> None:
            nonlocal failures
            failures += 1
            with progress.hidden():
                reason = explain(error)
                warn(reason if recording in reason else f"{recording}: {reason}")

        work = []
        for utterance, name in zip(pairs, names, strict=True):
            entry = Entry.of(utterance.audio_filepath, "alignment", where.outputs(name.stem()))
            try:
                if journal is not None and not overwrite:
                    journal.check_free(entry)
                work.append((utterance, name, entry))
            except ASRError as error:  # continue with the others
                report(utterance.audio_filepath, error)
        make = partial(_alignment, settings, lexicon, skip_unknown, progress)
        if cluster is not None:
            make = partial(_alignment, settings.on_one_core(), lexicon, skip_unknown, None)
        utterances = [utterance for utterance, _, _ in work]
        for number, found in each(cluster, utterances, make, name=attrgetter("name")):
            utterance, name, entry = work[number]
            progress.finish(utterance.name, getattr(found, "duration", 0.0))
            try:
                if isinstance(found, Exception):
                    raise found
                with progress.hidden():
                    warn_of_losses(utterance.audio_filepath, found.losses)
                    _name_doubtful(utterance.audio_filepath, found)
                    if journal is None:
                        text = render(found, where.formats[0], name.stem().name)
                        click.echo(text, nl=False)
                if journal is not None:
                    journal.write(entry, found, where)
            except (ASRError, OSError) as error:  # continue with the others
                report(utterance.audio_filepath, error)
    return min(failures, MAX_FAILURES)


def _pairs(inputs: Sequence[str]) -> list[Utterance]:
    """The recordings and texts that stand on the command line."""
    if len(inputs) == 1 and inputs[0].endswith(MANIFEST):
        from asr.data.manifest import read_manifest

        return read_manifest(inputs[0])
    if len(inputs) != 2:
        raise click.UsageError(f"give a recording and its text, or one manifest (*{MANIFEST})")
    recording, text = inputs
    check_is_file_name(recording)
    try:
        return [Utterance(recording, 0.0, read_text(text).replace("\ufeff", ""))]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{text}: cannot be read: {reason}", "give a UTF-8 text file") from error


def _alignment(
    settings: Settings, lexicon: str | None, skip_unknown: bool, progress: Progress | None
) -> Callable[[Utterance], Transcript]:
    """What aligns an utterance, here or in a process of a cluster, where nobody sees progress."""
    from asr.aligner import Aligner
    from asr.text.phones import read_lexicon

    aligner = Aligner(
        settings.bundle(),
        pronunciations=read_lexicon(lexicon) if lexicon else None,
        skip_unknown=skip_unknown,
        vad=settings.vad_config(),
        threads=settings.threads,
    )
    return partial(_align, aligner, progress or Progress(0, shown=False))


def _output_name(utterance: Utterance) -> str:
    """Its recording, with the start in milliseconds if it is a part of one."""
    if utterance.offset is None:
        return utterance.audio_filepath
    path = Path(utterance.audio_filepath)
    milliseconds = round(1000 * utterance.offset)
    return str(path.with_name(f"{path.stem}-{milliseconds:08d}{path.suffix}"))


def _align(aligner: Aligner, progress: Progress, utterance: Utterance) -> Transcript:
    """Align an utterance; times count from the start of the file, also for a part of it."""
    from asr import audio
    from asr.data.manifest import read_audio

    if utterance.offset is not None:
        waveform = read_audio(utterance)
        part = aligner.align(waveform, utterance.text, audio.SAMPLE_RATE)
        return part.shifted(utterance.offset)
    recording, text = utterance.audio_filepath, utterance.text
    known = progress.shown and recording != STDIN
    duration = audio.probe(recording).duration if known else None
    with stores.reading(recording) as source:
        return aligner.align(
            sys.stdin.buffer if recording == STDIN else source,
            text,
            progress=lambda seconds: progress.within(recording, seconds, duration),
        )


def _name_doubtful(recording: str, transcript: Transcript) -> None:
    doubtful = [word for word in transcript.words if word.confidence < DOUBTFUL]
    if doubtful:
        named = ", ".join(f"{word.word} ({word.start:.1f} s)" for word in doubtful[:NAMED])
        note(
            f"{recording}: {len(doubtful)} of {len(transcript.words)} words are doubtful:"
            f" {named}{', …' if len(doubtful) > NAMED else ''}"
        )
