"""What decoders have in common: several utterances at a time, and one in a single piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asr.types import Hypothesis


class DecodesBatches(ABC):
    """Adds `decode_batch` to a decoder: the compiled search needs no GIL, so threads help."""

    @abstractmethod
    def decode(self, outputs: Any, frame_shift: float, nbest: int = 1) -> list[Hypothesis]:
        """The best `nbest` texts of one utterance, the best first."""

    def decode_batch(
        self, outputs: Sequence[Any], frame_shift: float, threads: int = 1, nbest: int = 1
    ) -> list[list[Hypothesis]]:
        """`decode` for several utterances on `threads` threads at once."""
        with ThreadPoolExecutor(max(1, threads)) as pool:
            return list(pool.map(lambda one: self.decode(one, frame_shift, nbest), outputs))


class DecodesStreams(DecodesBatches):
    """Adds `decode` to a decoder that knows how to decode what comes in pieces."""

    @abstractmethod
    def stream(self, frame_shift: float) -> Any:
        """A decoder of one utterance: `feed` any number of times, then `finish`."""

    def decode(self, outputs: Any, frame_shift: float, nbest: int = 1) -> list[Hypothesis]:
        """`outputs`: log-probabilities (frames, classes) of the only head, or a tuple of each's."""
        stream = self.stream(frame_shift)
        stream.feed(*outputs) if isinstance(outputs, tuple) else stream.feed(outputs)
        return stream.finish(nbest)
