"""`asr transcribe`: recordings to text and subtitles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from asr.cli import complain
from asr.cli._batch import Settings, transcribe_all
from asr.cli._inputs import STDIN, expand
from asr.cli._losses import warn_of_losses
from asr.cli._outputs import Entry, Journal, output_stems
from asr.cli._progress import Progress
from asr.errors import ASRError
from asr.writers import FORMATS, render, save, writer_for

FAILED, LOST = 1, 3  # exit statuses; 2 is a wrong call


@click.command(
    context_settings={"show_default": True},
    epilog="Exit status: 0: all recordings are transcribed whole; 1: some failed; 2: a wrong call;"
    " 3: none failed, but some are damaged or cut, and what is left of them is transcribed.",
)
@click.argument("files", nargs=-1, required=True)
@click.option("--model", "-m", metavar="FOLDER", help="Model to use.  [default: bundled English]")
@click.option(
    "--format",
    "-f",
    "formats",
    default="txt",
    metavar="LIST",
    help=f"Formats, parted by commas: {', '.join(FORMATS)}.",
)
@click.option(
    "--out",
    "-o",
    metavar="FOLDER",
    help="Write files there: talk.mp3 gives FOLDER/talk.srt. Else text goes to standard output.",
)
@click.option(
    "--decoder",
    type=click.Choice(["beam", "greedy"]),
    default="beam",
    help="Search with the language model, or just take the likeliest letters.",
)
@click.option("--beam", type=click.IntRange(1), help="Hypotheses the search keeps; more is slower.")
@click.option(
    "--hotwords",
    metavar="FILE",
    help="Names and phrases to listen for, one a line, if wanted with a boost after a tab. How a"
    " name is pronounced is learnt from the lexicon.",
)
@click.option(
    "--vad",
    type=click.Choice(["auto", "silero", "energy", "none"]),
    default="auto",
    help="How speech is found; none takes everything for speech.",
)
@click.option(
    "--reject/--no-reject",
    default=True,
    help="Leave out what fits no words: another language, as a rule, or music. For beam.",
)
@click.option(
    "--track",
    type=click.IntRange(0),
    help="Sound track of films to take, counted from 0.  [default: the one marked as default]",
)
@click.option(
    "--strict", is_flag=True, help="Refuse damaged and cut recordings, not transcribe their rest."
)
@click.option("--punctuate", is_flag=True, help="Write capitals, commas, full stops.")
@click.option("--threads", "-t", type=click.IntRange(1), help="Cores to use.  [default: all]")
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(1),
    default=1,
    help="Recordings to work on at a time, each in a process; they share the cores.",
)
@click.option("--resume", is_flag=True, help="Leave out what is in --out already, made this way.")
def command(
    files: tuple[str, ...], formats: str, out: str | None, jobs: int, resume: bool, **choices: Any
) -> int:
    """Write down what is said in FILES: recordings, folders of them, patterns, or - for standard
    input. WAV, FLAC, Ogg, Opus, MP3, M4A, MP4, WebM and more, of any length.

    \b
      asr transcribe talk.mp3
      asr transcribe talk.mp4 --format srt,vtt --out subtitles/
      asr transcribe archive/ "more/**/*.wav" -f json -o texts/ --jobs 4 --resume
      ffmpeg -i film.mkv -f wav - | asr transcribe -
    """
    wanted = formats.split(",")
    for name in wanted:
        writer_for(name)
    recordings, settings = expand(files), Settings(**choices)
    if jobs > 1 and STDIN in recordings:
        raise click.UsageError("standard input is read by one process: leave --jobs out")
    if out is not None:
        done = _to_folder(Path(out), settings, recordings, wanted, jobs, resume)
    elif resume:
        raise click.UsageError("--resume needs --out")
    elif len(wanted) > 1 or (len(recordings) > 1 and wanted != ["txt"]):
        raise click.UsageError("several files of output need --out FOLDER")
    else:
        done = _to_stdout(settings, recordings, wanted[0], jobs)
    return FAILED if done.failures else LOST if done.damaged else 0


@dataclass
class _Done:
    """How many recordings failed, and of how many only a part is there."""

    failures: int = 0
    damaged: int = 0


def _to_stdout(settings: Settings, recordings: Sequence[str], format: str, jobs: int) -> _Done:
    """Print the transcripts, of several each under its name."""
    done = _Done()
    with Progress(len(recordings)) as progress:
        for recording, transcript in transcribe_all(settings, recordings, jobs, progress):
            with progress.hidden():
                if isinstance(transcript, Exception):
                    done.failures += 1
                    _report(recording, transcript)
                    continue
                done.damaged += bool(transcript.losses)
                warn_of_losses(recording, transcript.losses)
                if len(recordings) > 1:
                    click.echo(f"==> {recording} <==")
                click.echo(render(transcript, format, Path(recording).stem), nl=False)
    return done


def _to_folder(
    folder: Path,
    settings: Settings,
    recordings: Sequence[str],
    formats: Sequence[str],
    jobs: int,
    resume: bool,
) -> _Done:
    """Write the transcripts."""
    folder.mkdir(parents=True, exist_ok=True)
    journal, fingerprint = Journal(folder), settings.fingerprint()
    entries: dict[str, Entry] = {}
    done = _Done()
    for recording, stem in zip(recordings, output_stems(recordings), strict=True):
        outputs = [stem.with_name(f"{stem.name}.{format}") for format in formats]
        entry = Entry.of(recording, fingerprint, outputs)
        if resume and journal.has(entry):
            continue
        try:
            journal.check_free(entry)
        except ASRError as error:
            done.failures += 1
            _report(recording, error)
        else:
            entries[recording] = entry
    with Progress(len(entries)) as progress:
        for recording, transcript in transcribe_all(settings, list(entries), jobs, progress):
            try:
                if isinstance(transcript, Exception):
                    raise transcript
                for output in entries[recording].outputs:
                    (folder / output).parent.mkdir(parents=True, exist_ok=True)
                    save(transcript, folder / output)
                journal.add(entries[recording])
                done.damaged += bool(transcript.losses)
                with progress.hidden():
                    warn_of_losses(recording, transcript.losses)
            except Exception as error:  # whatever one recording does, the others go on
                done.failures += 1
                with progress.hidden():
                    _report(recording, error)
    return done


def _report(recording: str, error: Exception) -> None:
    known = isinstance(error, ASRError)
    complain(str(error) if known else f"{recording}: {type(error).__name__}: {error}")
