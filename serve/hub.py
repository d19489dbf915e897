"""What all sessions of one process share: the model, the limits, the metrics."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from asr.audio import SAMPLE_RATE
from asr.lexicon.hotwords import read_hotwords
from asr.packaging.bundle import Bundle, bundled
from asr.recognizer import Recognizer
from asr.vad import VadConfig
from serve import limits, logs
from serve.auth import Keys, Sites
from serve.batcher import Batcher
from serve.client_secrets import ClientSecrets
from serve.containers import Decoders
from serve.hotwords import Hotwords
from serve.limits import Places, Refused
from serve.metrics import Metrics
from serve.protocols.base import ModelInfo
from serve.settings import ServeSettings
from serve.uploads import Uploads

if TYPE_CHECKING:
    from serve.session import Session

_HOUSEKEEPING_SECONDS = 1.0


@dataclass(frozen=True)
class Loaded:
    """A model at work."""

    recognizer: Recognizer
    batcher: Batcher
    uploads: Uploads
    hotwords: Hotwords
    decoders: Decoders


class Hub:
    """One worker process. It belongs to an event loop; the computing is done on other threads."""

    def __init__(self, settings: ServeSettings):
        self.settings = settings
        self.keys = Keys(settings.keys)
        self.client_secrets = ClientSecrets(settings.keys)
        hosts = {settings.host.lower(), *(host.lower() for host in settings.allowed_host)}
        self.sites = Sites(frozenset(hosts), frozenset(settings.cors_origin))
        self.metrics = Metrics()
        self.places = Places(settings.max_connections)
        # Who needs no key takes no place of those who do.
        self._own_places = {"wyoming": Places(settings.max_wyoming_connections)}
        self.draining = False
        self.open_connections = 0
        self.loaded: Loaded | None = None
        self.failure: Exception | None = None  # why there will be no model
        self._bundle = Bundle.load(settings.model or bundled())
        self.info = ModelInfo(
            self._bundle.config.name, self._bundle.config.language, settings.punctuate
        )
        self._sessions: set[Session] = set()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        """The model is loaded and warmed, and the server is not about to stop."""
        return self.loaded is not None and not self.draining

    def check_open(self) -> Loaded:
        """The model. Raises Refused while it loads, and while the last results are being sent."""
        if self.draining:
            raise limits.draining()
        if self.loaded is None:
            raise limits.not_ready()
        return self.loaded

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
    def admitted(self, session: Session) -> Iterator[Loaded]:
        """A place for a live stream. Raises Refused if there is none."""
        loaded = self.check_open()
        with self._own_places.get(session.name, self.places).taken():
            self._sessions.add(session)
            self.metrics.streams.labels(session.name).inc()
            active = self.metrics.active.labels(session.name)
            active.inc()
            try:
                yield loaded
            finally:
                active.dec()
                self._sessions.discard(session)

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
        sessions = list(self._sessions)
        logs.event("draining", streams=len(sessions))
        for session in sessions:
            session.end(limits.draining())
        deadline = time.monotonic() + self.settings.drain_seconds
        while (self._sessions or self._busy_uploads) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        logs.event("drained", streams_left=len(self._sessions))

    async def stop(self) -> None:
        """After `drain`: end what runs beside the sessions."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.loaded is not None:
            await asyncio.to_thread(self.loaded.batcher.close)
            self.loaded.uploads.close()
            self.loaded.hotwords.close()
            self.loaded.decoders.close()

    @property
    def _busy_uploads(self) -> bool:
        return self.loaded is not None and self.loaded.uploads.busy

    async def _load(self) -> None:
        begin = time.monotonic()
        decoders = Decoders()
        try:
            recognizer = await asyncio.to_thread(self._load_recognizer)
            await asyncio.to_thread(decoders.warm)
        except Exception as error:  # the server stops: without a model it is of no use
            self.failure = error
            self.fault("load", error)
            return
        batcher = Batcher(recognizer, self.settings.batch_wait, self.metrics.batch.observe)
        self.loaded = Loaded(
            recognizer,
            batcher,
            Uploads(decoders, self.settings),
            Hotwords(recognizer, self.fault),
            decoders,
        )
        self.metrics.ready.set(0 if self.draining else 1)
        logs.event("ready", model=self.info.name, seconds=round(time.monotonic() - begin, 2))

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
            factors = [session.real_time_factor for session in self._sessions]
            self.metrics.max_rtf.set(max(factors, default=0.0))
