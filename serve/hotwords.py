"""Hot words of clients: prepared on a thread of their own, shared between streams, never a reason
to end one.

What cannot be said, or is too much, is skipped, and the client is told where its protocol has a
place for that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from asr.errors import ASRError
from asr.recognizer import Recognizer

MAX_PHRASES = 1000
MAX_CHARACTERS = 20_000  # of all phrases together
MAX_PHRASE_CHARACTERS = 100
_MAX_CACHED = 16  # each may hold a lexicon: some 10 MB
_MAX_WAITING = 8  # one list takes up to a second


@dataclass(frozen=True, slots=True)
class Skipped:
    """A hot word, or a part of one, that is not listened for, and why."""

    hotword: str
    reason: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A recogniser that listens for the hot words that were not skipped."""

    recognizer: Recognizer
    skipped: tuple[Skipped, ...] = ()


class Hotwords:
    """Prepares lists of hot words, and remembers the last ones.

    `on_fault` is told what of ours failed, and where.
    """

    def __init__(self, recognizer: Recognizer, on_fault: Callable[[str, Exception], object]):
        self._recognizer, self._on_fault = recognizer, on_fault
        self._cache: OrderedDict[tuple[str, ...], asyncio.Future[Prepared]] = OrderedDict()
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, "hotwords")

    async def prepare(self, phrases: Iterable[str]) -> Prepared:
        """A recogniser for these phrases as people write them; lists are prepared one by one."""
        taken, skipped = _bounded(phrases)
        if not taken:
            return Prepared(self._recognizer, skipped)
        found = self._cache.get(taken)
        if found is None:
            if self._waiting >= _MAX_WAITING:
                busy = self._none(taken, "the server is busy with other hot words")
                return Prepared(self._recognizer, (*skipped, *busy.skipped))
            self._waiting += 1
            found = self._cache[taken] = asyncio.ensure_future(self._submit(taken))
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(taken)
        prepared = await asyncio.shield(found)
        return Prepared(prepared.recognizer, (*skipped, *prepared.skipped))

    def close(self) -> None:
        """Wait for what is in work."""
        self._pool.shutdown(cancel_futures=True)

    async def _submit(self, phrases: tuple[str, ...]) -> Prepared:
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._prepare, phrases)
        except ASRError as error:  # the decoder knows none
            return self._none(phrases, error.cause)
        except Exception as error:
            self._on_fault("hotwords", error)
            return self._none(phrases, "the server failed")
        finally:
            self._waiting -= 1

    def _none(self, phrases: tuple[str, ...], reason: str) -> Prepared:
        return Prepared(self._recognizer, tuple(Skipped(phrase, reason) for phrase in phrases))

    def _prepare(self, phrases: tuple[str, ...]) -> Prepared:
        recognizer = self._recognizer.with_hotwords(phrases)
        skipped = [Skipped(s.hotword.phrase, s.reason) for s in recognizer.skipped_hotwords]
        return Prepared(recognizer, tuple(skipped))


def _bounded(phrases: Iterable[str]) -> tuple[tuple[str, ...], tuple[Skipped, ...]]:
    """Different phrases as far as there is room for them, and the others.

    >>> _bounded(["cab", "cab", "x" * 200])[0]
    ('cab',)
    """
    taken: list[str] = []
    skipped: list[Skipped] = []
    n_characters = 0
    for phrase in dict.fromkeys(phrase.strip() for phrase in phrases):
        n_characters += len(phrase)
        if len(phrase) > MAX_PHRASE_CHARACTERS:
            skipped.append(Skipped(phrase, f"more than {MAX_PHRASE_CHARACTERS} characters"))
        elif len(taken) >= MAX_PHRASES or n_characters > MAX_CHARACTERS:
            limit = f"{MAX_PHRASES} hot words of {MAX_CHARACTERS} characters are taken"
            skipped.append(Skipped(phrase, limit))
        elif phrase:
            taken.append(phrase)
    return tuple(taken), tuple(skipped)
