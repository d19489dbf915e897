"""From waveforms to log-probabilities: the one place where features meet the network.

Files, streams, alignment, tuning and plots all take it from here.
"""

from __future__ import annotations

from collections.abc import Sequence

from asr.audio import Waveform
from asr.engine import Engine, Heads, OnnxEngine
from asr.features import Features
from asr.packaging.bundle import Bundle


class Acoustics:
    """The features and the network of a bundle.

    features, engine: its two halves, for what comes in pieces. frame_shift: seconds from one row of
    log-probabilities to the next.

    Args:
        bundle: the model.
        threads: cores to use (None: all that there are).
        engine: what runs the network; ONNX Runtime unless given.

    Raises BundleError if the file of the network is none.
    """

    def __init__(
        self, bundle: Bundle, *, threads: int | None = None, engine: Engine | None = None
    ) -> None:
        self.features = Features(bundle.config.features)
        self.engine: Engine = engine or OnnxEngine(bundle.model_path, threads)
        self.frame_shift = bundle.config.frame_shift

    def log_probs(self, waveforms: Sequence[Waveform]) -> list[Heads]:
        """Waveforms `(samples,)` -> log-probabilities `(frames, classes)` of each head.

        At the sample rate of the features. The result for a waveform does not depend on the others;
        for one that is shorter than a frame it is `()`.
        """
        rows = [self.features(waveform) for waveform in waveforms]
        filled = [i for i, features in enumerate(rows) if len(features)]
        outputs: list[Heads] = [()] * len(rows)
        heads = self.engine.all_log_probs([rows[i] for i in filled])
        for i, log_probs in zip(filled, heads, strict=True):
            outputs[i] = log_probs
        return outputs
