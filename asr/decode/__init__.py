"""From log-probabilities to text: greedy or beam search, alignment.

The beam search is compiled by numba when it is first used; `GreedyDecoder` needs none of that, so
importing this package does not import numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.decode.config import DecoderConfig
from asr.decode.greedy import GreedyDecoder
from asr.decode.words import Partial

if TYPE_CHECKING:
    from asr.decode.beam import BeamSearchDecoder, BeamSearchStream
    from asr.decode.lexicon import Lexicon

__all__ = [
    "BeamSearchDecoder",
    "BeamSearchStream",
    "DecoderConfig",
    "GreedyDecoder",
    "Lexicon",
    "Partial",
]


def __getattr__(name: str) -> Any:
    if name in ("BeamSearchDecoder", "BeamSearchStream"):
        from asr.decode import beam

        return getattr(beam, name)
    if name == "Lexicon":
        from asr.decode.lexicon import Lexicon

        return Lexicon
    raise AttributeError(f"module 'asr.decode' has no attribute {name!r}")
