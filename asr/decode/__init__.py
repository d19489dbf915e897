"""From log-probabilities to text: searches, rescorers, alignment; docs/decoding.md tells how.

The beam search is compiled by numba when it is first used; greedy decoding needs none of that, so
importing this package does not import numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asr.decode.config import DecoderConfig
from asr.decode.decoder import Decoder, DecoderStream, make_decoder
from asr.decode.greedy import GreedySearch
from asr.words import Partial

if TYPE_CHECKING:
    from asr.decode.beam import BeamSearch

__all__ = [
    "BeamSearch",
    "Decoder",
    "DecoderConfig",
    "DecoderStream",
    "GreedySearch",
    "Partial",
    "make_decoder",
]


def __getattr__(name: str) -> Any:
    if name == "BeamSearch":
        from asr.decode.beam import BeamSearch

        return BeamSearch
    raise AttributeError(f"module 'asr.decode' has no attribute {name!r}")
