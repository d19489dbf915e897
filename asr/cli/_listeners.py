"""What `asr transcribe` does with segments and transcripts: prints them, or writes files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from asr.cli import note, warn
from asr.cli._inputs import STDIN, Input, check_names_differ
from asr.cli._outputs import Entry, Journal, Target
from asr.cli._progress import Progress
from asr.cli._recognizer_options import Settings
from asr.errors import ASRError
from asr.program import explain
from asr.subtitles import SubtitleLayout
from asr.types import Loss
from asr.writers import TranscriptWriter, writer_for

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.types import Segment, Transcript


class Listener(Protocol):
    """Events of recordings in progress; the result of each comes last.

    shows_progress: whether somebody looks at the progress.
    """

    shows_progress: bool

    def progress(self, recording: str, seconds: float, duration: float | None) -> None:
        """`seconds` have been read, of `duration` if that is known."""

    def segment(self, recording: str, segment: Segment) -> None:
        """A segment is recognised; those of a recording come in order."""

    def result(self, recording: str, result: Transcript | Exception) -> None:
        """The recording is done, or has failed."""


def attempt(
    recognizer: Recognizer, recording: str, settings: Settings, listener: Listener
) -> Transcript | Exception:
    """The transcript of one recording, or what went wrong; its events go to the listener."""
    from asr import audio

    try:
        known = None
        if listener.shows_progress and recording != STDIN:
            known = audio.probe(recording, settings.track).duration
        return settings.transcribe(
            recognizer,
            sys.stdin.buffer if recording == STDIN else recording,
            progress=lambda seconds: listener.progress(recording, seconds, known),
            on_segment=lambda segment: listener.segment(recording, segment),
        )
    except BrokenPipeError:  # who reads the output has seen enough
        raise
    except Exception as error:  # one recording must not stop the others
        return error


@dataclass
class Status:
    """What becomes the exit status."""

    failed: int = 0
    with_losses: int = 0

    @property
    def code(self) -> int:
        return 1 if self.failed else 3 if self.with_losses else 0

    def count(self, recording: str, result: Transcript | Exception, progress: Progress) -> None:
        """Count a result, and tell why a recording failed or what it has lost."""
        with progress.hidden():
            if isinstance(result, Exception):
                self.failed += 1
                _report(recording, result)
            else:
                self.with_losses += bool(result.losses)
                warn_of_losses(recording, result.losses)
                for notice in result.notices:
                    note(f"{recording}: {notice}")


class _Listener:
    """What the listeners of `asr transcribe` share."""

    def __init__(self, layout: SubtitleLayout, status: Status, progress: Progress):
        self._layout, self._status, self._progress = layout, status, progress
        self.shows_progress = progress.shown

    def progress(self, recording: str, seconds: float, duration: float | None) -> None:
        self._progress.within(recording, seconds, duration)

    def _finish(self, recording: str, result: Transcript | Exception) -> None:
        seconds = 0.0 if isinstance(result, Exception) else result.duration
        self._progress.finish(recording, seconds)
        self._status.count(recording, result, self._progress)


class Printer(_Listener):
    """Prints transcripts as they grow, in the order of the recordings, several under their names.

    Of recordings that are transcribed at the same time, the first is printed as it grows and the
    others when it is their turn.
    """

    def __init__(
        self,
        recordings: Sequence[str],
        format: str,
        layout: SubtitleLayout,
        status: Status,
        progress: Progress,
        holds_back: bool,
        by_channel: bool,
    ):
        """`holds_back`: print nothing of a recording before it is complete. `by_channel`: each
        channel is transcribed by itself.
        """
        super().__init__(layout, status, progress)
        self._titled, self._holds_back = len(recordings) > 1, holds_back
        self._pages = {
            recording: _Page(writer_for(format)(Path(recording).stem, layout, by_channel))
            for recording in recordings
        }

    def segment(self, recording: str, segment: Segment) -> None:
        page = self._pages[recording]
        page.write(page.writer.add(segment))
        self._print()

    def result(self, recording: str, result: Transcript | Exception) -> None:
        page = self._pages[recording]
        page.result = result
        if not isinstance(result, Exception):
            page.write(page.writer.end(result))
        self._print()

    def _print(self) -> None:
        """What is to be printed, up to the first recording that is still in work."""
        for recording, page in list(self._pages.items()):
            may_print = page.is_complete or not self._holds_back
            if may_print and page.begun and (page.text or not page.titled):
                with self._progress.hidden():
                    if self._titled and not page.titled:
                        click.echo(f"==> {click.format_filename(recording)} <==")
                    click.echo(page.text, nl=False)
                page.titled, page.text = True, ""
            if page.result is None:
                return
            del self._pages[recording]
            self._finish(recording, page.result)


@dataclass
class _Page:
    """A recording on standard output: what is to be printed of it, and has not been yet."""

    writer: TranscriptWriter
    begun: bool = False
    titled: bool = False
    text: str = ""
    result: Transcript | Exception | None = None

    def write(self, text: str) -> None:
        if not self.begun:
            self.begun, self.text = True, self.writer.begin()
        self.text += text

    @property
    def is_complete(self) -> bool:
        return self.result is not None and not isinstance(self.result, Exception)


class FileWriter(_Listener):
    """Writes the transcript of each recording into its files when it is complete."""

    def __init__(
        self,
        where: Target,
        fingerprint: str,
        layout: SubtitleLayout,
        status: Status,
        progress: Progress,
    ):
        super().__init__(layout, status, progress)
        self._where, self._fingerprint = where, fingerprint
        self._journal = Journal(where.parent)
        self._entries: dict[str, Entry] = {}

    def plan(
        self, inputs: Sequence[Input], full_names: bool, overwrite: bool, resume: bool
    ) -> list[str]:
        """The recordings to transcribe; those that must not be written are reported.

        Raises click.UsageError if two would be written to the same files.
        """
        if self._where.file is None:
            check_names_differ(inputs, full_names)
        n_older = 0
        for item in inputs:
            entry = Entry.of(
                item.path, self._fingerprint, self._where.outputs(item.stem(full_names))
            )
            if resume and self._journal.has(entry):
                continue
            if resume and not overwrite and self._journal.seems_done(entry):
                n_older += 1
                continue
            try:
                if not overwrite:
                    self._journal.check_free(entry)
            except ASRError as error:
                self._status.count(item.path, error, self._progress)
            else:
                self._entries[item.path] = entry
        if n_older:
            note(
                f"{n_older} recordings are older than files of their names in {self._where.parent},"
                " and left out (--overwrite replaces these files)"
            )
        return list(self._entries)

    def segment(self, recording: str, segment: Segment) -> None:
        pass

    def result(self, recording: str, result: Transcript | Exception) -> None:
        if not isinstance(result, Exception):
            try:
                entry = self._entries[recording]
                self._journal.write(entry, result, self._where, self._layout)
            except Exception as error:  # continue with the others
                result = error
        self._finish(recording, result)


def _report(recording: str, error: Exception) -> None:
    reason = explain(error)
    is_named = isinstance(error, ASRError) and (recording == STDIN or recording in reason)
    warn(reason if is_named else f"{recording}: {reason}")


MAX_NAMED = 5  # places that are named; the others are counted


def warn_of_losses(recording: str, losses: Sequence[Loss]) -> None:
    """One line that names the places and the seconds that are missing; none if nothing is."""
    if losses:
        warn(f"{recording}: {describe(losses)}; the rest is transcribed")


def describe(losses: Sequence[Loss]) -> str:
    """
    >>> describe([Loss(3.5, 4.0, "damaged: no header"), Loss(9.0, None, "truncated")])
    'at least 0.50 s are missing: 3.50-4.00 s (damaged: no header), from 9.00 s on (truncated)'
    """
    known = sum(loss.end - loss.start for loss in losses if loss.end is not None)
    least = "at least " if any(loss.end is None for loss in losses) else ""
    amount = f"{least}{known:.2f} s are missing" if known else "its end is missing"
    places = [_place(loss) for loss in losses[:MAX_NAMED]]
    if len(losses) > MAX_NAMED:
        places.append(f"and {len(losses) - MAX_NAMED} more places")
    return f"{amount}: {', '.join(places)}"


def _place(loss: Loss) -> str:
    if loss.end is None:
        return f"from {loss.start:.2f} s on ({loss.reason})"
    return f"{loss.start:.2f}-{loss.end:.2f} s ({loss.reason})"
