from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from asr.analysis import diagnostics  # noqa: E402
from asr.analysis.diagnostics import (  # noqa: E402
    Network,
    attention_weights,
    decoder_attention,
    gradient_norms,
    load_network,
    sensitivity,
)
from asr.errors import ConfigError  # noqa: E402
from asr.features import FeatureConfig  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.attention_decoder import AttentionConfig  # noqa: E402
from asr.models.cells import CELLS  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402
from asr.models.encoders import TransformerConfig  # noqa: E402
from asr.models.language import SymbolConfig  # noqa: E402
from asr.text.vocabulary import Vocabulary  # noqa: E402


def make(config) -> Network:
    torch.manual_seed(0)
    vocabulary = Vocabulary.characters("ab")
    heads = {"characters": HeadConfig(len(vocabulary), config.layers)}
    features = FeatureConfig(n_mels=6, stack=1, stride=1)
    return Network(AcousticModel(6, config, heads).eval(), vocabulary, features)


@pytest.fixture
def features():
    return np.random.default_rng(1).normal(size=(12, 6)).astype(np.float32)


@pytest.mark.parametrize("cell", CELLS)
def test_gradient_norms_begin_with_one(cell):
    norms = gradient_norms(cell, size=8, lags=12, samples=2)
    assert norms.shape == (12,)
    assert norms[0] == pytest.approx(1)
    assert (norms >= 0).all()


def test_gradients_vanish_in_a_plain_rnn_and_explode_with_large_weights():
    small, large = (gradient_norms("rnn_relu", size=32, lags=30, gain=g) for g in (0.3, 10.0))
    lstm = gradient_norms("lstm", size=32, lags=30)
    assert small[-1] < 1e-6 < lstm[-1]
    assert large[-1] > 1e3
    with pytest.raises(ConfigError, match="no cell 'lstn'"):
        gradient_norms("lstn")


def test_sensitivity_is_the_slope_of_one_output(features):
    network = make(EncoderConfig(5, 1, subsampling=(2,)))
    values = sensitivity(network, features, frame=3, symbol=1)
    assert values.shape == features.shape
    change = np.zeros_like(features)
    change[6, 2] = 1e-2
    above, below = (network.log_probs(features + s * change)[3, 1] for s in (1, -1))
    assert values[6, 2] == pytest.approx((above - below) / 2e-2, abs=1e-3)
    with pytest.raises(ConfigError, match="no output frame 6"):
        sensitivity(network, features, frame=6, symbol=1)


def test_attention_of_a_decoder(features, monkeypatch):
    network = make(EncoderConfig(4, 1))
    with pytest.raises(ConfigError, match="no attention decoder"):
        decoder_attention(network, features)
    config = AttentionConfig(SymbolConfig(hidden_size=4, embedding=2), size=3, location_filters=0)
    head = HeadConfig(len(network.vocabulary), 1, "attention", attention=config)
    model = AcousticModel(6, EncoderConfig(4, 1), {"text": head}).eval()
    # Without training the shortest text is the likeliest.
    longer = partial(diagnostics.beam_search, symbol_bonus=3.0, max_symbols=4)
    monkeypatch.setattr(diagnostics, "beam_search", longer)
    symbols, weights = decoder_attention(
        Network(model, network.vocabulary, network.features), features
    )
    assert weights.shape == (len(symbols), 12)
    assert len(symbols) == 4
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    again, same = decoder_attention(
        Network(model, network.vocabulary, network.features), features, "".join(symbols)
    )
    assert again == symbols
    np.testing.assert_allclose(same, weights, atol=1e-5)


def test_attention_of_every_layer_and_head(features):
    config = TransformerConfig(size=8, layers=2, heads=2, feed_forward=8, subsampling=2)
    weights = attention_weights(make(config), features)
    assert weights.shape == (2, 2, 6, 6)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
    assert attention_weights(make(EncoderConfig(4, 1, attention_heads=2)), features).shape[:2] == (
        1,
        2,
    )
    with pytest.raises(ConfigError, match="no self-attention"):
        attention_weights(make(EncoderConfig(4, 1)), features)


def test_the_bundled_model_has_weights_to_look_into(bundled_model):
    network = load_network(bundled_model.folder)
    rows = np.zeros((30, network.features.size), np.float32)
    log_probs = network.log_probs(rows)
    assert log_probs.shape == (30 // network.rate, len(network.vocabulary))
    assert np.abs(sensitivity(network, rows, 0, 0)).sum() > 0
