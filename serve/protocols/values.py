"""Values that clients send, checked, and parts of messages that several protocols share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from asr.channels import ChannelChoice, parse_choice
from asr.errors import ConfigError
from asr.types import StreamEvent, Word
from asr.vad import VadConfig
from serve.limits import bad_request

# A shorter silence than the one between segments of files would split words otherwise than there.
MIN_SILENCE = VadConfig().min_silence


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
        raise bad_request(f"{name} is {value!r:.50}, not a number") from None
    if not low <= result <= high:
        raise bad_request(f"{name} is {result:g}: {low:g} to {high:g} are possible")
    return result


def flag(value: str | None) -> bool:
    """A query parameter that is true or not."""
    return value is not None and value.lower() in {"true", "1", "yes", "on"}


def channel_choice(value: str | None) -> ChannelChoice:
    """Which channels of a recording to transcribe; `auto` if not given. Raises Refused."""
    try:
        return parse_choice(value or "auto")
    except ConfigError as error:
        raise bad_request(f"channels is {value!r:.30}: {error.remedy}") from None


def hotwords(phrases: object) -> tuple[str, ...]:
    """Phrases to listen for; `serve.hotwords` bounds them. Raises Refused for what is no list."""
    if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
        raise bad_request("hot words are a list of phrases")
    return tuple(phrase for phrase in phrases if phrase.strip())


def silence(milliseconds: object, name: str) -> float:
    """Seconds of silence that end an utterance, from a client's milliseconds. Raises Refused."""
    return max(MIN_SILENCE, number(milliseconds, name, 0, 60_000) / 1000)


def check_language(wanted: object, spoken: str) -> None:
    """Raises Refused where a client wants another language than the model's.

    >>> check_language("en-US", "en")
    """
    if wanted and str(wanted).lower().replace("_", "-").split("-")[0] != spoken:
        raise bad_request(f"the language {wanted!r:.20} is not spoken here: {spoken!r} is")


def joined(events: Iterable[StreamEvent]) -> str:
    """The text of several finals."""
    return " ".join(event.text for event in events if event.text)


def confidence(words: Sequence[Word]) -> float:
    """The mean of words' confidences; 0 if there are none."""
    return sum(word.confidence for word in words) / len(words) if words else 0.0


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
