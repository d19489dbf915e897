"""Many recordings through one recogniser, or through several processes (`asr.cli._processes`)."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from asr.cli._inputs import STDIN
from asr.cli._recognizer_options import Settings

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


def transcribe_all(
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


def attempt(
    recognizer: Recognizer, recording: str, settings: Settings, listener: Listener
) -> Transcript | Exception:
    """The transcript of one recording, or what went wrong; its events go to the listener."""
    from asr import audio

    try:
        known = None
        if listener.shows_progress and recording != STDIN:
            known = audio.probe(recording, settings.track).duration
        return recognizer.transcribe(
            sys.stdin.buffer if recording == STDIN else recording,
            start=settings.start,
            duration=settings.duration,
            track=settings.track,
            channels=settings.channels,
            strict=settings.strict,
            progress=lambda seconds: listener.progress(recording, seconds, known),
            on_segment=lambda segment: listener.segment(recording, segment),
        )
    except BrokenPipeError:  # who reads the output has seen enough
        raise
    except Exception as error:  # one recording must not stop the others
        return error
