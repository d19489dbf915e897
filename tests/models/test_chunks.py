"""Latency-controlled encoders: what is computed for a batch is what happens chunk by chunk."""

import pytest
import torch

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.cells import CELLS
from asr.models.encoder import EncoderConfig
from asr.models.layers import join_chunks, split_chunks, subsample

CONFIGS = {
    **{
        f"bidirectional {cell}": EncoderConfig(5, 2, cell=cell, chunk=6, right_context=4)
        for cell in CELLS
    },
    "no look-ahead": EncoderConfig(5, 3, chunk=4),
    "long look-ahead": EncoderConfig(5, 3, chunk=3, right_context=8),
    "unidirectional": EncoderConfig(5, 3, bidirectional=False, chunk=5),
    "subsampled": EncoderConfig(5, 3, subsampling=(1, 2, 3), chunk=12, right_context=6),
    "projected": EncoderConfig(5, 3, projection=4, residual=True, chunk=7, right_context=2),
}


def make(config: EncoderConfig) -> AcousticModel:
    torch.manual_seed(0)
    return AcousticModel(4, config, {"characters": HeadConfig(6, config.layers)}).eval()


def chunk_by_chunk(model: AcousticModel, features: torch.Tensor) -> torch.Tensor:
    """One utterance (T, C) as a stream would have it: only the forward states are carried on."""
    encoder, config = model.encoder, model.encoder.config
    assert config.chunk is not None
    states = [None] * config.layers
    outputs = []
    for begin in range(0, len(features), config.chunk):
        hidden = features[begin : begin + config.chunk + config.right_context, None]
        n_own = config.chunk
        for i, factor in enumerate(config.subsampling):
            forward, *backward = encoder.layers[i].children()
            hidden, _ = subsample(hidden, torch.tensor([len(hidden)]), factor)
            n_own //= factor
            first, states[i] = forward(hidden[:n_own], states[i])
            parts = [first]
            if len(hidden) > n_own:
                parts.append(forward(hidden[n_own:], states[i])[0])
            directions = [torch.cat(parts)]
            for cell in backward:
                directions.append(cell(hidden.flip(0))[0].flip(0))
            hidden = encoder._finish(i, hidden, torch.cat(directions, dim=-1))
        outputs.append(hidden[:n_own, 0])
    return torch.log_softmax(model.heads["characters"](torch.cat(outputs)), dim=-1)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_batch_equals_the_stream_of_each_utterance(config):
    model = make(config)
    features, lengths = torch.randn(6, 40, 4), torch.tensor([40, 39, 24, 13, 12, 1])
    log_probs, n_rows = model(features, lengths)
    for i, n in enumerate(lengths.tolist()):
        expected = chunk_by_chunk(model, features[i, :n])
        assert len(expected) == n_rows[i] == -(-n // config.rate(config.layers))
        torch.testing.assert_close(log_probs[i, : len(expected)], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sizes", [[1] * 40, [7, 0, 20, 13], [40], [40, 0]], ids=str)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_pieces_of_any_size_equal_the_whole(config, sizes):
    model = make(config)
    features, lengths = torch.randn(6, 40, 4), torch.tensor([40, 39, 24, 13, 12, 1])
    expected, n_expected = model(features, lengths)
    state, start, parts, n_rows = None, 0, [], torch.zeros_like(lengths)
    for number, size in enumerate(sizes):
        piece, inside = features[:, start : start + size], (lengths - start).clamp(0, size)
        outputs, state = model.step(piece, state, inside, last=number == len(sizes) - 1)
        parts.append(outputs["characters"][0])
        n_rows += outputs["characters"][1]
        start += size
    assert torch.equal(n_rows, n_expected)
    joined = torch.cat(parts, dim=1)
    for i, n in enumerate(n_rows):
        torch.testing.assert_close(joined[i, :n], expected[i, :n])


def test_a_chunk_comes_as_soon_as_its_right_context_is_there():
    model = make(EncoderConfig(5, 2, chunk=6, right_context=4))
    outputs, state = model.step(torch.randn(1, 9, 4))
    assert outputs["characters"][0].shape[1] == 0
    outputs, state = model.step(torch.randn(1, 1, 4), state)
    assert outputs["characters"][0].shape[1] == 6
    outputs, _ = model.step(torch.randn(1, 0, 4), state, last=True)
    assert outputs["characters"][0].shape[1] == 4


def test_nothing_after_the_look_ahead_counts():
    config = EncoderConfig(5, 3, chunk=8, right_context=3)
    model = make(config)
    features = torch.randn(1, 40, 4, requires_grad=True)
    log_probs, _ = model(features, torch.tensor([40]))
    (gradient,) = torch.autograd.grad(log_probs[0, 15].square().sum(), features)
    heard = gradient[0].abs().sum(1) > 0
    assert heard.tolist() == [True] * (16 + 3) + [False] * (40 - 19)


def test_one_network_hears_with_any_look_ahead():
    config = EncoderConfig(5, 2, chunk=6, right_context=4)
    features, lengths = torch.randn(2, 20, 4), torch.tensor([20, 13])
    chunked = make(config)
    with chunked.chunked_encoder().looking_ahead(None):
        whole, _ = chunked(features, lengths)
    with chunked.chunked_encoder().looking_ahead(2):
        shorter, _ = chunked(features, lengths)
    assert chunked.encoder.config == config
    torch.testing.assert_close(whole, make(EncoderConfig(5, 2))(features, lengths)[0])
    expected, _ = make(EncoderConfig(5, 2, chunk=6, right_context=2))(features, lengths)
    torch.testing.assert_close(shorter, expected)
    with pytest.raises(ConfigError, match="chunks"):
        make(EncoderConfig(5, 2)).chunked_encoder()


def test_a_long_chunk_is_the_whole_utterance():
    whole = make(EncoderConfig(5, 3))
    chunked = make(EncoderConfig(5, 3, chunk=50, right_context=5))
    features, lengths = torch.randn(3, 40, 4), torch.tensor([40, 17, 1])
    expected, _ = whole(features, lengths)
    log_probs, _ = chunked(features, lengths)
    for i, n in enumerate(lengths):
        torch.testing.assert_close(log_probs[i, :n], expected[i, :n], atol=1e-5, rtol=0)


def test_split_and_join():
    sequences, lengths = torch.arange(20.0).view(10, 2, 1), torch.tensor([10, 5])
    chunks, within = split_chunks(sequences, lengths, chunk=4, right=2)
    assert chunks[:, 2, 0].tolist() == [8, 10, 12, 14, 16, 18]  # the second of the first utterance
    assert within.tolist() == [6, 5, 6, 1, 2, 0]
    assert torch.equal(join_chunks(chunks[:4], batch=2)[:10], sequences)


def test_dropout_has_one_mask_for_all_chunks_of_an_utterance():
    model = make(EncoderConfig(5, 1, layer_norm=False, dropout=0.5, chunk=3, right_context=1))
    model.train()
    features, lengths = torch.randn(2, 12, 4), torch.tensor([12, 12])
    encoded, _ = model.encoder(features, lengths)
    dropped = encoded == 0
    assert dropped.any()
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk": 0}, "chunk is at least 1"),
        ({"chunk": 4, "right_context": -1}, "right_context at least 0"),
        ({"right_context": 2}, "for chunks of bidirectional"),
        ({"chunk": 4, "right_context": 2, "bidirectional": False}, "for chunks of bidirectional"),
        ({"chunk": 5, "subsampling": (1, 2)}, "multiples of 2"),
        ({"chunk": 4, "convolutions": (3,)}, "convolutions see beyond"),
        ({"chunk": 4, "utterance_norm": True}, "utterance_norm"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(ConfigError, match=message):
        EncoderConfig(5, 2, **settings)
