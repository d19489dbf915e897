"""Texts of a recogniser, ours or another, against the references of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from asr.analysis.breakdown import Scored
from asr.analysis.metrics import compare
from asr.errors import MissingDependencyError
from asr.text.languages import normalizer
from asr.types import Utterance, Word

Normalization = Literal["asr", "whisper", "none"]


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was recognised in an utterance; `seconds` is how long its audio is."""

    text: str
    words: tuple[Word, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """Results on one manifest.

    scored: utterances with a reference, and `words` as they were recognised. silent: names of
    recordings without one, with the words that were recognised there; silent_seconds: how long
    they are in all.
    """

    scored: list[Scored] = field(default_factory=list)
    words: list[tuple[Word, ...]] = field(default_factory=list)
    silent: list[tuple[str, str]] = field(default_factory=list)
    silent_seconds: float = 0.0

    @property
    def inserted(self) -> int:
        """Words that were recognised in recordings without speech."""
        return sum(len(text.split()) for _, text in self.silent)

    @property
    def silence(self) -> str:
        """The recordings without speech in a sentence."""
        rate = 60 * self.inserted / self.silent_seconds if self.silent_seconds else 0.0
        return (
            f"{len(self.silent)} recordings without speech, {self.silent_seconds / 60:.2f} min:"
            f" {self.inserted} words inserted, {rate:.2f} a minute"
        )


def score(
    utterances: Sequence[Utterance],
    recognised: Sequence[Recognised],
    normalize: Callable[[str], str],
) -> Score:
    """Compare texts of the same utterances, both normalised in the same way."""
    scored: list[Scored] = []
    words: list[tuple[Word, ...]] = []
    silent: list[tuple[str, str]] = []
    seconds = 0.0
    for utterance, found in zip(utterances, recognised, strict=True):
        reference, hypothesis = normalize(utterance.text), normalize(found.text)
        if reference:
            scored.append(Scored(utterance, compare(reference, hypothesis, utterance.name)))
            words.append(found.words)
        else:
            silent.append((utterance.name, hypothesis))
            seconds += found.seconds or utterance.duration
    return Score(scored, words, silent, seconds)


def make_normalizer(kind: Normalization, language: str) -> Callable[[str], str]:
    """`asr`: as for training; `whisper`: Whisper's, for published figures; `none`: as it is.

    Raises MissingDependencyError without the package of Whisper's.
    """
    if kind == "asr":
        return normalizer(language)
    if kind == "none":
        return lambda text: " ".join(text.split())
    try:
        from whisper_normalizer.basic import BasicTextNormalizer
        from whisper_normalizer.english import EnglishTextNormalizer
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "Whisper's normaliser is not installed", "pip install 'blstm-ctc-asr[train]'"
        ) from error
    whisper = EnglishTextNormalizer() if language.startswith("en") else BasicTextNormalizer()
    return lambda text: " ".join(whisper(text).split())
