"""Language models against the equations of their cells in float64 (the softmax is float32)."""

import numpy as np
import pytest
import torch

from asr.errors import ConfigError
from asr.models.cells import CELLS
from asr.models.language import LanguageModel, SymbolConfig, SymbolNetwork
from tests.models import equations

SYMBOLS, LENGTHS = torch.tensor([[3, 1, 2, 2], [5, 4, 0, 0], [0, 0, 0, 0]]), torch.tensor([4, 2, 0])


def make(config: SymbolConfig, tied: bool = False) -> LanguageModel:
    """In float64, with no weight that is 0 or 1."""
    torch.manual_seed(0)
    model = LanguageModel(6, config, tied).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def reference(model: LanguageModel, symbols: list[int], cell: str) -> float:
    """-ln p of one sequence and its end."""
    weights = {name: p.detach().numpy() for name, p in model.named_parameters()}
    inputs = [0, *symbols]
    if "embedding.weight" in weights:
        hidden = weights["embedding.weight"][inputs]
    else:
        hidden = np.eye(6)[inputs][:, 1:]  # the boundary is a row of zeros
    hidden = hidden[:, None]
    for layer in range(model.config.layers):
        start = f"cells.{layer}."
        own = {n.removeprefix(start): w for n, w in weights.items() if n.startswith(start)}
        hidden = getattr(equations, cell)(hidden, own)
    hidden = hidden[:, 0]
    if "projection.weight" in weights:
        hidden = hidden @ weights["projection.weight"].T + weights["projection.bias"]
    output = weights.get("output.weight", weights.get("embedding.weight"))
    logits = hidden @ output.T + weights["output.bias"]
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return -log_probs[np.arange(len(inputs)), [*symbols, 0]].sum()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("embedding", "tied"), [(None, False), (5, False), (5, True)])
def test_the_loss_is_that_of_the_equations_whatever_the_padding(cell, embedding, tied):
    config = SymbolConfig(cell, hidden_size=4, layers=2, embedding=embedding, projection=5)
    model = make(config, tied)
    texts = [SYMBOLS[i, :n].tolist() for i, n in enumerate(LENGTHS)]
    expected = [reference(model, text, cell) for text in texts]
    for i, text in enumerate(texts):
        alone = model.loss(torch.tensor([text]).long(), torch.tensor([len(text)]))
        assert float(alone.detach()) == pytest.approx(expected[i], rel=1e-6)
    assert float(model.loss(SYMBOLS, LENGTHS).detach()) == pytest.approx(sum(expected), rel=1e-6)
    ignored = torch.where(torch.arange(4) < LENGTHS[:, None], SYMBOLS, 3)
    assert float(model.loss(ignored, LENGTHS).detach()) == pytest.approx(sum(expected), rel=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_step_by_step_is_all_at_once(cell):
    network = SymbolNetwork(6, SymbolConfig(cell, 4, layers=2, embedding=3)).eval()
    whole, last = network(SYMBOLS.T)
    state, steps = network.start(3), []
    for symbols in SYMBOLS.T:
        output, state = network(symbols[None], state)
        steps.append(output)
    torch.testing.assert_close(torch.cat(steps), whole)
    torch.testing.assert_close(state, last)


def test_probabilities_add_up_over_all_short_texts():
    """Texts of up to two symbols, and the mass that is left for longer ones."""
    model = make(SymbolConfig(hidden_size=4, embedding=3))
    with torch.no_grad():
        texts = [[], *([a] for a in range(1, 6))]
        ended = sum(
            float(torch.exp(-model.loss(torch.tensor([t]).long(), torch.tensor([len(t)]))))
            for t in texts
        )
        going_on = 0.0
        for a in range(1, 6):
            log_probs, _ = model.log_probs(torch.tensor([[0], [a]]))
            start, after = log_probs[0, 0, a].exp(), log_probs[1, 0, 1:].exp().sum()
            going_on += float(start * after)
    assert ended + going_on == pytest.approx(1, abs=1e-6)


def test_a_tied_output_is_stored_once_and_must_fit():
    model = LanguageModel(50, SymbolConfig(hidden_size=8, embedding=4, projection=4), tied=True)
    assert [n for n, p in model.named_parameters() if 50 in p.shape] == [
        "embedding.weight",
        "output.bias",
    ]
    with pytest.raises(ConfigError, match=r"projection=4"):
        LanguageModel(50, SymbolConfig(hidden_size=8, embedding=4), tied=True)
