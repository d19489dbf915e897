"""Error rates of parts of a test set: by speaker, length, rate of speech, noise level, and by every
column of the manifest that divides it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from asr.analysis.metrics import Comparison, ErrorCounts, confidence_interval, total
from asr.text.languages import speller
from asr.types import Utterance

MAX_VALUES = 60  # a column with more values than this divides nothing, such as `id`
_LENGTHS = (2.0, 5.0, 10.0, 20.0)  # s
_RATES = (1.5, 2.5, 3.5)  # words a second
_LEVELS = (10.0, 20.0, 30.0)  # dB
_NAME = re.compile(r"(?<=[\w,] )[A-Z][\w'’]+")  # a capital that begins no sentence


@dataclass(frozen=True, slots=True)
class Part:
    """Utterances with one value of a column, with the 95 % interval of their word error rate."""

    value: str
    utterances: int
    words: ErrorCounts
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scored:
    """An utterance with its comparison; `noise` is the signal-to-noise ratio in dB, if known."""

    utterance: Utterance
    comparison: Comparison
    noise: float | None = None


def breakdown(scored: Sequence[Scored]) -> dict[str, list[Part]]:
    """The parts of each column that divides the utterances, the most frequent columns first."""
    columns: dict[str, Callable[[Scored], str | None]] = {
        "speaker": lambda s: s.utterance.speaker,
        "length (s)": lambda s: _bin(s.utterance.duration, _LENGTHS),
        "words per second": lambda s: _bin(
            s.comparison.words.reference / max(s.utterance.duration, 1e-3), _RATES
        ),
        "signal-to-noise ratio (dB)": lambda s: None if s.noise is None else _bin(s.noise, _LEVELS),
    }
    for key in dict.fromkeys(key for s in scored for key in s.utterance.extra):
        columns.setdefault(key, partial(_column, key))
    found = {}
    for name, value_of in columns.items():
        groups: dict[str, list[Scored]] = {}
        for one in scored:
            if (value := value_of(one)) is not None:
                groups.setdefault(value, []).append(one)
        if 1 < len(groups) <= MAX_VALUES or (name == "speaker" and len(groups) > 1):
            found[name] = [_part(value, group) for value, group in _sorted(groups)]
    return found


def signal_to_noise(waveform: np.ndarray, sample_rate: int) -> float | None:
    """A rough ratio in dB: the loudest tenth of the frames of 20 ms over the quietest tenth."""
    frame = sample_rate // 50
    if len(waveform) < 10 * frame:
        return None
    frames = waveform[: len(waveform) // frame * frame].reshape(-1, frame)
    levels = np.sort(10 * np.log10(np.mean(frames**2, axis=1) + 1e-10))
    tenth = max(1, len(levels) // 10)
    return float(levels[-tenth:].mean() - levels[:tenth].mean())


def special_words(scored: Iterable[Scored], language: str) -> dict[str, tuple[int, int]]:
    """Of the names and the numbers in the references: how many there are, and how many are wrong.

    Names are words with a capital inside a sentence, as the manifest writes them; numbers are words
    that spelled-out digits give, such as `twenty`.
    """
    spell = speller(language)
    numbers = {
        w for n in (*range(20), *range(20, 100, 10), 100, 1000) for w in spell(str(n)).split()
    }
    counts = {"names": [0, 0], "numbers": [0, 0]}
    for one in scored:
        names = {name.lower().replace("’", "'") for name in _NAME.findall(one.utterance.text)}
        for said, found in one.comparison.pairs:
            kind = "numbers" if said in numbers else "names" if said in names else None
            if said and kind:
                counts[kind][0] += 1
                counts[kind][1] += said != found
    return {kind: (n, wrong) for kind, (n, wrong) in counts.items() if n}


def calibration(
    words: Iterable[tuple[float, bool]], bins: int = 10
) -> list[tuple[float, float, int]]:
    """Mean confidence, share of right words, and number of words in each bin of confidence.

    >>> calibration([(0.9, True), (0.95, True), (0.2, False)])
    [(0.2, 0.0, 1), (0.925, 1.0, 2)]
    """
    groups: dict[int, list[tuple[float, bool]]] = {}
    for confidence, right in words:
        groups.setdefault(min(bins - 1, int(confidence * bins)), []).append((confidence, right))
    return [
        (
            round(sum(c for c, _ in group) / len(group), 4),
            round(sum(right for _, right in group) / len(group), 4),
            len(group),
        )
        for _, group in sorted(groups.items())
    ]


def _part(value: str, group: Sequence[Scored]) -> Part:
    counts = [one.comparison.words for one in group]
    return Part(value, len(group), total(counts), *confidence_interval(counts))


def _bin(value: float, edges: Sequence[float]) -> str:
    """
    >>> _bin(1, (2, 5)), _bin(2, (2, 5)), _bin(9, (2, 5))
    ('below 2', '2 to 5', 'from 5')
    """
    if value < edges[0]:
        return f"below {edges[0]:g}"
    for low, high in pairwise(edges):
        if value < high:
            return f"{low:g} to {high:g}"
    return f"from {edges[-1]:g}"


def _column(key: str, one: Scored) -> str | None:
    value = one.utterance.extra.get(key)
    return str(value) if isinstance(value, str | int | float | bool) and value != "" else None


def _sorted(groups: dict[str, list[Scored]]) -> list[tuple[str, list[Scored]]]:
    def key(item: tuple[str, list[Scored]]) -> tuple[float, str]:
        number = re.search(r"-?\d+(\.\d+)?", item[0])
        below = item[0].startswith("below")
        return (float(number[0]) - below if number else np.inf, item[0])

    return sorted(groups.items(), key=key)
