"""Whole recordings, transcribed as `asr transcribe` does, on threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO

from asr.recognizer import Recognizer
from asr.types import Loss, Segment
from serve.limits import Places
from serve.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class Finished:
    """All of the recording has been read; it is `duration` seconds long.

    `losses` are what damage or a cut has taken away from it.
    """

    duration: float
    losses: tuple[Loss, ...] = ()


class _Abandoned(Exception):
    """Nobody waits for the result any more."""


class Uploads:
    """A bounded number of recordings in work and waiting."""

    def __init__(self, recognizer: Recognizer, settings: ServeSettings):
        self._recognizer = recognizer
        self._limit = settings.max_decoded_seconds
        self.places = Places(settings.max_uploads)
        self._max = settings.max_uploads
        self._pool = ThreadPoolExecutor(settings.upload_threads, "upload")

    @property
    def busy(self) -> bool:
        """Some recording is in work or waits."""
        return self.places.free < self._max

    async def segments(self, recording: BinaryIO) -> AsyncGenerator[Segment | Finished]:
        """What is said, segment by segment as it is understood, and then how long it was.

        Raises AudioError for what is no recording or too long. Leaving the loop stops the work.
        """
        loop = asyncio.get_running_loop()
        results: asyncio.Queue[Segment | Finished | Exception] = asyncio.Queue()
        abandoned = threading.Event()
        work = loop.run_in_executor(
            self._pool,
            self._work,
            recording,
            abandoned,
            lambda result: loop.call_soon_threadsafe(results.put_nowait, result),
        )
        try:
            while True:
                result = await results.get()
                if isinstance(result, Exception):
                    raise result
                yield result
                if isinstance(result, Finished):
                    return
        finally:
            abandoned.set()
            work.cancel()

    def close(self) -> None:
        """Wait for what is in work."""
        self._pool.shutdown(cancel_futures=True)

    def _work(
        self,
        recording: BinaryIO,
        abandoned: threading.Event,
        tell: Callable[[Segment | Finished | Exception], object],
    ) -> None:
        duration = 0.0
        losses: list[Loss] = []

        def reached(seconds: float) -> None:
            nonlocal duration
            duration = seconds
            if abandoned.is_set():
                raise _Abandoned

        try:
            for segment in self._recognizer.segments(
                recording, progress=reached, limit=self._limit, on_loss=losses.append
            ):
                tell(segment)
            tell(Finished(duration, tuple(losses)))
        except _Abandoned:
            return
        except Exception as error:  # whatever it is, who waits is told
            tell(error)
