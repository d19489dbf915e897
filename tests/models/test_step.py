"""A causal encoder that is fed in pieces equals one that hears everything at once."""

import pytest
import torch

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.cells import CELLS
from asr.models.encoder import EncoderConfig
from asr.models.encoders import ReversibleConfig


def make(**settings) -> AcousticModel:
    torch.manual_seed(0)
    config = EncoderConfig(5, 3, bidirectional=False, subsampling=(1, 2, 3), **settings)
    return AcousticModel(4, config, {"high": HeadConfig(3, 3), "low": HeadConfig(3, 2)})


def in_pieces(model, features, lengths, sizes):
    """Outputs of all heads, joined over the pieces."""
    state, start = None, 0
    parts: dict[str, list] = {name: [] for name in model.head_configs}
    for number, size in enumerate(sizes):
        piece = features[:, start : start + size]
        inside = (lengths - start).clamp(0, size)
        outputs, state = model.step(piece, state, inside, last=number == len(sizes) - 1)
        for name, output in outputs.items():
            parts[name].append(output)
        start += size
    return {
        name: (torch.cat([p for p, _ in part], dim=1), sum(n for _, n in part))
        for name, part in parts.items()
    }


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("sizes", [[1] * 20, [7, 7, 6], [20], [3, 0, 17], [20, 0]])
def test_pieces_of_any_size_equal_the_whole(cell, sizes):
    model = make(cell=cell, residual=True, projection=5, rank=4).eval()
    features, lengths = torch.randn(3, 20, 4), torch.tensor([20, 13, 2])
    expected = model.forward_heads(features, lengths)
    pieces = in_pieces(model, features, lengths, sizes)
    for name, (log_probs, n_frames) in expected.items():
        joined, joined_lengths = pieces[name]
        assert joined_lengths.tolist() == n_frames.tolist()
        for i, n in enumerate(n_frames):
            torch.testing.assert_close(joined[i, :n], log_probs[i, :n])


def test_a_sequence_keeps_its_dropout_masks_over_all_pieces():
    model = make(dropout=0.3, recurrent_dropout=0.4).train()
    features, lengths = torch.randn(2, 20, 4), torch.tensor([20, 20])
    torch.manual_seed(1)
    expected = model.forward_heads(features, lengths)
    torch.manual_seed(1)
    pieces = in_pieces(model, features, lengths, [6, 14])
    for name, output in expected.items():
        torch.testing.assert_close(pieces[name], output)
    torch.manual_seed(2)
    other = model.forward_heads(features, lengths)
    assert not torch.allclose(other["high"][0], expected["high"][0])


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("sizes", [[1] * 20, [7, 7, 6], [3, 0, 17]])
def test_a_reversible_encoder_goes_in_pieces_too(cell, sizes):
    torch.manual_seed(0)
    settings = {"blocks": 2, "size": 6, "hidden_size": 5, "subsampling": 2, "dropout": 0.3}
    config = ReversibleConfig(cell=cell, bidirectional=False, **settings)
    model = AcousticModel(4, config, {"only": HeadConfig(3, 1)})
    features, lengths = torch.randn(3, 20, 4), torch.tensor([20, 13, 2])
    torch.manual_seed(1)  # the mask of the dropout
    log_probs, n_frames = model(features, lengths)
    torch.manual_seed(1)
    joined, joined_lengths = in_pieces(model, features, lengths, sizes)["only"]
    assert joined_lengths.tolist() == n_frames.tolist() == [10, 7, 1]
    for i, n in enumerate(n_frames):
        torch.testing.assert_close(joined[i, :n], log_probs[i, :n])


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig(4, 1),
        EncoderConfig(4, 1, bidirectional=False, convolutions=(2,)),
        EncoderConfig(4, 1, bidirectional=False, utterance_norm=True),
        ReversibleConfig(blocks=1, size=4, hidden_size=4),
    ],
)
def test_encoders_that_look_ahead_are_refused(config):
    model = AcousticModel(4, config, {"only": HeadConfig(3, 1)})
    with pytest.raises(ConfigError, match="reads whole utterances"):
        model.step(torch.randn(1, 5, 4))
