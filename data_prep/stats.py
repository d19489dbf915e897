"""What is in a manifest: numbers as a row of a table, distributions as a picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asr.errors import ASRError, MissingDependencyError
from asr.files import replacing
from asr.types import Utterance

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Statistics:
    """Durations in seconds; counts, and hours of speakers, are sorted, the greatest first."""

    durations: np.ndarray
    rates: np.ndarray  # characters a second, one for each utterance that lasts
    speaker_hours: np.ndarray  # empty if no speaker is known
    word_counts: np.ndarray  # how often each distinct word occurs
    n_characters: int  # distinct ones

    @property
    def hours(self) -> float:
        return float(self.durations.sum()) / 3600

    def row(self) -> dict[str, str]:
        """The numbers as they stand in the table."""
        shortest, median, longest = np.percentile(self.durations, [0, 50, 100])
        return {
            "utterances": f"{len(self.durations):,}",
            "hours": f"{self.hours:.2f}",
            "speakers": f"{len(self.speaker_hours):,}" if len(self.speaker_hours) else "?",
            "shortest": f"{shortest:.2f} s",
            "median": f"{median:.2f} s",
            "longest": f"{longest:.2f} s",
            "words": f"{self.word_counts.sum():,}",
            "distinct": f"{len(self.word_counts):,}",
            "characters": f"{self.n_characters:,}",
            "characters/s": f"{np.median(self.rates):.1f}" if len(self.rates) else "?",
        }


def statistics(utterances: Sequence[Utterance]) -> Statistics:
    """Of at least one utterance."""
    words: Counter[str] = Counter()
    characters: set[str] = set()
    speakers: dict[str, float] = defaultdict(float)
    for utterance in utterances:
        words.update(utterance.text.split())
        characters.update(utterance.text)
        if utterance.speaker is not None:
            speakers[utterance.speaker] += utterance.duration / 3600
    rates = [len(u.text) / u.duration for u in utterances if u.duration]
    return Statistics(
        np.array([u.duration for u in utterances]),
        np.array(rates),
        np.array(sorted(speakers.values(), reverse=True)),
        np.array(sorted(words.values(), reverse=True), dtype=int),
        len(characters),
    )


def draw(by_name: Mapping[str, Statistics], path: Path) -> None:
    """Write `picture` as a file, of the kind that its ending names.

    Raises MissingDependencyError without matplotlib, ASRError for an ending that is no picture's.
    """
    try:
        with replacing(path) as temporary:
            picture(by_name).savefig(temporary, dpi=120, format=path.suffix.lstrip(".") or "png")
    except ValueError as error:
        raise ASRError(f"{path}: cannot be drawn: {error}", "end its name with .png") from error


def picture(by_name: Mapping[str, Statistics]) -> Figure:
    """Durations, speech rates, speakers and words of each manifest.

    Raises MissingDependencyError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "pictures need matplotlib", "pip install 'blstm-ctc-asr[data]'"
        ) from error
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    (durations, rates), (speakers, words) = figure.subplots(2, 2)
    everything = list(by_name.values())
    longest = max(float(np.percentile(s.durations, 99.5)) for s in everything)
    fastest = max(
        (float(np.percentile(s.rates, 99.5)) for s in everything if len(s.rates)), default=1
    )
    for name, s in by_name.items():
        share = np.full(len(s.durations), 100 / len(s.durations))
        durations.hist(
            s.durations, np.linspace(0, longest, 50), weights=share, alpha=0.5, label=name
        )
        share = np.full(len(s.rates), 100 / max(1, len(s.rates)))
        rates.hist(s.rates, np.linspace(0, fastest, 50), weights=share, alpha=0.5)
        speakers.plot(np.arange(1, len(s.speaker_hours) + 1), 60 * s.speaker_hours, ".-")
        words.plot(np.arange(1, len(s.word_counts) + 1), s.word_counts, ".-")
    durations.set(title="Length", xlabel="duration (s)", ylabel="utterances (%)")
    rates.set(title="Rate", xlabel="speech rate (characters/s)", ylabel="utterances (%)")
    speakers.set(title="Speakers", xlabel="rank by amount", ylabel="speech (min)", yscale="log")
    words.set(title="Words", xlabel="rank by frequency", ylabel="occurrences")
    words.set(xscale="log", yscale="log")
    figure.suptitle("Utterances, speakers and words of manifests")
    figure.legend(loc="outside lower center", ncols=2)
    return figure
