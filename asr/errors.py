"""One family of errors. Each names the cause and, where there is one, the remedy."""

from __future__ import annotations


class ASRError(Exception):
    """What went wrong, and what to do about it.

    >>> print(AudioError("talk.wav: no audio in this file", "check the recording"))
    talk.wav: no audio in this file (check the recording)
    """

    def __init__(self, cause: str, remedy: str = ""):
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause} ({self.remedy})" if self.remedy else self.cause


class AudioError(ASRError):
    """A recording cannot be read."""


class ManifestError(ASRError):
    """A manifest, or one line of it, is not what it should be."""


class VocabularyError(ASRError):
    """Text and vocabulary do not fit together."""


class LanguageModelError(ASRError):
    """A language model cannot be trained, read or used."""


class DecodeError(ASRError):
    """The input of a decoder is not what it should be."""


class BundleError(ASRError):
    """A folder is not a model, or a damaged one."""


class ConfigError(ASRError):
    """A setting is unknown, missing or contradictory."""


class TrainingError(ASRError):
    """A training run cannot start or continue."""


class MissingDependencyError(ASRError):
    """An optional package is not installed; the remedy is the command that installs it."""
