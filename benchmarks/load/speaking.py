"""Clients that behave: each plays recordings in real time, and measures how long words take."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from websockets.asyncio.client import connect

RATE = 16_000  # Hz
BLOCK = RATE // 10  # samples a message
BLOCK_BYTES = 2 * BLOCK


@dataclass(frozen=True)
class Recording:
    """16-bit samples at 16 kHz, and what the server makes of the file."""

    name: str
    pcm: bytes
    text: str

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.pcm) / 2 / RATE


@dataclass
class Measures:
    """Seconds, of all streams together.

    response: from sending the block that a partial needed to receiving the partial. word: from the
    end of a word to the first partial that shows it. final: from sending the block that ended an
    utterance to receiving its final.
    """

    response: list[float] = field(default_factory=list)
    word: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    sessions: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class _Session:
    """One recording over one connection."""

    def __init__(self, recording: Recording, measures: Measures):
        self._recording, self._measures = recording, measures
        self._sent: list[float] = []  # when each block was sent
        self._seen: list[float] = []  # of the utterance: when its n-th word was first shown
        self._finals: list[str] = []

    async def run(self, url: str) -> None:
        async with connect(url + "/ws", proxy=None, compression=None) as socket:
            await socket.recv()  # ready
            sender = asyncio.create_task(self._send(socket))
            try:
                async for message in socket:
                    self._receive(json.loads(message), time.monotonic())
            finally:
                sender.cancel()
        self._measures.sessions += 1
        said = " ".join(self._finals)
        if said != self._recording.text:
            self._measures.wrong.append(
                f"{self._recording.name}: {said!r} instead of {self._recording.text!r}"
            )

    async def _send(self, socket) -> None:
        begin = time.monotonic()
        pcm = self._recording.pcm
        for number, first in enumerate(range(0, len(pcm), BLOCK_BYTES), start=1):
            # A microphone hands over a block when it is full.
            await asyncio.sleep(max(0.0, begin + number * BLOCK / RATE - time.monotonic()))
            self._sent.append(time.monotonic())
            await socket.send(pcm[first : first + BLOCK_BYTES])
        await socket.send('{"type": "finish"}')

    def _sent_at(self, seconds: float) -> float:
        """When the block with this second of the recording was sent."""
        index = max(0, -(-round(seconds * RATE) // BLOCK) - 1)
        return self._sent[min(index, len(self._sent) - 1)]

    def _receive(self, event: dict, now: float) -> None:
        if event["type"] == "partial":
            self._measures.response.append(now - self._sent_at(event["heard"]))
            words = len(event["text"].split())
            self._seen += [now] * (words - len(self._seen))
        elif event["type"] == "final":
            self._measures.final.append(now - self._sent_at(event["heard"]))
            for word, seen in zip(event["words"], self._seen, strict=False):
                self._measures.word.append(seen - self._sent_at(word["end"]))
            self._seen = []
            self._finals.append(event["text"])
        elif event["type"] == "done":
            self._measures.factors.append(event["real_time_factor"])


async def speak(
    url: str, recordings: Sequence[Recording], streams: int, seconds: float
) -> Measures:
    """`streams` clients, one recording after the other, each begun before `seconds` are over."""
    measures = Measures()
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        await asyncio.sleep(number / streams)  # not all in the same moment
        own: Iterator[Recording] = itertools.islice(itertools.cycle(recordings), number, None)
        for recording in own:
            if time.monotonic() >= end:
                return
            try:
                await _Session(recording, measures).run(url)
            except Exception as error:
                measures.failed.append(f"{recording.name}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)

    await asyncio.gather(*(client(number) for number in range(streams)))
    return measures


def percentiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    """p50, p95 and p99 in milliseconds."""
    if not seconds:
        return (float("nan"),) * 3
    p50, p95, p99 = np.percentile(np.array(seconds) * 1000, [50, 95, 99])
    return float(p50), float(p95), float(p99)
