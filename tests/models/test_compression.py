"""A smaller network does nearly, and where nothing is lost exactly, what the whole one does."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from asr.errors import ConfigError  # noqa: E402
from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.cells import CELLS, weight_matrices  # noqa: E402
from asr.models.compression import compress  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402
from asr.models.encoders import TransformerConfig  # noqa: E402

HEADS = {"characters": HeadConfig(6, 3), "phones": HeadConfig(5, 1)}
CONFIGS = {
    **{cell: EncoderConfig(6, 3, cell=cell, subsampling=(1, 2, 1)) for cell in CELLS},
    "projected": EncoderConfig(6, 3, projection=5, residual=True),
    "unidirectional": EncoderConfig(6, 3, bidirectional=False, layer_norm=False),
    "of low rank": EncoderConfig(6, 3, rank=3),
}


def make(config, heads=HEADS):
    torch.manual_seed(0)
    model = AcousticModel(4, config, heads).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def outputs(model):
    torch.manual_seed(1)
    features, lengths = torch.randn(2, 9, 4), torch.tensor([9, 5])
    with torch.inference_mode():
        return {n: rows[0, :5] for n, (rows, _) in model.forward_heads(features, lengths).items()}


def recordings():
    torch.manual_seed(2)
    return [torch.randn(9, 4) for _ in range(40)]


def assert_same(model, other):
    for name, rows in outputs(model).items():
        torch.testing.assert_close(outputs(other)[name], rows, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_cells_that_say_nothing_can_go(config):
    """A network with two more cells, which are silent, loses just these."""
    if config.cell == "ligru":
        pytest.skip("normalises over its cells, so that none can go alone")
    config = replace(config, layer_norm=False)
    small, large = make(config), make(replace(config, hidden_size=8))
    state = large.state_dict()
    for name, value in small.state_dict().items():
        state[name] = widened(value, state[name].shape, config)
    large.load_state_dict(state)
    assert_same(large, small)
    found = compress(large, cells=6, recordings=recordings())
    assert found.encoder.config == config
    assert_same(found, small)


def widened(value, shape, config):
    """`value` with zeros for two more cells behind the six of each group of gates or inputs."""
    for axis, size in enumerate(shape):
        if value.shape[axis] != size:
            groups = value.unflatten(axis, (-1, 6))
            zeros = torch.zeros(*groups.shape[: axis + 1], 2, *groups.shape[axis + 2 :])
            value = torch.cat([groups, zeros], axis + 1).flatten(axis, axis + 1)
    return value


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_full_rank_and_all_cells_are_the_same_network(config):
    model = make(config)
    if config.cell != "ligru":
        model = compress(model, cells=6, recordings=recordings())
        assert_same(model, make(config))
    assert_same(compress(model, rank=1000), model)


@pytest.mark.parametrize("cell", CELLS)
def test_a_network_whose_matrices_have_a_low_rank_is_found_again(cell):
    low = make(replace(CONFIGS[cell], rank=3))
    whole = compress(low, rank=1000)
    assert whole.encoder.config.rank == 1000
    assert not [name for name in whole.state_dict() if "factors" in name]
    assert_same(whole, low)
    again = compress(whole, rank=3)
    assert again.encoder.factors[0].weight.shape == (3, 4)
    assert_same(again, low)


def test_fewer_cells_and_lower_rank_make_a_network_of_that_size():
    model = make(EncoderConfig(12, 2, subsampling=(2, 1)), {"characters": HeadConfig(6, 2)})
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = compress(model, cells=8, rank=5, zeros=0.25, recordings=recordings())
    assert small.encoder.config == EncoderConfig(8, 2, subsampling=(2, 1), rank=5)
    assert small.head().weight.shape == (6, 16)
    for name, weight in weight_matrices(small):
        assert int((weight == 0).sum()) == weight.numel() // 4, name
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    assert outputs_are_probabilities(small)
    assert compress(small, cells=6, recordings=recordings()).encoder.config.rank == 5  # what it had


def outputs_are_probabilities(model):
    rows, _ = model(torch.randn(1, 7, 4), torch.tensor([7]))
    return torch.allclose(rows.exp().sum(-1), torch.ones(1, 4), atol=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "peephole_lstm", "gru", "rnn_tanh"])
def test_a_cell_that_says_what_another_says_goes_without_a_trace(cell):
    model = make(EncoderConfig(6, 2, cell=cell, layer_norm=False), {"c": HeadConfig(6, 2)})
    with torch.no_grad():
        for layer in model.encoder.layers:
            for parameter in layer.parameters():
                own_columns = parameter.dim() == 2 and len(parameter) == 3  # peepholes
                rows = parameter.T if own_columns else parameter.view(-1, 6, *parameter.shape[1:])
                rows = rows if own_columns else rows.transpose(0, 1)
                rows[5] = rows[2]
    small = compress(model, cells=5, recordings=recordings())
    assert small.encoder.config.hidden_size == 5
    assert_same(small, model)


def test_the_fewer_cells_stay_the_more_changes():
    model = make(EncoderConfig(24, 2), {"characters": HeadConfig(6, 2)})
    whole = outputs(model)["characters"]

    def error(cells):
        small = compress(model, cells=cells, recordings=recordings())
        return float((outputs(small)["characters"] - whole).square().mean())

    assert 0 < error(22) < error(6)


@pytest.mark.parametrize(
    ("config", "asked", "message"),
    [
        (EncoderConfig(6, 3, attention_heads=2), {"cells": 4}, "tie cells"),
        (EncoderConfig(6, 3, residual=True), {"cells": 4}, "tie cells"),
        (EncoderConfig(6, 3, cell="ligru"), {"cells": 4}, "tie cells"),
        (EncoderConfig(6, 3), {"cells": 7}, "7 cells cannot stay of 6"),
        (EncoderConfig(6, 3), {"cells": 4}, "learnt from recordings, and there are none"),
        (TransformerConfig(size=8, layers=3, heads=2, feed_forward=8), {"rank": 2}, "no cells"),
    ],
)
def test_what_cannot_go_is_refused(config, asked, message):
    with pytest.raises(ConfigError, match=message):
        compress(make(config), **asked)


def test_zeros_are_for_every_encoder():
    model = make(TransformerConfig(size=8, layers=3, heads=2, feed_forward=8))
    pruned = compress(model, zeros=0.5)
    assert all(int((w == 0).sum()) == w.numel() // 2 for _, w in weight_matrices(pruned))
    assert not any((w == 0).any() for _, w in weight_matrices(model))
