"""Checkpoints of deepspeech.pytorch (https://github.com/SeanNaren/deepspeech.pytorch) as bundles.

Its network is that of Amodei et al. 2016, "Deep Speech 2": log spectra, normalised over the
utterance; two convolutions; bidirectional recurrent layers, whose directions are summed; batch
normalisation throughout. That is one of our encoders: a trained batch norm is a factor and a
summand for each column. Those of convolutions become part of their weights; those between layers
are, with the sum of the directions, the projection behind a layer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.errors import BundleError
from asr.features import FeatureConfig
from asr.lm.ngram import NGram
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoder import SPAN, EncoderConfig
from asr.packaging.bundle import LM, MAX_FILE_BYTES, Bundle, BundleConfig
from asr.packaging.export import Precision
from asr.packaging.package import frame_shift, network_description, network_files
from asr.packaging.pickled import StoredTensor, content, opened
from asr.text.vocabulary import BLANK, Vocabulary

SAMPLE_RATE = 16_000
MAX_LAYERS, MAX_CLASSES = 30, 30_000
_BLANK = "_"
_HEAD = "characters"
_SPANS = (41, 21)  # bands that the kernels of the convolutions span
_BATCH_NORM_EPSILON = 1e-5
_CELLS = {4: "lstm", 3: "gru", 1: "rnn_tanh"}  # by the number of their gates
_REMEDY = "give a checkpoint of deepspeech.pytorch, version 2 or 3"


def package_checkpoint(
    checkpoint: Path,
    output: Path,
    *,
    name: str,
    language: str = "en",
    precision: Precision = "int8",
    lm: Path | None = None,
) -> Bundle:
    """Write the network of a checkpoint as a bundle into the new folder `output`.

    `lm` is a word n-gram model. Raises BundleError for a file that is no such checkpoint, and for
    networks with other layers or other input.
    """
    model, vocabulary, features = read_checkpoint(checkpoint)
    if lm is not None:
        NGram.load(lm)  # raises if it is none
    config = BundleConfig(
        name=name,
        language=language,
        features=features,
        frame_shift=frame_shift(model, features),
        model=network_description(model, None, precision),
        training={"imported": checkpoint.name, "from": "deepspeech.pytorch"},
    )
    encoder = model.encoder.config
    assert isinstance(encoder, EncoderConfig)
    card = (
        f"# {name}\n\nLanguage: {language}. Imported from `{checkpoint.name}`, a checkpoint of"
        f" deepspeech.pytorch: {encoder.layers} bidirectional layers of {encoder.hidden_size} cells"
        f" ({encoder.cell}). Data and licence are those of who trained it.\n"
    )
    files: dict[str, Path | bytes] = {**network_files(model, None, precision)}
    return Bundle.create(output, config, vocabulary, files | ({} if lm is None else {LM: lm}), card)


def read_checkpoint(path: Path) -> tuple[AcousticModel, Vocabulary, FeatureConfig]:
    """The network in a checkpoint, what it writes and what it reads. Raises as above."""
    with opened(path) as found:
        found = found if isinstance(found, dict) else {}
        settings = content(found.get("hyper_parameters", found))  # version 3; version 2
        if "labels" not in settings or "state_dict" not in found:
            raise BundleError(f"{path}: holds no weights with labels", _REMEDY)
        vocabulary = _vocabulary(path, settings["labels"])
        features = _features(path, settings.get("spect_cfg", settings.get("audio_conf", {})))
        weights = _Weights(path, found["state_dict"])
        model = _model(weights, features.size, len(vocabulary))
    return model, vocabulary, features


def _vocabulary(path: Path, labels: Any) -> Vocabulary:
    """Capitals become the small letters that our texts have."""
    symbols = [content(label) for label in content(labels)]
    if not 1 < len(symbols) <= MAX_CLASSES or any(
        not isinstance(symbol, str) or len(symbol) != 1 for symbol in symbols
    ):
        raise BundleError(f"{path}: its labels are not single characters", _REMEDY)
    if symbols[0] != _BLANK:
        raise BundleError(f"{path}: its first label is not {_BLANK!r}, the blank", _REMEDY)
    small = [symbol.lower() for symbol in symbols]
    if len(set(small)) == len(symbols) and all(len(symbol) == 1 for symbol in small):
        symbols = small
    return Vocabulary((BLANK, *symbols[1:]))


def _features(path: Path, settings: Any) -> FeatureConfig:
    found = {name: content(value) for name, value in dict(content(settings)).items()}
    sample_rate, window = found.get("sample_rate", SAMPLE_RATE), found.get("window", "hamming")
    if sample_rate != SAMPLE_RATE or window != "hamming":
        raise BundleError(
            f"{path}: a network for {str(sample_rate)[:20]} Hz and {str(window)[:20]} windows",
            f"only those for {SAMPLE_RATE} Hz and hamming windows can be imported",
        )
    size, stride = found.get("window_size", 0.02), found.get("window_stride", 0.01)
    return FeatureConfig(
        n_mels=0, stack=1, stride=1, window=float(size), hop=float(stride), mean_prior=None
    )


class _Weights:
    """The tensors of a checkpoint by name. Each can be taken once, if it has the right shape."""

    def __init__(self, path: Path, stored: Mapping[str, Any]) -> None:
        self._path = path
        self._stored = {
            name: tensor
            for name, tensor in stored.items()
            if isinstance(tensor, StoredTensor) and not name.endswith("num_batches_tracked")
        }
        if 4 * sum(math.prod(tensor.shape) for tensor in self._stored.values()) > MAX_FILE_BYTES:
            raise self.refuse("has more weights than a model may have")  # they may share a storage

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def refuse(self, cause: str, remedy: str = _REMEDY) -> BundleError:
        return BundleError(f"{self._path}: {cause}", remedy)

    def shape(self, name: str, dimensions: int) -> tuple[int, ...]:
        if name not in self._stored:
            raise self.refuse(f"lacks {name}")
        shape = self._stored[name].shape
        if len(shape) != dimensions or 0 in shape:
            raise self.refuse(f"{name} has the shape {shape}")
        return shape

    def take(self, name: str, *shape: int) -> Tensor:
        found = self.shape(name, len(shape))
        if found != shape:
            raise self.refuse(f"{name} has the shape {found}, not {shape}")
        values = torch.from_numpy(self._stored.pop(name).read())
        if not values.isfinite().all():
            raise self.refuse(f"{name} holds what is no number", "fetch it again")
        return values

    def batch_norm(self, name: str, size: int) -> tuple[Tensor, Tensor]:
        """A factor and a summand for each of `size` columns."""
        weight, bias, mean, variance = (
            self.take(f"{name}.{part}", size)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        if (variance < 0).any():
            raise self.refuse(f"{name}.running_var is below 0", "fetch it again")
        factor = weight / (variance + _BATCH_NORM_EPSILON).sqrt()
        return factor, bias - mean * factor

    def check_all_taken(self) -> None:
        if self._stored:
            raise self.refuse(f"has weights of other layers, such as {min(self._stored)[:80]}")


def _model(weights: _Weights, bands: int, classes: int) -> AcousticModel:
    config = _encoder(weights)
    state = _convolutions(weights, config.convolutions)
    inputs = config.convolutions[-1] * -(-bands // 2 ** len(config.convolutions))
    for layer in range(config.layers):
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            prefix = f"encoder.layers.{layer}.{direction}_{config.cell}"
            for name, shape in _shapes(config, inputs).items():
                found = weights.take(f"rnns.{layer}.rnn.{name}{suffix}", *shape)
                state[f"{prefix}.{name}"] = found
        inputs = config.hidden_size
        is_last = layer == config.layers - 1
        norm = "fc.0.module.0" if is_last else f"rnns.{layer + 1}.batch_norm.module"
        factor, summand = weights.batch_norm(norm, inputs)
        state[f"encoder.projections.{layer}.weight"] = factor.diag().repeat(1, 2)
        state[f"encoder.projections.{layer}.bias"] = summand
    state[f"heads.{_HEAD}.weight"] = weights.take("fc.0.module.1.weight", classes, inputs)
    state[f"heads.{_HEAD}.bias"] = torch.zeros(classes)
    weights.check_all_taken()
    model = AcousticModel(bands, config, {_HEAD: HeadConfig(classes, config.layers)})
    model.load_state_dict(state)
    return model.eval()


def _encoder(weights: _Weights) -> EncoderConfig:
    rows, size = weights.shape("rnns.0.rnn.weight_hh_l0", 2)
    cell = _CELLS.get(rows // size)
    layers = sum(f"rnns.{i}.rnn.weight_hh_l0" in weights for i in range(MAX_LAYERS))
    if cell is None or "rnns.0.rnn.weight_hh_l0_reverse" not in weights:
        raise weights.refuse("its layers are not bidirectional", "only such can be imported")
    channels = (weights.shape(f"conv.seq_module.{3 * i}.weight", 4)[0] for i in range(2))
    return EncoderConfig(
        hidden_size=size,
        layers=layers,
        layer_norm=False,
        dropout=0.0,
        cell=cell,
        projection=size,
        convolutions=tuple(channels),
        convolution_bands=_SPANS,
        utterance_norm=True,
    )


def _convolutions(weights: _Weights, channels: tuple[int, ...]) -> dict[str, Tensor]:
    state = {}
    for i, (before, after) in enumerate(zip((1, *channels), channels, strict=False)):
        theirs, ours = "conv.seq_module", f"encoder.convolution.layers.{i}"
        kernel = weights.take(f"{theirs}.{3 * i}.weight", after, before, _SPANS[i], SPAN)
        bias = weights.take(f"{theirs}.{3 * i}.bias", after)
        factor, summand = weights.batch_norm(f"{theirs}.{3 * i + 1}", after)
        state[f"{ours}.weight"] = (kernel * factor[:, None, None, None]).transpose(2, 3)
        state[f"{ours}.bias"] = bias * factor + summand
    return state


def _shapes(config: EncoderConfig, inputs: int) -> dict[str, tuple[int, ...]]:
    """Of the weights of one direction of a layer."""
    rows = config.hidden_size * next(n for n, cell in _CELLS.items() if cell == config.cell)
    shapes = {"weight_ih_l0": (rows, inputs), "weight_hh_l0": (rows, config.hidden_size)}
    return {**shapes, "bias_ih_l0": (rows,), "bias_hh_l0": (rows,)}
