"""The words that a decoder may say: a prefix tree of spellings, pronunciations, hot words."""

from asr.lexicon.lexicon import Lexicon, unit_labels

__all__ = ["Lexicon", "unit_labels"]
