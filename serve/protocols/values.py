"""Values that clients send, checked, and parts of messages that several protocols share."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterable
from typing import Any

from asr.channels import ChannelChoice, parse_choice
from asr.errors import ConfigError
from asr.types import StreamEvent, Word
from asr.vad import VadConfig
from serve.limits import bad_request

# A shorter silence than the one between segments of files would split words otherwise than there.
MIN_SILENCE = VadConfig().min_silence
_STANDING, _WORDS_BEHIND = 3, 2  # partial results and words that make a word of them settled
_MAX_PHRASE_WORDS = 4  # of a prompt: longer ones are sentences


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object. Raises Refused for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise bad_request(f"not a JSON object: {type(value).__name__}")
    return value


def number(value: object, name: str, low: float, high: float) -> float:
    """A number in low..high, from JSON or a query. Raises Refused.

    >>> number("16000", "sample_rate", 1000, 768000)
    16000.0
    """
    try:
        if isinstance(value, bool):
            raise ValueError
        result = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise bad_request(f"{name} is {value!r:.50}, not a number", name) from None
    if not low <= result <= high:
        raise bad_request(f"{name} is {result:g}: {low:g} to {high:g} are possible", name)
    return result


def flag(value: str | None) -> bool:
    """A query parameter that is true or not."""
    return value is not None and value.lower() in {"true", "1", "yes", "on"}


def channel_choice(value: str | None) -> ChannelChoice:
    """Which channels of a recording to transcribe; `auto` if not given. Raises Refused."""
    try:
        return parse_choice(value or "auto")
    except ConfigError as error:
        raise bad_request(f"channels is {value!r:.30}: {error.remedy}", "channels") from None


def prompt_hotwords(prompt: str) -> list[str]:
    """What a free text in the manner of Whisper's prompts asks to listen for: its short phrases
    between commas and line ends, and of sentences the names and abbreviations.

    >>> prompt_hotwords("ZyntriQix, Digique Plus, OCTAVE")
    ['ZyntriQix', 'Digique Plus', 'OCTAVE']
    >>> prompt_hotwords("We talk about the latest results of Kubernetes and GPT-4 here.")
    ['Kubernetes', 'GPT-4']
    """
    found: list[str] = []
    for phrase in re.split(r"[,;:!?\n]+|\.(?=\s|$)", prompt):
        words = phrase.split()
        if len(words) <= _MAX_PHRASE_WORDS:
            found += [" ".join(words)] if words else []
        else:  # a sentence begins with a capital whatever its first word is
            found += [word for word in words[1:] if word != word.lower() and word != "I"]
    return list(dict.fromkeys(found))


def hotwords(phrases: object) -> tuple[str, ...]:
    """Phrases to listen for; `serve.hotwords` bounds them. Raises Refused for what is no list."""
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise bad_request("hot words are a list of phrases")
    return tuple(phrase for phrase in phrases if phrase.strip())


def silence(milliseconds: object, name: str) -> float:
    """Seconds of silence that end an utterance, from a client's milliseconds. Raises Refused."""
    return max(MIN_SILENCE, number(milliseconds, name, 0, 60_000) / 1000)


class SettledWords:
    """The words of partial results that will hardly change: those that have stood in the last
    results, with others behind them.

    >>> from asr.types import Segment
    >>> settled = SettledWords()
    >>> for text in ("the", "the cat", "the cat sat", "the cat sat on", "the cat sat on a"):
    ...     words = settled.add(StreamEvent("partial", Segment(0, 1, text), ""))
    >>> words
    ['the', 'cat', 'sat']
    """

    def __init__(self) -> None:
        self._last: deque[list[str]] = deque(maxlen=_STANDING)
        self._settled: list[str] = []

    def add(self, event: StreamEvent) -> list[str]:
        """Take in the next partial result; returns all words that are settled."""
        words = event.text.split()
        self._last.append(words)
        if len(self._last) == _STANDING:
            n_same = 0
            for column in zip(*self._last, strict=False):
                if len(set(column)) > 1:
                    break
                n_same += 1
            self._grow(words[: min(n_same, len(words) - _WORDS_BEHIND)])
        self._grow(event.stable.split())
        return self._settled

    def _grow(self, words: list[str]) -> None:
        if len(words) > len(self._settled):
            self._settled = [*self._settled, *words[len(self._settled) :]]


def joined(events: Iterable[StreamEvent]) -> str:
    """The text of several finals."""
    return " ".join(event.text for event in events if event.text)


def timed_words(words: Iterable[Word]) -> list[dict[str, Any]]:
    """Words with times in seconds and confidences, rounded."""
    return [
        {
            "word": word.word,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in words
    ]


def logprobs(words: Iterable[Word]) -> list[dict[str, Any]]:
    """OpenAI's log-probabilities, a token being a word: the logarithms of the confidences."""
    return [
        {
            "token": word.word,
            "logprob": round(math.log(max(word.confidence, 1e-9)), 4),
            "bytes": list(word.word.encode()),
        }
        for word in words
    ]
