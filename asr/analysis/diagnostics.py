"""What happens inside a network: gradients over time, sensitivity, attention."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from asr.decode.attention import beam_search
from asr.errors import ConfigError
from asr.features import FeatureConfig
from asr.models.acoustic import AcousticModel
from asr.models.attention import SelfAttention
from asr.models.attention_decoder import AttentionHead, TorchAttention
from asr.models.cells import CELLS, recurrent_weight
from asr.packaging.bundle import CONFIG, Bundle
from asr.packaging.package import load_bundle, load_run, run_features
from asr.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Network:
    """A trained network with what it reads and writes."""

    model: AcousticModel
    vocabulary: Vocabulary
    features: FeatureConfig

    @property
    def rate(self) -> int:
        """Rows of features for one output frame."""
        head = self.model.head_configs[self.model.primary]
        return self.model.encoder.config.rate(head.layer)

    @torch.inference_mode()
    def log_probs(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (rows, size) of an utterance -> log-probabilities (frames, classes).

        Of a head that is not CTC these are the rows that it reads.
        """
        log_probs, (n,) = self.model(
            torch.from_numpy(features)[None], torch.tensor([len(features)])
        )
        return log_probs[0, :n].numpy()


def load_network(folder: Path, head: str | None = None) -> Network:
    """The network in a bundle, or in the folder of a training run, whose `head` can be chosen.

    Raises BundleError or TrainingError if it is neither, ConfigError for a bundle without weights.
    """
    if not (folder / CONFIG).is_file():
        model, vocabulary, _ = load_run(folder, head)
        return Network(model, vocabulary, run_features(folder))
    bundle = Bundle.load(folder)
    if head is not None and head != next(iter(bundle.config.model["heads"])):
        raise ConfigError(f"{folder} has no vocabulary for a head {head!r}", "give the run")
    return Network(load_bundle(bundle), bundle.vocabulary, bundle.config.features)


def gradient_norms(
    cell: str,
    *,
    size: int = 64,
    lags: int = 100,
    gain: float = 1.0,
    samples: int = 8,
    seed: int = 0,
) -> NDArray[np.float64]:
    """How the last output of a cell moves with its inputs `lag` frames before: (lags,).

    The norm of the gradient of a random combination of the outputs at the last frame with respect
    to the input of each earlier frame, over that at the last frame itself; root mean square over
    `samples` sequences of white noise. `gain` multiplies the recurrent weights: what vanishes with
    small ones explodes with large ones (Bengio, Simard & Frasconi 1994).

    Raises ConfigError for an unknown cell.

    >>> bool(gradient_norms("rnn_tanh", size=8, lags=20, gain=0.5)[19] < 1e-3)
    True
    """
    if cell not in CELLS:
        raise ConfigError(f"no cell {cell!r}", f"one of {', '.join(CELLS)}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CELLS[cell](size, size)
        name = recurrent_weight(network)
        if name is not None:
            with torch.no_grad():
                network.get_parameter(name).mul_(gain)
        inputs = torch.randn(lags, samples, size, requires_grad=True)
        outputs, _ = network(inputs)
        (gradient,) = torch.autograd.grad((outputs[-1] * torch.randn(samples, size)).sum(), inputs)
    norms = gradient.double().square().sum(dim=-1).mean(dim=-1).sqrt().flip(0).numpy()
    return norms / max(norms[0], np.finfo(np.float64).tiny)


def sensitivity(
    network: Network, features: NDArray[np.float32], frame: int, symbol: int
) -> NDArray[np.float32]:
    """The gradient of ln p(symbol) at one output frame with respect to every input.

    features (rows, size) -> (rows, size): what the network looked at to decide (Graves 2008,
    section 7.6: the sequential Jacobian). Raises ConfigError if there is no such frame.
    """
    inputs = torch.from_numpy(features)[None].requires_grad_()
    with torch.enable_grad():
        log_probs, (n_frames,) = network.model(inputs, torch.tensor([len(features)]))
        if not 0 <= frame < n_frames:
            raise ConfigError(f"no output frame {frame}", f"0 to {int(n_frames) - 1}")
        (gradient,) = torch.autograd.grad(log_probs[0, frame, symbol], inputs)
    return gradient[0].numpy()


@torch.inference_mode()
def attention_weights(network: Network, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of each self-attention layer and head, where each frame looks: (layers, heads, T', T').

    Raises ConfigError for a network that has none.
    """
    layers = [m for m in network.model.encoder.modules() if isinstance(m, SelfAttention)]
    if not layers:
        raise ConfigError(
            "this network has no self-attention", "train one with model.attention_heads=4"
        )
    weights: list[torch.Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda m, given: weights.append(m.weights(given[0])[0]))
        for layer in layers
    ]
    try:
        network.model(torch.from_numpy(features)[None], torch.tensor([len(features)]))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(weights).numpy()


@torch.inference_mode()
def decoder_attention(
    network: Network, features: NDArray[np.float32], text: str | None = None, beam: int = 5
) -> tuple[list[str], NDArray[np.float32]]:
    """What an attention decoder spells, and where it looks for each symbol: (symbols, T').

    It spells its best hypothesis, or the given `text`. Raises ConfigError for a network
    whose first head is none, VocabularyError for a text with other symbols than its own.
    """
    head = network.model.head()
    if not isinstance(head, AttentionHead):
        raise ConfigError("this network has no attention decoder", "train a head of kind=attention")
    rows = network.log_probs(features)
    if text is None:
        (found,) = beam_search(TorchAttention(head), rows, beam=beam)
        symbols, attention = list(found.symbols), found.attention
    else:
        symbols = network.vocabulary.encode(text)
        encoded, n_frames = torch.from_numpy(rows)[None], torch.tensor([len(rows)])
        _, looked = head.spell(encoded, n_frames, torch.tensor([symbols]))
        attention = looked[0, : len(symbols)].numpy()
    return [network.vocabulary.symbols[s] for s in symbols], attention
