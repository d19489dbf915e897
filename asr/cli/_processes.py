"""Recordings through several processes with a recogniser each.

A module of its own: what it imports takes a while, and most calls need one process only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Lock
from typing import TYPE_CHECKING

from asr.cli._listeners import Listener, attempt
from asr.cli._recognizer_options import Settings
from asr.errors import ASRError

if TYPE_CHECKING:
    from asr.recognizer import Recognizer
    from asr.types import Segment, Transcript

_POLL_SECONDS = 0.1
# NumPy's matrix library, which reads this when it is loaded, uses all cores in each process by
# default. Threads of two processes then wait for each other: two took 1.5 times as long.
_THREADS = "OPENBLAS_NUM_THREADS"


def transcribe_in_processes(
    settings: Settings, recordings: Sequence[str], jobs: int, listener: Listener
) -> None:
    """Transcribe `jobs` recordings at a time, each process with a recogniser of its own."""
    context = get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    shared = (settings, writer, context.Lock(), listener.shows_progress)
    with (
        _inherited(_THREADS, str(settings.threads or 1)),
        ProcessPoolExecutor(min(jobs, len(recordings)), context, _start_worker, shared) as pool,
    ):
        waiting = {recording: pool.submit(_work, recording) for recording in recordings}
        writer.close()  # the workers have it; without them, reading ends
        try:
            _pass_on(reader, waiting, listener)
        finally:
            reader.close()  # a worker that is still busy stops at its next word
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _inherited(name: str, value: str) -> Iterator[None]:
    """An environment variable of the processes that are started meanwhile, unless it is set."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


def _pass_on(reader: Connection, waiting: dict[str, Future[None]], listener: Listener) -> None:
    """Tell the listener what the workers send, until each recording has a result."""
    while waiting:
        try:
            event, *details = reader.recv() if reader.poll(_POLL_SECONDS) else ("",)
        except (EOFError, BrokenPipeError):  # no worker is left
            wait(waiting.values())
            event = ""
        if event:
            if event == "result":
                del waiting[details[0]]
            getattr(listener, event)(*details)
            continue
        for recording, future in list(waiting.items()):
            if future.done():  # and all that it has sent is read
                del waiting[recording]
                listener.result(recording, _death(recording, future))


def _death(recording: str, future: Future[None]) -> Exception:
    error = future.exception()
    if error is None or isinstance(error, BrokenProcessPool):
        return ASRError(
            f"{recording}: a process was stopped while it worked",
            "memory may have run out: try fewer --jobs",
        )
    return error if isinstance(error, Exception) else ASRError(f"{recording}: {error!r}")


class _Sender:
    """The listener of a worker process: it sends everything to the first process."""

    def __init__(self, writer: Connection, lock: Lock, shows_progress: bool):
        self._writer, self._lock, self.shows_progress = writer, lock, shows_progress

    def progress(self, recording: str, seconds: float, duration: float | None) -> None:
        if self.shows_progress:
            self._send("progress", recording, seconds, duration)

    def segment(self, recording: str, segment: Segment) -> None:
        self._send("segment", recording, segment)

    def result(self, recording: str, result: Transcript | Exception) -> None:
        self._send("result", recording, result)

    def _send(self, event: str, *details: object) -> None:
        with self._lock:
            self._writer.send((event, *details))


_recognizer: Recognizer  # of a worker process
_settings: Settings
_sender: _Sender


def _start_worker(settings: Settings, writer: Connection, lock: Lock, shows_progress: bool) -> None:
    global _recognizer, _settings, _sender
    _settings, _sender = settings, _Sender(writer, lock, shows_progress)
    _recognizer = settings.load(quiet=True)  # the first process has told what there is to tell


def _work(recording: str) -> None:
    _sender.result(recording, attempt(_recognizer, recording, _settings, _sender))
