"""Hot words of clients: prepared on a thread of their own, shared between streams, never a reason
to end one.

What cannot be said, or is too much, is skipped, and reported to the client if its protocol has a
place for that.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeAlias

from asr.errors import ASRError
from asr.recognizer import Recognizer
from asr.types import Segment, StreamEvent, Word

UNKNOWN = "[unk]"  # in a grammar: whatever else is said
_UNKNOWN = (UNKNOWN, "<unk>")  # as people write it
_TWICE = (UNKNOWN, UNKNOWN)
_Wanted: TypeAlias = "tuple[tuple[str, ...], bool]"  # phrases, and whether they are a grammar
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
    """A recogniser that listens for the hot words that were not skipped.

    words: of a grammar that tells all others as UNKNOWN; none: there is no such grammar.
    """

    recognizer: Recognizer
    skipped: tuple[Skipped, ...] = ()
    words: frozenset[str] = frozenset()


class Hotwords:
    """Prepares lists of hot words, and remembers the last ones.

    `on_fault` gets our own failures, and where.
    """

    def __init__(self, recognizer: Recognizer, on_fault: Callable[[str, Exception], object]):
        self._recognizer, self._on_fault = recognizer, on_fault
        self._cache: OrderedDict[_Wanted, asyncio.Future[Prepared]] = OrderedDict()
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, "hotwords")
        self._pool.submit(self._learn)  # so that the first client need not wait for it

    async def prepare(self, phrases: Iterable[str], restricts: bool = False) -> Prepared:
        """A recogniser for these phrases as people write them; lists are prepared one by one.

        `restricts`: they are all that may be said; UNKNOWN among them stands for all else.
        """
        taken, skipped = _bounded(phrases)
        if not taken:
            return Prepared(self._recognizer, skipped)
        wanted = taken, restricts
        found = self._cache.get(wanted)
        if found is None:
            if self._waiting >= _MAX_WAITING:
                busy = self._none(taken, "the server is busy with other hot words")
                return Prepared(self._recognizer, (*skipped, *busy.skipped))
            self._waiting += 1
            found = self._cache[wanted] = asyncio.ensure_future(self._submit(*wanted))
            if len(self._cache) > _MAX_CACHED:
                self._cache.popitem(last=False)
        self._cache.move_to_end(wanted)
        prepared = await asyncio.shield(found)
        return replace(prepared, skipped=(*skipped, *prepared.skipped))

    def close(self) -> None:
        """Wait for what is in work."""
        self._pool.shutdown(cancel_futures=True)

    async def _submit(self, phrases: tuple[str, ...], restricts: bool) -> Prepared:
        prepare = self._prepare_grammar if restricts else self._prepare
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, prepare, phrases)
        except ASRError as error:  # the decoder knows none
            return self._none(phrases, error.cause)
        except Exception as error:
            self._on_fault("hotwords", error)
            return self._none(phrases, "the server failed")
        finally:
            self._waiting -= 1

    def _learn(self) -> None:
        try:
            self._recognizer.learn_pronunciations()
        except Exception as error:
            self._on_fault("hotwords", error)

    def _none(self, phrases: tuple[str, ...], reason: str) -> Prepared:
        return Prepared(self._recognizer, tuple(Skipped(phrase, reason) for phrase in phrases))

    def _prepare(self, phrases: tuple[str, ...]) -> Prepared:
        recognizer = self._recognizer.with_hotwords(phrases)
        return Prepared(recognizer, _skipped(recognizer))

    def _prepare_grammar(self, phrases: tuple[str, ...]) -> Prepared:
        named = tuple(phrase for phrase in phrases if phrase.lower() not in _UNKNOWN)
        if len(named) == len(phrases):
            recognizer = self._recognizer.with_grammar(phrases)
            return Prepared(recognizer, _skipped(recognizer))
        # Whatever is said is understood, so that it can be told from the phrases.
        recognizer = self._recognizer.with_hotwords(named)
        known = self._recognizer.prepare_hotwords(named).boosts
        words = frozenset(word for phrase in known for word in phrase.split())
        return Prepared(recognizer, _skipped(recognizer), words)


def mark_unknown(event: StreamEvent, words: frozenset[str]) -> StreamEvent:
    """A result in which other words than these are UNKNOWN, as many as there are in a row."""
    segment = _marked(event.segment, words)
    text, stable = segment.text, _marked_text(event.stable, words)
    if not event.is_final:  # the last word may not be all of what it will be
        text = text.removesuffix(UNKNOWN).rstrip()
        segment = replace(segment, text=text)
    alternatives = tuple(
        dict.fromkeys(_marked(alternative, words) for alternative in event.alternatives)
    )
    return replace(event, segment=segment, stable=stable, alternatives=alternatives)


def _marked(segment: Segment, words: frozenset[str]) -> Segment:
    marked: list[Word] = []
    for word in segment.words:
        if _is_in(word.word, words):
            marked.append(word)
        elif marked and marked[-1].word == UNKNOWN:
            marked[-1] = replace(marked[-1], end=word.end)
        else:
            marked.append(replace(word, word=UNKNOWN, units=()))
    return replace(segment, text=_marked_text(segment.text, words), words=tuple(marked))


def _marked_text(text: str, words: frozenset[str]) -> str:
    """
    >>> _marked_text("please turn the light off", frozenset(["light", "off"]))
    '[unk] light off'
    """
    marked = [word if _is_in(word, words) else UNKNOWN for word in text.split()]
    return " ".join(
        word for i, word in enumerate(marked) if i == 0 or (word, marked[i - 1]) != _TWICE
    )


def _is_in(word: str, words: frozenset[str]) -> bool:
    """However it is written."""
    return word in words or word.strip(".,;:!?").lower() in words


def _skipped(recognizer: Recognizer) -> tuple[Skipped, ...]:
    return tuple(Skipped(s.hotword.phrase, s.reason) for s in recognizer.skipped_hotwords)


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
