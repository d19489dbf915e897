"""`asr transcribe`: recordings to text and subtitles."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import replace

import click

from asr.cli._inputs import STDIN, RecordingsCommand, expand_inputs
from asr.cli._listeners import FileWriter, Listener, Printer, Status, attempt
from asr.cli._outputs import making, target
from asr.cli._progress import Progress
from asr.cli._recognizer_options import Settings, recognizer_options
from asr.subtitles import SubtitleLayout
from asr.writers import FORMATS


@click.command(
    cls=RecordingsCommand,
    context_settings={"show_default": True},
    epilog="Exit status: 0: all recordings are transcribed whole; 1: some failed; 2: a wrong call;"
    " 3: none failed, but some are damaged or cut, and what is left of them is transcribed.",
)
@click.argument("files", nargs=-1, required=True)
@click.option(
    "--format",
    "-f",
    "formats",
    metavar="LIST",
    help=f"Comma-separated formats, or all: {', '.join(FORMATS)}.  [default: txt, or the"
    " extension of the name in --out]",
)
@click.option(
    "--out",
    "-o",
    metavar="FOLDER|FILE",
    help="Write files into a folder: talk.mp3 gives FOLDER/talk.srt, and recordings found in a"
    " folder keep their path below it. For one recording also a file, such as talk.srt. Without"
    " --out, print text on standard output, segment by segment.",
)
@click.option(
    "--full-names",
    is_flag=True,
    help="Keep the extension in output names: talk.mp3 gives talk.mp3.txt. For folders with"
    " recordings whose names differ only in the extension.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace files in --out that are not known to be transcripts of the same recording.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Skip recordings whose outputs in --out were made with the same options. A journal in"
    " $XDG_STATE_HOME/asr, by default ~/.local/state/asr, keeps track.",
)
@click.option(
    "--max-line-width",
    type=click.IntRange(1),
    metavar="N",
    help="Max characters in a subtitle line (srt, vtt), such as 32. Lines end at clauses if"
    " possible; a longer word gets its own line.  [default: 42]",
)
@click.option(
    "--max-line-count",
    type=click.IntRange(1),
    metavar="N",
    help="Max lines in a subtitle (srt, vtt), such as 1.  [default: 2]",
)
@click.option(
    "--highlight-words",
    is_flag=True,
    help="In vtt, write the time of each word, so that players can highlight it.",
)
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1, 1024),
    default=1,
    metavar="N",
    help="Recordings to transcribe in parallel, such as 4: one process each, sharing the cores.",
)
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Transcribe on a Ray cluster: its address, auto for the one that this machine belongs to,"
    " or local for one of this machine's cores. FILES and --out may then be addresses in object"
    " stores, such as s3://bucket/calls/**/*.flac, and FILES also tables (.jsonl, .parquet, .lance)"
    " with a column uri or audio_filepath. Needs the extra [cluster]; see docs/scale.md.",
)
@recognizer_options(reading=True)
def command(
    settings: Settings,
    files: tuple[str, ...],
    formats: str | None,
    out: str | None,
    full_names: bool,
    overwrite: bool,
    resume: bool,
    max_line_width: int | None,
    max_line_count: int | None,
    highlight_words: bool,
    jobs: int,
    cluster: str | None,
) -> int:
    """Transcribe FILES: recordings, folders, patterns, or - for standard input. WAV, FLAC, Ogg,
    Opus, MP3, M4A, MP4, WebM and more, of any length.

    \b
      asr transcribe talk.mp3
      asr transcribe talk.mp4 -o talk.srt
      asr transcribe talk.mp4 --format srt,vtt --out subtitles/ --max-line-width 32
      asr transcribe archive/ "more/**/*.wav" -f json -o texts/ --jobs 4 --resume
      asr transcribe interview.wav --start 1:30 --duration 60 --hotwords names.txt
      ffmpeg -i film.mkv -f wav - | asr transcribe -
    """
    lines = {"max_line_width": max_line_width, "max_line_count": max_line_count}
    layout = SubtitleLayout(
        highlight_words=highlight_words,
        **{name: given for name, given in lines.items() if given is not None},
    )
    if cluster is not None:
        if jobs > 1:
            raise click.UsageError("--jobs is for one machine, and --cluster uses all its cores")
        from asr.cli._cluster import transcribe_on, transcriber

        makes = transcriber(settings, formats, out, layout)
        return transcribe_on(cluster, files, makes, full_names=full_names, overwrite=overwrite)
    inputs = expand_inputs(files)
    where = target(formats, out, len(inputs))
    if highlight_words and "vtt" not in where.formats:
        raise click.UsageError("--highlight-words is for vtt")
    if layout != SubtitleLayout() and not {"srt", "vtt"} & {*where.formats}:
        raise click.UsageError("--max-line-width and --max-line-count are for srt and vtt")
    if jobs > 1 and STDIN in (item.path for item in inputs):
        raise click.UsageError("standard input is read by one process: leave --jobs out")
    for flag, given in (("resume", resume), ("overwrite", overwrite), ("full-names", full_names)):
        if given and where.is_stdout:
            raise click.UsageError(f"--{flag} needs --out")
    status = Status()
    with Progress(len(inputs)) as progress, contextlib.ExitStack() as stack:
        listener: Printer | FileWriter
        recordings = [item.path for item in inputs]
        if where.is_stdout:
            # Strictly, text of what will be refused is not to be printed.
            listener = Printer(
                recordings,
                where.formats[0],
                layout,
                status,
                progress,
                holds_back=settings.strict,
                by_channel=settings.channels == "each",
            )
        else:
            fingerprint = f"{settings.fingerprint()} {layout}"
            listener = FileWriter(where, fingerprint, layout, status, progress)
            recordings = listener.plan(inputs, full_names, overwrite, resume)
            stack.enter_context(making(where.parent))
        if recordings:
            _transcribe_all(settings, recordings, jobs, listener)
    return status.code


def _transcribe_all(
    settings: Settings, recordings: Sequence[str], jobs: int, listener: Listener
) -> None:
    """Transcribe each recording, `jobs` of them at a time, and tell the listener.

    With one job they come in order. Raises ASRError if no recogniser can be made.
    """
    recognizer = settings.load()  # what is wrong with the model is better said once, and here
    jobs = min(jobs, len(recordings))
    if jobs > 1:
        from asr.cli._processes import transcribe_in_processes

        del recognizer
        cores = settings.threads or os.cpu_count() or 1
        settings = replace(settings, threads=max(1, cores // jobs))
        transcribe_in_processes(settings, recordings, jobs, listener)
        return
    for recording in recordings:
        listener.result(recording, attempt(recognizer, recording, settings, listener))
