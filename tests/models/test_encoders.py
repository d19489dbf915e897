"""Every kind of encoder against its paper's equations (encoder_equations.py) and its uses."""

import numpy as np
import pytest
import torch

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.attention import SelfAttention
from asr.models.encoder import EncoderConfig
from asr.models.encoders import (
    ConformerConfig,
    ReversibleConfig,
    TransformerConfig,
    encoder_config,
    make_encoder,
)
from asr.models.reversible import on_grid
from tests.models import encoder_equations

CONFIGS = {
    "recurrent": EncoderConfig(2, 1, cell="gru", attention_heads=2, dropout=0.0),
    "recurrent, stacked": EncoderConfig(
        3,
        3,
        cell="gru",
        projection=4,
        rank=3,
        residual=True,
        subsampling=(2, 1, 1),
        dropout=0.0,
    ),
    "recurrent, convolutional": EncoderConfig(2, 1, cell="gru", convolutions=(2, 1), dropout=0.0),
    "recurrent, of whole utterances": EncoderConfig(
        2,
        1,
        cell="gru",
        convolutions=(1, 2),
        convolution_bands=(5,),
        utterance_norm=True,
        dropout=0.0,
    ),
    "transformer": TransformerConfig(
        size=4, layers=2, heads=2, feed_forward=3, subsampling=2, dropout=0.0
    ),
    "conformer": ConformerConfig(
        size=4, layers=1, heads=1, feed_forward=3, kernel=3, subsampling=2, dropout=0.0
    ),
    "reversible": ReversibleConfig(blocks=2, size=3, hidden_size=2, subsampling=2, dropout=0.0),
}
INPUTS = 3


def make(config):
    """In float64, with weights that show: none of them 0 or 1."""
    torch.manual_seed(0)
    encoder = make_encoder(INPUTS, config).double()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return encoder


@pytest.fixture
def batch():
    features = torch.randn(2, 7, INPUTS, generator=torch.Generator().manual_seed(1)).double()
    return features, torch.tensor([7, 4])


def outputs(encoder, features, lengths):
    """What comes out (T', C) of each utterance."""
    encoded, n_frames = encoder(features, lengths)
    return [rows[:n] for rows, n in zip(encoded, n_frames, strict=True)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_and_gradients_are_those_of_the_papers_equations(kind, batch):
    config = CONFIGS[kind]
    encoder, compute = make(config), getattr(encoder_equations, config.kind)
    features, lengths = batch
    found = outputs(encoder, features.requires_grad_(), lengths)
    weights = {n: p.detach().numpy().copy() for n, p in encoder.named_parameters()}
    values = {"": features.detach().numpy().copy(), **weights}
    rng = np.random.default_rng(2)
    weighting = [rng.normal(size=o.shape) for o in found]

    def expected():
        return [
            compute(values[""][i, :n], values, encoder.config)
            for i, n in enumerate(lengths.tolist())
        ]

    for ours, theirs in zip(found, expected(), strict=True):
        assert theirs.std() > 0.05
        np.testing.assert_allclose(ours.detach(), theirs, atol=1e-9)

    loss = sum((o * torch.from_numpy(w)).sum() for o, w in zip(found, weighting, strict=True))
    gradients = torch.autograd.grad(loss, [features, *encoder.parameters()])
    step = 1e-6
    for name, gradient in zip(values, gradients, strict=True):
        flat = values[name].reshape(-1)
        # A few of each weight's entries: every one would take minutes.
        for k in rng.choice(len(flat), min(4, len(flat)), replace=False):
            middle, sums = flat[k], []
            for shifted in (middle + step, middle - step):
                flat[k] = shifted
                pairs = zip(expected(), weighting, strict=True)
                sums.append(sum(float((e * w).sum()) for e, w in pairs))
            flat[k] = middle
            slope = (sums[0] - sums[1]) / (2 * step)
            assert float(gradient.reshape(-1)[k]) == pytest.approx(slope, abs=2e-6), name


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_utterance_does_not_depend_on_its_batch(kind):
    encoder = make(CONFIGS[kind])
    features, lengths = torch.randn(5, 20, INPUTS).double(), torch.tensor([20, 13, 7, 2, 1])
    together = outputs(encoder, features, lengths)
    for i, n in enumerate(lengths.tolist()):
        (alone,) = outputs(encoder, features[i : i + 1, :n], lengths[i : i + 1])
        torch.testing.assert_close(together[i], alone, atol=1e-9, rtol=0)


def test_attention_weights_are_those_that_mix():
    torch.manual_seed(0)
    attention = SelfAttention(6, 3, rotary=True)
    inputs = torch.randn(5, 2, 6)
    weights = attention.weights(inputs)
    assert weights.shape == (2, 3, 5, 5)
    _, _, values = attention._split(inputs)
    mixed = attention.output((weights @ values).permute(2, 0, 1, 3).flatten(2))
    torch.testing.assert_close(mixed, attention(inputs, torch.tensor([5, 5])))


@pytest.mark.parametrize("blocks", [1, 6])
def test_the_backward_pass_finds_the_very_activations_again(blocks):
    """In float32, to the bit: the gradients are those of the blocks run with autograd."""
    torch.manual_seed(0)
    config = ReversibleConfig(blocks=blocks, size=8, hidden_size=8, dropout=0.0)
    encoder = make_encoder(INPUTS, config)
    features, lengths = torch.randn(2, 30, INPUTS), torch.tensor([30, 17])
    encoded, _ = encoder(features, lengths)
    gradients = torch.autograd.grad(encoded.square().sum(), list(encoder.parameters()))

    def rounded(values):  # the same forward pass, a gradient that passes through
        return values + (on_grid(values.detach()) - values.detach())

    first, second = map(rounded, encoder.project(features.transpose(0, 1)).chunk(2, dim=-1))
    for change in encoder.changes:
        first, second = second, first + rounded(change(second, lengths))
    plain = encoder.norm(torch.cat([first, second], dim=-1)).transpose(0, 1)
    assert torch.equal(plain, encoded)
    expected = torch.autograd.grad(plain.square().sum(), list(encoder.parameters()))
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()))


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_depth():
    def kept(blocks):
        encoder = make_encoder(INPUTS, ReversibleConfig(blocks=blocks, size=8, hidden_size=8))
        sizes = []

        def pack(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder(torch.randn(2, 30, INPUTS), torch.tensor([30, 17]))
        return sum(sizes)

    assert kept(8) == kept(1) > 0


def test_settings_of_one_kind_are_unknown_to_another():
    assert encoder_config({"hidden_size": 3}) == EncoderConfig(3)
    with pytest.raises(ConfigError, match=r"unknown setting model\.cell"):
        encoder_config({"kind": "transformer", "cell": "gru"})
    with pytest.raises(ConfigError, match=r"'perceptron'.*one of recurrent, transformer"):
        encoder_config({"kind": "perceptron"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "conformer", "kernel": 4}, "kernel is 4"),
        ({"kind": "conformer", "size": 0}, "every size"),
        ({"kind": "transformer", "dropout": 1.0}, "dropout is 1.0"),
        ({"kind": "reversible", "cell": "lstn"}, "'lstn'"),
        ({"attention_heads": -1}, "attention_heads is -1"),
        ({"convolution_stride": 3}, "convolutions, and there are none"),
        ({"convolution_bands": (41,)}, "does not fit 0 convolutions"),
        ({"convolutions": (2,), "convolution_bands": (4,)}, "an odd number"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        encoder_config(settings)


def test_heads_that_do_not_divide_the_columns_are_refused():
    with pytest.raises(ConfigError, match="10 columns cannot be shared out over 4"):
        make_encoder(3, TransformerConfig(size=10))
    with pytest.raises(ConfigError, match="an even number of columns"):
        make_encoder(3, TransformerConfig(size=12))


def test_only_a_causal_encoder_goes_step_by_step():
    model = AcousticModel(3, CONFIGS["transformer"], {"only": HeadConfig(3, 2)})
    with pytest.raises(ConfigError, match="reads whole utterances"):
        model.step(torch.randn(1, 5, 3))
