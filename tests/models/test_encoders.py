"""Every kind of encoder against its paper's equations (encoder_equations.py) and its uses."""

from pathlib import Path

import numpy as np
import pytest
import torch

from asr.bundle import Bundle, BundleConfig
from asr.engine import OnnxEngine
from asr.errors import ConfigError
from asr.features import FeatureConfig
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
from asr.text.vocabulary import Vocabulary
from tests.models import encoder_equations

CONFIGS = {
    "recurrent": EncoderConfig(2, 1, cell="gru", attention_heads=2, dropout=0.0),
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
    """The last layer's outputs (T', C) of each utterance."""
    *_, (hidden, n_frames) = encoder(features, lengths)
    return [hidden[:n, i] for i, n in enumerate(n_frames)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_outputs_and_gradients_are_those_of_the_papers_equations(kind, batch):
    encoder, compute = make(CONFIGS[kind]), getattr(encoder_equations, kind)
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


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(16, 1, attention_heads=4),
        TransformerConfig(size=32, layers=1, heads=2, feed_forward=48, dropout=0.0),
        ConformerConfig(size=24, layers=1, heads=2, feed_forward=32, kernel=3, dropout=0.0),
        ReversibleConfig(blocks=1, size=16, hidden_size=16, dropout=0.0),
    ],
    ids=CONFIGS,
)
def test_a_small_batch_is_learnt_by_heart_and_a_bundle_says_it(config, tmp_path):
    """Three random sequences with their labels, to less than 0.1 nats each; then greedily read."""
    from asr.export import to_onnx

    torch.manual_seed(0)
    model = AcousticModel(8, config, {"characters": HeadConfig(5, config.layers)})
    features, lengths = torch.randn(3, 16, 8), torch.tensor([16, 14, 12])
    targets = torch.tensor([[1, 2, 3, 4, 1], [4, 3, 4, 2, 1], [2, 1, 2, 3, 4]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        log_probs, _ = model(features, lengths)
        loss = torch.nn.functional.ctc_loss(
            log_probs.transpose(0, 1), targets, lengths, torch.full((3,), 5), reduction="sum"
        )
        if loss < 0.3:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.3
    vocabulary = Vocabulary.characters("abc")
    bundle = Bundle.create(
        tmp_path / "model",
        BundleConfig("small", "en", FeatureConfig(n_mels=8, stack=1, stride=1), 0.01),
        vocabulary,
        {"model.onnx": to_onnx(model.eval()).SerializeToString()},
        "# Small\n",
    )
    engine = OnnxEngine(Path(bundle.model_path))
    heard = engine.log_probs([f[:n].numpy() for f, n in zip(features, lengths, strict=True)])
    for log_probs, target in zip(heard, targets, strict=True):
        classes = torch.unique_consecutive(torch.from_numpy(log_probs.argmax(axis=1)))
        assert classes[classes > 0].tolist() == target.tolist()


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
    ((hidden, _),) = encoder(features, lengths)
    gradients = torch.autograd.grad(hidden.square().sum(), list(encoder.parameters()))

    def rounded(values):  # the same forward pass, a gradient that passes through
        return values + (on_grid(values.detach()) - values.detach())

    first, second = map(rounded, encoder.project(features.transpose(0, 1)).chunk(2, dim=-1))
    for change in encoder.changes:
        first, second = second, first + rounded(change(second, lengths))
    plain = encoder.norm(torch.cat([first, second], dim=-1))
    assert torch.equal(plain, hidden)
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
            list(encoder(torch.randn(2, 30, INPUTS), torch.tensor([30, 17])))
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
