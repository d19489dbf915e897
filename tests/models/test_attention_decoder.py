"""Attention decoders against the equations, against enumeration of all texts, and their batch."""

import itertools

import numpy as np
import pytest
import torch

from asr.decode.attention import CTCPrefixes, beam_search
from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.attention_decoder import AttentionConfig, AttentionHead, TorchAttention
from asr.models.encoder import EncoderConfig
from asr.models.language import SymbolConfig
from tests.models import equations

CLASSES, INPUTS = 4, 5


def make(filters: int = 3, classes: int = CLASSES, projection: int | None = 6) -> AttentionHead:
    torch.manual_seed(0)
    decoder = SymbolConfig("lstm", 4, embedding=3, projection=projection)
    config = AttentionConfig(decoder, size=7, location_filters=filters, location_width=3)
    return AttentionHead(INPUTS, classes, config, init_range=0.7).eval()


def log_softmax(x):
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def total_log_prob(log_probs: np.ndarray, symbols: list[int]) -> float:
    """ln p under CTC, by enumeration of all paths."""
    total = -np.inf
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        if [c for c, _ in itertools.groupby(path) if c] == symbols:
            total = np.logaddexp(total, log_probs[np.arange(len(path)), list(path)].sum())
    return total


def reference(head: AttentionHead, rows: np.ndarray, symbols: list[int]):
    """Log-probabilities (U + 1, classes) and attention (U + 1, T), in float64 from the weights."""
    w = {name: p.detach().double().numpy() for name, p in head.named_parameters()}
    cell = {n.removeprefix("cells.0."): p for n, p in w.items() if n.startswith("cells.0.")}
    seen, looked = np.zeros(INPUTS), np.zeros(len(rows))
    inputs, found, attended = [], [], []
    for symbol in [0, *symbols]:
        inputs.append(np.concatenate([w["embedding.weight"][symbol], seen]))
        state = equations.lstm(np.array(inputs)[:, None], cell)[-1, 0]
        compared = rows @ w["keys.weight"].T + w["keys.bias"] + w["query.weight"] @ state
        if "look_back.weight" in w:
            padded = np.pad(looked, 1)
            windows = np.stack([padded[t : t + 3] for t in range(len(rows))])
            compared = compared + windows @ w["look_back.weight"][:, 0].T @ w["location.weight"].T
        energies = (np.tanh(compared) @ w["energy.weight"].T)[:, 0]
        looked = np.exp(log_softmax(energies))
        seen = looked @ rows
        spelled = np.concatenate([state, seen])
        if "projection.0.weight" in w:
            spelled = np.tanh(w["projection.0.weight"] @ spelled + w["projection.0.bias"])
        found.append(log_softmax(w["output.weight"] @ spelled + w["output.bias"]))
        attended.append(looked)
    return np.array(found), np.array(attended)


@pytest.mark.parametrize(("filters", "projection"), [(3, 6), (0, None)])
def test_loss_and_attention_are_those_of_the_equations_whatever_the_padding(filters, projection):
    head = make(filters, projection=projection)
    hidden = torch.randn(3, 6, INPUTS)
    targets = torch.tensor([[1, 3, 3], [2, 3, 3], [1, 1, 1]])
    lengths, n_symbols = torch.tensor([6, 3, 2]), torch.tensor([3, 1, 0])
    losses = head.losses(head(hidden), lengths, targets, n_symbols).detach()
    _, attention = head.spell(head(hidden), lengths, targets)
    for i, (n, u) in enumerate(zip(lengths.tolist(), n_symbols.tolist(), strict=True)):
        symbols = targets[i, :u].tolist()
        log_probs, looked = reference(head, hidden[i, :n].double().numpy(), symbols)
        expected = -log_probs[np.arange(u + 1), [*symbols, 0]].sum()
        assert float(losses[i]) == pytest.approx(expected, rel=1e-5)
        np.testing.assert_allclose(attention[i, : u + 1, :n].detach(), looked, atol=1e-5)
        assert not attention[i, :, n:].any()


class Uniform:
    """A language model that likes the symbol 1."""

    def start(self, batch: int = 1):
        return np.zeros((batch, 1), np.float32)

    def step(self, tokens, state):
        row = log_softmax(np.arange(CLASSES - 1)[::-1].astype(np.float64))
        return np.tile(row.astype(np.float32), (len(tokens), 1)), state


@pytest.mark.parametrize("with_ctc", [False, True])
@pytest.mark.parametrize("lm_weight", [0.0, 0.4])
def test_a_beam_that_drops_nothing_finds_what_enumeration_finds(with_ctc, lm_weight):
    head, n_frames, most = make(classes=3), 4, 3
    rng = np.random.default_rng(0)
    hidden = torch.randn(1, n_frames, INPUTS)
    ctc = log_softmax(rng.normal(size=(n_frames, 3))).astype(np.float32)
    with torch.no_grad():
        encoded = head(hidden)[0].numpy()
    found = beam_search(
        TorchAttention(head),
        encoded,
        beam=1000,
        nbest=1000,
        max_symbols=most,
        ctc_log_probs=ctc if with_ctc else None,
        ctc_weight=0.3,
        lm=Uniform() if lm_weight else None,
        lm_weight=lm_weight,
        symbol_bonus=0.2,
    )
    row = log_softmax(np.arange(3)[::-1].astype(np.float64))
    expected = {}
    for n in range(most + 1):
        for symbols in itertools.product((1, 2), repeat=n):
            log_probs, _ = reference(head, hidden[0].double().numpy(), list(symbols))
            score = log_probs[np.arange(n + 1), [*symbols, 0]].sum()
            if with_ctc:
                score = 0.7 * score + 0.3 * total_log_prob(ctc, list(symbols))
            score += lm_weight * row[[*symbols, 0]].sum() + 0.2 * n
            if np.isfinite(score):
                expected[symbols] = score
    assert {result.symbols for result in found} == expected.keys()
    for result in found:
        assert result.score == pytest.approx(expected[result.symbols], abs=1e-4)
        assert result.attention.shape == (len(result.symbols), n_frames)
    assert found[0].symbols == max(expected, key=lambda symbols: expected[symbols])
    narrow = beam_search(TorchAttention(head), encoded, beam=2, max_symbols=most)
    assert len(narrow) == 1


def test_ctc_prefixes_add_up_to_all_texts_that_begin_so():
    rng = np.random.default_rng(1)
    log_probs = log_softmax(rng.normal(size=(4, 3))).astype(np.float32)
    texts = [s for n in range(5) for s in itertools.product((1, 2), repeat=n)]
    chances = {text: np.exp(total_log_prob(log_probs, list(text))) for text in texts}
    prefixes = CTCPrefixes(log_probs)
    scores, states = prefixes.extend(None, ())
    assert np.exp(scores[0]) == pytest.approx(chances[()])
    for first in (1, 2):
        begun = sum(p for text, p in chances.items() if text[:1] == (first,))
        assert np.exp(scores[first]) == pytest.approx(begun)
        following, _ = prefixes.extend(states[..., first], (first,))
        assert np.exp(following[0]) == pytest.approx(chances[first,])
        for second in (1, 2):
            begun = sum(p for text, p in chances.items() if text[:2] == (first, second))
            assert np.exp(following[second]) == pytest.approx(begun)


def test_a_small_batch_is_learnt_by_heart_jointly_with_ctc():
    """Three random sequences with their labels: the decoder to less than 0.1 nats each."""
    torch.manual_seed(0)
    attention = AttentionConfig(
        SymbolConfig(hidden_size=24, embedding=8, projection=16), size=16, location_filters=2
    )
    heads = {"text": HeadConfig(5, 1, "attention", attention=attention), "ctc": HeadConfig(5, 1)}
    model = AcousticModel(8, EncoderConfig(16, 1), heads)
    features, lengths = torch.randn(3, 10, 8), torch.tensor([10, 9, 8])
    targets, n_symbols = torch.randint(1, 5, (3, 4)), torch.tensor([4, 3, 2])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        losses = {
            name: model.head(name).losses(outputs, n, targets, n_symbols).sum()
            for name, (outputs, n) in model.forward_heads(features, lengths).items()
        }
        optimizer.zero_grad()
        (losses["text"] + 0.3 * losses["ctc"]).backward()
        optimizer.step()
        if losses["text"] < 0.3:
            break
    assert float(losses["text"].detach()) < 0.3
    model.eval()
    with torch.inference_mode():
        outputs, n = model(features, lengths)
    wanted = [row[:u].tolist() for row, u in zip(targets, n_symbols, strict=True)]
    assert model.head().decode(outputs, n) == wanted


def test_settings_that_make_no_network_are_refused():
    with pytest.raises(ConfigError, match="location_width odd"):
        AttentionConfig(location_width=4)
    with pytest.raises(ConfigError, match="embedding"):
        AttentionConfig(decoder=SymbolConfig(embedding=None))
