"""What all conversations of one process share: the model, the limits, the numbers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from asr.audio import SAMPLE_RATE
from asr.bundle import Bundle, bundled
from asr.decode.hotwords import read_hotwords
from asr.recognizer import Recognizer
from asr.vad import VadConfig
from serve import limits, logs
from serve.auth import Keys
from serve.batcher import Batcher
from serve.limits import Places, Refused
from serve.metrics import Metrics
from serve.settings import ServeSettings
from serve.uploads import Uploads

if TYPE_CHECKING:
    from serve.session import Conversation

_HOUSEKEEPING_SECONDS = 1.0


class Hub:
    """One worker process. It belongs to an event loop; the computing is done on other threads."""

    def __init__(self, settings: ServeSettings):
        self.settings = settings
        self.keys = Keys(settings.keys)
        self.metrics = Metrics()
        self.places = Places(settings.max_connections)
        self.draining = False
        self.failure: Exception | None = None  # why there will be no model
        self._bundle = Bundle.load(settings.model or bundled())
        self._recognizer: Recognizer | None = None
        self._batcher: Batcher | None = None
        self._uploads: Uploads | None = None
        self._conversations: set[Conversation] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def model(self) -> str:
        """The name of the model."""
        return self._bundle.config.name

    @property
    def language(self) -> str:
        """The language of the model, such as `en`."""
        return self._bundle.config.language

    @property
    def ready(self) -> bool:
        """The model is loaded and warmed, and the server is not about to stop."""
        return self._recognizer is not None and not self.draining

    @property
    def recognizer(self) -> Recognizer:
        assert self._recognizer is not None, "ask for admission first"
        return self._recognizer

    @property
    def batcher(self) -> Batcher:
        assert self._batcher is not None, "ask for admission first"
        return self._batcher

    @property
    def uploads(self) -> Uploads:
        assert self._uploads is not None, "ask for admission first"
        return self._uploads

    def check_open(self) -> None:
        """Raises Refused unless the model is ready, and while the last results are being sent."""
        if self.draining:
            raise limits.draining()
        if self._recognizer is None:
            raise limits.not_ready()

    def reject(self, refused: Refused, **details: object) -> None:
        """Count a refusal and write it down."""
        self.metrics.rejected.labels(refused.reason).inc()
        logs.event("refused", logging.WARNING, reason=refused.reason, **details)

    def fault(self, where: str, error: BaseException) -> None:
        """A defect of our own: count it and write it down, with where it happened."""
        self.metrics.errors.labels(where).inc()
        trace = (type(error), error, error.__traceback__)
        logs.logger.error("fault", exc_info=trace, extra={"details": {"where": where}})

    @contextlib.contextmanager
    def admitted(self, conversation: Conversation) -> Iterator[None]:
        """A place for a live stream. Raises Refused if there is none."""
        self.check_open()
        with self.places.taken():
            self._conversations.add(conversation)
            self.metrics.streams.labels(conversation.name).inc()
            active = self.metrics.active.labels(conversation.name)
            active.inc()
            try:
                yield
            finally:
                active.dec()
                self._conversations.discard(conversation)

    def start(self) -> None:
        """Begin to load the model; the server listens meanwhile, and says that it is not ready."""
        self._tasks = [
            asyncio.create_task(self._load()),
            asyncio.create_task(self._keep_house()),
        ]

    async def drain(self) -> None:
        """Take in nothing new; give every live stream its last results, and wait for them."""
        self.draining = True
        self.metrics.ready.set(0)
        conversations = list(self._conversations)
        logs.event("draining", streams=len(conversations))
        for conversation in conversations:
            conversation.end(limits.draining())
        deadline = time.monotonic() + self.settings.drain_seconds
        while (self._conversations or self._busy_uploads) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        logs.event("drained", streams_left=len(self._conversations))

    async def stop(self) -> None:
        """After `drain`: end what runs beside the conversations."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._batcher is not None:
            await asyncio.to_thread(self._batcher.close)
        if self._uploads is not None:
            self._uploads.close()

    @property
    def _busy_uploads(self) -> bool:
        return self._uploads is not None and self._uploads.busy

    async def _load(self) -> None:
        begin = time.monotonic()
        try:
            recognizer = await asyncio.to_thread(self._load_recognizer)
        except Exception as error:  # the server stops: without a model it is of no use
            self.failure = error
            self.fault("load", error)
            return
        self._batcher = Batcher(recognizer, self.settings.batch_wait, self.metrics.batch.observe)
        self._uploads = Uploads(recognizer, self.settings)
        self._recognizer = recognizer
        self.metrics.ready.set(0 if self.draining else 1)
        logs.event("ready", model=self.model, seconds=round(time.monotonic() - begin, 2))

    def _load_recognizer(self) -> Recognizer:
        settings = self.settings
        recognizer = Recognizer(
            self._bundle,
            decoder=settings.decoder,
            hotwords=read_hotwords(settings.hotwords) if settings.hotwords else (),
            vad=VadConfig(detector=settings.vad),
            punctuate=settings.punctuate,
            threads=settings.threads or max(1, (os.cpu_count() or 1) // settings.workers),
        )
        for skipped in recognizer.skipped_hotwords:
            logs.event("hotword_skipped", logging.WARNING, reason=str(skipped))
        # The first use compiles the search and fills caches: no client shall wait for that.
        noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
        recognizer.recognize([noise])
        stream = recognizer.stream(sample_rate=SAMPLE_RATE)
        for block in np.split(noise, 4):
            list(stream.feed(block))
        list(stream.finish())
        return recognizer

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            factors = [c.real_time_factor for c in self._conversations]
            self.metrics.max_rtf.set(max(factors, default=0.0))
