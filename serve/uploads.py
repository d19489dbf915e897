"""Whole recordings, transcribed as `asr transcribe` does, on threads of their own."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO

from asr.audio import SAMPLE_RATE, Channels
from asr.channels import ChannelChoice
from asr.recognizer import Recognizer
from asr.types import Loss, Segment
from serve.containers import Decoders
from serve.limits import Places
from serve.settings import ServeSettings


@dataclass(frozen=True, slots=True)
class Finished:
    """All of the recording has been read; it is `duration` seconds long.

    losses: what damage or a cut has taken away from it.
    notices: what else a reader of the transcript should know.
    channels: how many there are in it.
    sha256: of the file, in hexadecimal digits.
    """

    duration: float
    losses: tuple[Loss, ...] = ()
    notices: tuple[str, ...] = ()
    channels: int = 1
    sha256: str = ""


class _Abandoned(Exception):
    """Nobody waits for the result any more."""


class Uploads:
    """A bounded number of recordings in work and waiting."""

    def __init__(self, decoders: Decoders, settings: ServeSettings):
        self._decoders = decoders
        self._limit = settings.max_decoded_seconds
        self.places = Places(settings.max_uploads)
        self._max = settings.max_uploads
        self._pool = ThreadPoolExecutor(settings.upload_threads, "upload")

    @property
    def busy(self) -> bool:
        """Some recording is in work or waits."""
        return self.places.free < self._max

    async def segments(
        self, recording: BytesIO, recognizer: Recognizer, channels: ChannelChoice = "auto"
    ) -> AsyncGenerator[Segment | Finished]:
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
            recognizer,
            channels,
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
        recording: BytesIO,
        recognizer: Recognizer,
        channels: ChannelChoice,
        abandoned: threading.Event,
        tell: Callable[[Segment | Finished | Exception], object],
    ) -> None:
        duration, n_channels = 0.0, 1
        losses: list[Loss] = []
        notices: list[str] = []

        def blocks() -> Iterator[Channels]:
            nonlocal duration, n_channels
            name = str(getattr(recording, "name", "the recording"))
            for block in self._decoders.recording(
                recording.getbuffer(), name, self._limit, losses.append
            ):
                duration += len(block) / SAMPLE_RATE
                n_channels = max(n_channels, block.shape[1])
                if abandoned.is_set():
                    raise _Abandoned
                yield block

        try:
            for segment in recognizer.block_segments(blocks(), channels, on_notice=notices.append):
                tell(segment)
            digest = hashlib.sha256(recording.getbuffer()).hexdigest()
            tell(Finished(duration, tuple(losses), tuple(notices), n_channels, digest))
        except _Abandoned:
            return
        except Exception as error:  # whatever it is, the waiting client gets it
            tell(error)
