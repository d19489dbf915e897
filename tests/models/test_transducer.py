"""Transducers against the equations, against sums over all alignments, and against their batch."""

import itertools
import math

import numpy as np
import pytest
import torch

from asr.decode.transducer import beam_search, greedy
from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.encoder import EncoderConfig
from asr.models.language import SymbolConfig
from asr.models.transducer import TorchSteps, TransducerConfig, TransducerHead
from tests.models import equations

JOINERS = ["sum", "graves2013", "tanh"]
CLASSES, INPUTS = 4, 5


def make(joiner: str = "tanh", classes: int = CLASSES) -> TransducerHead:
    torch.manual_seed(0)
    config = TransducerConfig(SymbolConfig("peephole_lstm", 6, embedding=None), joiner, size=7)
    head = TransducerHead(INPUTS, classes, config, init_range=0.7)
    return head.eval()


def log_softmax(x):
    return x - np.logaddexp.reduce(x, axis=-1, keepdims=True)


def logits_of_the_papers(head: TransducerHead, hidden: np.ndarray, symbols: list[int]):
    """(T, U + 1, classes) in float64, from the weights alone."""
    w = {name: p.detach().double().numpy() for name, p in head.named_parameters()}
    start = "prediction.cells.0."
    cell = {n.removeprefix(start): p for n, p in w.items() if n.startswith(start)}
    one_hot = np.eye(head.prediction.classes)[[0, *symbols]][:, 1:]  # the boundary is all zeros
    predicted = equations.peephole_lstm(one_hot[:, None], cell)[:, 0]
    if head.config.joiner == "graves2013":
        hidden = hidden @ w["linear.weight"].T + w["linear.bias"]
    f = hidden @ w["from_encoder.weight"].T + w["from_encoder.bias"]
    g = predicted @ w["from_prediction.weight"].T
    joined = f[:, None] + g[None]
    if head.config.joiner == "sum":
        return joined
    return np.tanh(joined) @ w["output.weight"].T + w["output.bias"]


def forward_variable(log_probs: np.ndarray, symbols: list[int]) -> float:
    """ln p of the symbols (Graves 2012, equations 16 and 17)."""
    n_frames, n_symbols = len(log_probs), len(symbols)
    alpha = np.full((n_frames, n_symbols + 1), -np.inf)
    alpha[0, 0] = 0.0
    for t, u in itertools.product(range(n_frames), range(n_symbols + 1)):
        if t:
            alpha[t, u] = np.logaddexp(alpha[t, u], alpha[t - 1, u] + log_probs[t - 1, u, 0])
        if u:
            gain = log_probs[t, u - 1, symbols[u - 1]]
            alpha[t, u] = np.logaddexp(alpha[t, u], alpha[t, u - 1] + gain)
    return alpha[-1, -1] + log_probs[-1, -1, 0]


def all_alignments(log_probs: np.ndarray, symbols: list[int]) -> float:
    """The same by going every way: how many symbols are emitted in each frame."""
    n_frames, total = len(log_probs), -np.inf
    for counts in itertools.product(range(len(symbols) + 1), repeat=n_frames):
        if sum(counts) != len(symbols):
            continue
        score, u = 0.0, 0
        for t, count in enumerate(counts):
            for _ in range(count):
                score += log_probs[t, u, symbols[u]]
                u += 1
            score += log_probs[t, u, 0]
        total = np.logaddexp(total, score)
    return total


@pytest.mark.parametrize("joiner", JOINERS)
def test_the_loss_is_the_sum_over_all_alignments_of_the_papers_equations(joiner):
    head = make(joiner)
    hidden = torch.randn(3, 4, INPUTS)
    targets = torch.tensor([[1, 3, 3], [2, 0, 0], [0, 0, 0]])
    lengths, n_symbols = torch.tensor([4, 2, 3]), torch.tensor([3, 1, 0])
    losses = head.losses(head(hidden), lengths, targets, n_symbols).detach()
    for i, (n, u) in enumerate(zip(lengths, n_symbols, strict=True)):
        symbols = targets[i, :u].tolist()
        logits = logits_of_the_papers(head, hidden[i, :n].double().numpy(), symbols)
        expected = all_alignments(log_softmax(logits), symbols)
        assert expected == pytest.approx(forward_variable(log_softmax(logits), symbols))
        assert float(losses[i]) == pytest.approx(-expected, rel=1e-5)
        alone = head.losses(
            head(hidden[i : i + 1, :n]),
            lengths[i : i + 1],
            targets[i : i + 1],
            n_symbols[i : i + 1],
        )
        assert float(alone.detach()) == pytest.approx(-expected, rel=1e-5)


@pytest.mark.parametrize("joiner", JOINERS)
def test_gradients_are_the_finite_differences_of_the_loss(joiner):
    """Of the loss from the papers' equations in float64, by a few weights of each matrix."""
    head = make(joiner)
    hidden, targets = torch.randn(1, 3, INPUTS), torch.tensor([[2, 1]])
    losses = head.losses(head(hidden), torch.tensor([3]), targets, torch.tensor([2]))
    gradients = torch.autograd.grad(losses.sum(), list(head.parameters()))

    def loss():
        logits = logits_of_the_papers(head, hidden[0].double().numpy(), [2, 1])
        return -forward_variable(log_softmax(logits), [2, 1])

    rng, step = np.random.default_rng(0), 2**-10
    for (name, parameter), gradient in zip(head.named_parameters(), gradients, strict=True):
        flat = parameter.detach().view(-1)
        for k in rng.permutation(len(flat))[:4].tolist():
            middle = float(flat[k])
            flat[k] = middle + step
            above, beyond = loss(), float(flat[k])
            flat[k] = middle - step
            expected = (above - loss()) / (beyond - float(flat[k]))
            flat[k] = middle
            assert float(gradient.view(-1)[k]) == pytest.approx(expected, abs=2e-4), name


class Bigrams:
    """A language model: a row of log-probabilities for each last symbol, which is its state."""

    def __init__(self, classes: int):
        rng = np.random.default_rng(3)
        self.table = log_softmax(rng.normal(size=(classes, classes))).astype(np.float32)

    def start(self, batch: int = 1):
        return np.zeros((batch, 1), np.float32)

    def step(self, tokens, state):
        return self.table[tokens], state + 1

    def score(self, symbols):
        return sum(self.table[a, b] for a, b in itertools.pairwise([0, *symbols]))


def enumerated(head, encoded, most_symbols, gain=lambda symbols: 0.0):
    """ln p of every sequence that up to `most_symbols` symbols a frame can spell."""
    steps, totals = TorchSteps(head), {}
    n_frames = len(encoded)

    def log_probs(t, symbols):
        state = steps.start()
        for symbol in [0, *symbols]:
            predicted, state = steps.predict(np.array([symbol]), state)
        return steps.join(encoded[t], predicted)[0]

    def walk(t, symbols, emitted, score):
        if t == n_frames:
            totals[symbols] = np.logaddexp(totals.get(symbols, -np.inf), score)
            return
        found = log_probs(t, symbols)
        walk(t + 1, symbols, 0, score + found[0])
        if emitted < most_symbols:
            for symbol in range(1, len(found)):
                walk(t, (*symbols, symbol), emitted + 1, score + found[symbol])

    walk(0, (), 0, 0.0)
    return {symbols: score + gain(symbols) for symbols, score in totals.items()}


@pytest.mark.parametrize("lm_weight", [0.0, 0.7])
def test_a_beam_that_drops_nothing_finds_what_enumeration_finds(lm_weight):
    head, lm = make(classes=3), Bigrams(3)
    with torch.no_grad():
        encoded = head(torch.randn(1, 3, INPUTS))[0].numpy()
    found = beam_search(
        TorchSteps(head),
        encoded,
        beam=10_000,
        max_symbols=2,
        nbest=10_000,
        lm=lm if lm_weight else None,
        lm_weight=lm_weight,
        symbol_bonus=0.1,
    )
    expected = enumerated(
        head, encoded, 2, lambda symbols: lm_weight * lm.score(symbols) + 0.1 * len(symbols)
    )
    assert {result.symbols for result in found} == expected.keys()
    for result in found:
        assert result.score == pytest.approx(expected[result.symbols], abs=1e-4)
        if lm_weight:
            assert result.lm_score == pytest.approx(lm.score(result.symbols), abs=1e-4)
        assert len(result.rows) == len(result.symbols) == len(result.log_probs)
        assert list(result.rows) == sorted(result.rows)
    best = max(expected, key=lambda symbols: expected[symbols])
    assert found[0].symbols == best
    assert [r.score for r in found] == sorted((r.score for r in found), reverse=True)


def test_a_wider_beam_is_never_worse_and_greedy_is_one_way():
    head = make(classes=5)
    with torch.no_grad():
        encoded = head(2 * torch.randn(1, 6, INPUTS))[0].numpy()
    steps = TorchSteps(head)
    scores = [beam_search(steps, encoded, beam=beam)[0].score for beam in (1, 4, 64)]
    assert scores == sorted(scores)
    taken = greedy(steps, encoded)
    assert taken.score <= scores[-1] + 1e-5
    assert head.decode(torch.from_numpy(encoded)[None], torch.tensor([6])) == [list(taken.symbols)]


def test_greedy_decoding_is_bounded_where_no_blank_comes():
    head = make()
    with torch.no_grad():
        head.output.bias.copy_(torch.tensor([-50.0, 50, 0, 0]))
    (symbols,) = head.decode(torch.zeros(1, 2, 7), torch.tensor([2]))
    assert symbols == [1] * 2 * head.config.most_symbols


def test_a_small_batch_is_learnt_by_heart_whatever_the_padding():
    """Three random sequences with their labels, to less than 0.1 nats each, and read out again."""
    torch.manual_seed(0)
    transducer = TransducerConfig(SymbolConfig(hidden_size=16, embedding=8), size=24)
    head = HeadConfig(5, 1, "transducer", transducer)
    model = AcousticModel(8, EncoderConfig(24, 1), {"characters": head})
    features, lengths = torch.randn(3, 12, 8), torch.tensor([12, 10, 8])
    targets, n_symbols = torch.randint(1, 5, (3, 5)), torch.tensor([5, 4, 3])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        outputs, _ = model(features, lengths)
        loss = model.head().losses(outputs, lengths, targets, n_symbols).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.3:
            break
    assert float(loss.detach()) < 0.3
    model.eval()
    with torch.inference_mode():
        outputs, _ = model(features, lengths)
        together = model.head().decode(outputs, lengths)
    wanted = [row[:n].tolist() for row, n in zip(targets, n_symbols, strict=True)]
    assert together == wanted
    with torch.inference_mode():
        alone, n = model(features[2:, :8], lengths[2:])
    assert model.head().decode(alone, n) == wanted[2:]


def test_settings_that_make_no_network_are_refused():
    with pytest.raises(ConfigError, match="most_symbols"):
        TransducerConfig(most_symbols=0)


def test_probabilities_of_all_sequences_add_up_to_one():
    head = make(classes=2)
    with torch.no_grad():
        encoded = head(torch.randn(1, 2, INPUTS))
        total = 0.0
        for n in range(30):
            targets, n_symbols = torch.ones(1, max(n, 1), dtype=torch.long), torch.tensor([n])
            total += math.exp(-float(head.losses(encoded, torch.tensor([2]), targets, n_symbols)))
    assert total == pytest.approx(1, abs=1e-3)
