"""More cells for a trained network."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from benchmark_scripts import load  # noqa: E402

from asr.models.acoustic import AcousticModel, HeadConfig  # noqa: E402
from asr.models.encoder import EncoderConfig  # noqa: E402

widen = load("widen").widen
HEADS = {"top": HeadConfig(classes=5, layer=3), "lower": HeadConfig(classes=4, layer=2)}


def outputs(hidden_size: int, weights, **options) -> dict[str, torch.Tensor]:
    model = AcousticModel(6, EncoderConfig(hidden_size, 3, **options), HEADS).eval()
    if weights is None:
        weights = model.state_dict()
    model.load_state_dict(weights)
    torch.manual_seed(7)
    found = model.forward_heads(torch.randn(2, 9, 6), torch.tensor([9, 5]))
    return {name: rows for name, (rows, _) in found.items()} | {"weights": weights}


@pytest.mark.parametrize("bidirectional", [True, False])
def test_a_wider_network_computes_the_same(bidirectional):
    options = {"bidirectional": bidirectional, "layer_norm": False}
    torch.manual_seed(0)
    before = outputs(8, None, **options)
    weights = widen(before["weights"], {"top": 3, "lower": 2}, 13)
    after = outputs(13, weights, **options)
    for name in HEADS:
        torch.testing.assert_close(after[name], before[name])


def test_copies_of_a_cell_are_read_by_different_weights():
    torch.manual_seed(0)
    weights = widen(outputs(8, None)["weights"], {"top": 3, "lower": 2}, 16)
    read = weights["heads.top.weight"]
    assert len(torch.unique(read, dim=1).T) == read.shape[1] == 32


def test_layer_normalisation_changes_little():
    torch.manual_seed(0)
    before = outputs(64, None)
    after = outputs(96, widen(before["weights"], {"top": 3, "lower": 2}, 96))
    for name in HEADS:
        assert (after[name] - before[name]).abs().max() < 0.2
