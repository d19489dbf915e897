import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.errors import ConfigError
from asr.models.cells import CELLS, recurrent_weight
from asr.models.encoder import EncoderConfig
from asr.models.layers import Recurrent, VariationalDropout, reverse, subsample

LENGTHS = torch.tensor([9, 4, 1])


def test_reverse_within_lengths():
    sequence = torch.arange(9.0)[:, None, None].expand(9, 3, 1)
    reversed_ = reverse(sequence, LENGTHS)
    assert reversed_[:, 1, 0].tolist() == [3, 2, 1, 0, 4, 5, 6, 7, 8]
    assert torch.equal(reverse(reversed_, LENGTHS), sequence)


def test_lstm_equals_torchs_packed_one():
    """The independent reference: torch's own bidirectional LSTM over packed sequences."""
    torch.manual_seed(0)
    ours, theirs = Recurrent("lstm", 5, 7), nn.LSTM(5, 7, bidirectional=True)
    with torch.no_grad():
        for name, parameter in ours.forward_lstm.named_parameters():
            getattr(theirs, name).copy_(parameter)
        for name, parameter in ours.backward_lstm.named_parameters():
            getattr(theirs, f"{name}_reverse").copy_(parameter)
    inputs = torch.randn(9, 3, 5, requires_grad=True)
    output = ours(inputs, LENGTHS)
    expected, _ = pad_packed_sequence(theirs(pack_padded_sequence(inputs, LENGTHS))[0])
    inside = (torch.arange(9)[:, None] < LENGTHS)[..., None]
    torch.testing.assert_close(output * inside, expected)
    weights = torch.randn_like(expected) * inside
    (ours_gradient,) = torch.autograd.grad((output * weights).sum(), inputs)
    (gradient,) = torch.autograd.grad((expected * weights).sum(), inputs)
    torch.testing.assert_close(ours_gradient, gradient)


def test_forget_gate_starts_open():
    layer = Recurrent("lstm", 3, 4)
    for lstm in (layer.forward_lstm, layer.backward_lstm):
        total = lstm.bias_ih_l0 + lstm.bias_hh_l0
        assert total[4:8].tolist() == [1.0] * 4


def test_dropout_mask_is_the_same_at_every_frame():
    dropout = VariationalDropout(0.5)
    dropped = dropout(torch.ones(6, 2, 50))
    assert torch.equal(dropped, dropped[:1].expand(6, 2, 50))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    dropout.eval()
    assert torch.equal(dropout(torch.ones(6, 2, 50)), torch.ones(6, 2, 50))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_subsampling_ignores_padding(factor):
    torch.manual_seed(0)
    sequences = torch.randn(9, 3, 2)
    joined, lengths = subsample(sequences, LENGTHS, factor)
    assert lengths.tolist() == [-(-n // factor) for n in LENGTHS.tolist()]
    for i, length in enumerate(LENGTHS.tolist()):
        alone, _ = subsample(sequences[:length, i : i + 1], LENGTHS[i : i + 1], factor)
        assert torch.equal(joined[: len(alone), i], alone[:, 0])


@pytest.mark.parametrize("name", [n for n in CELLS if n != "qrnn"])
def test_recurrent_dropout_hides_the_same_cells_from_every_frame(name):
    torch.manual_seed(0)
    layer = Recurrent(name, 3, 8, bidirectional=False, dropout=0.5)
    with torch.no_grad():
        layer.get_submodule(f"forward_{name}").get_parameter(
            recurrent_weight(layer.get_submodule(f"forward_{name}"))
        ).normal_()
    inputs, lengths = torch.randn(6, 2, 3), torch.tensor([6, 6])
    mask = torch.tensor([0.0, 2.0] * 4)
    dropped, _ = layer.step(inputs, None, mask)
    cell = layer.get_submodule(f"forward_{name}")
    with torch.no_grad():
        cell.get_parameter(recurrent_weight(cell)).mul_(mask)
    torch.testing.assert_close(dropped, cell(inputs)[0])
    assert not torch.allclose(layer(inputs, lengths), layer(inputs, lengths))
    layer.eval()
    torch.testing.assert_close(layer(inputs, lengths), cell(inputs)[0])


def test_recurrent_dropout_needs_recurrent_weights():
    with pytest.raises(ConfigError, match="a qrnn has no recurrent weights"):
        EncoderConfig(cell="qrnn", recurrent_dropout=0.1)
