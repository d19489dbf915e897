"""Every cell against its paper's equations (tests/models/equations.py), and against its uses."""

import numpy as np
import pytest
import torch

from asr.errors import ConfigError
from asr.models.acoustic import AcousticModel, HeadConfig
from asr.models.cells import CELLS
from asr.models.encoder import EncoderConfig
from asr.models.layers import Recurrent
from tests.models import equations

FRAMES, BATCH, INPUTS, SIZE = 6, 2, 3, 4


def make(name):
    """A cell in float64 none of whose weights is 0 or 1, as its initial ones may be."""
    torch.manual_seed(0)
    cell = CELLS[name](INPUTS, SIZE).double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return cell


def arrays(cell):
    return {name: p.detach().numpy().copy() for name, p in cell.named_parameters()}


@pytest.fixture
def inputs():
    return torch.randn(FRAMES, BATCH, INPUTS, generator=torch.Generator().manual_seed(1)).double()


@pytest.mark.parametrize("name", CELLS)
def test_outputs_are_those_of_the_papers_equations(name, inputs):
    cell = make(name)
    expected = getattr(equations, name)(inputs.numpy(), arrays(cell))
    assert expected.std() > 0.05
    np.testing.assert_allclose(cell(inputs)[0].detach(), expected, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_gradients_are_the_finite_differences_of_the_equations(name, inputs):
    cell, compute = make(name), getattr(equations, name)
    outputs, _ = cell(inputs.requires_grad_())
    weighting = np.random.default_rng(2).normal(size=outputs.shape)
    names = [n for n, _ in cell.named_parameters()]
    gradients = torch.autograd.grad(
        (outputs * torch.from_numpy(weighting)).sum(), [inputs, *cell.parameters()]
    )
    values = {"inputs": inputs.detach().numpy().copy(), **arrays(cell)}

    def loss():
        return float((compute(values["inputs"], values) * weighting).sum())

    for variable, gradient in zip(["inputs", *names], gradients, strict=True):
        flat, step = values[variable].reshape(-1), 1e-6
        expected = np.empty_like(flat)
        for k in range(len(flat)):
            middle = flat[k]
            flat[k] = middle + step
            above = loss()
            flat[k] = middle - step
            expected[k] = (above - loss()) / (2 * step)
            flat[k] = middle
        np.testing.assert_allclose(gradient.reshape(-1), expected, atol=1e-7, err_msg=variable)


@pytest.mark.parametrize("frames", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_of_the_lstm_is_torchs(frames, dtype):
    """Of inputs, weights and the state before, from outputs and the state after."""
    cell = make("lstm").float()
    generator = torch.Generator().manual_seed(3)
    shapes = [(frames, BATCH, INPUTS), (1, BATCH, SIZE), (1, BATCH, SIZE)]
    given = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    weighting = [
        torch.randn(shape, generator=generator)
        for shape in [(frames, BATCH, SIZE), (1, BATCH, SIZE), (1, BATCH, SIZE)]
    ]

    def gradients(forward):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            outputs, state = forward(given[0], (given[1], given[2]))
        total = sum((x * w).sum() for x, w in zip((outputs, *state), weighting, strict=True))
        return torch.autograd.grad(total, [*given, *cell.parameters()])

    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    expected = gradients(lambda *inputs: torch.nn.LSTM.forward(cell, *inputs))
    for ours, theirs in zip(gradients(cell), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CELLS)
def test_the_state_carries_on_where_the_last_piece_ended(name, inputs):
    cell = make(name)
    whole, last = cell(inputs)
    first, state = cell(inputs[:2])
    second, state = cell(inputs[2:], state)
    torch.testing.assert_close(torch.cat([first, second]), whole)
    torch.testing.assert_close(state, last)
    # Back-propagation goes through the state too.
    expected = torch.autograd.grad(whole.square().sum(), list(cell.parameters()))
    joined = torch.autograd.grad(torch.cat([first, second]).square().sum(), list(cell.parameters()))
    torch.testing.assert_close(joined, expected)


@pytest.mark.parametrize("name", ["lstm", "peephole_lstm"])
def test_the_forget_gate_starts_open(name):
    biases = [p for n, p in CELLS[name](3, 4).named_parameters() if "bias" in n]
    assert torch.stack(biases).sum(0)[4:8].tolist() == [1.0] * 4


@pytest.mark.parametrize("name", CELLS)
def test_the_backward_direction_reads_each_sequence_from_its_end(name):
    torch.manual_seed(0)
    layer = Recurrent(name, INPUTS, SIZE)
    backward = getattr(layer, f"backward_{name}")
    inputs, lengths = torch.randn(7, 2, INPUTS), torch.tensor([7, 4])
    outputs = layer(inputs, lengths)
    for i, n in enumerate(lengths):
        expected = backward(inputs[:n, i : i + 1].flip(0))[0].flip(0)
        torch.testing.assert_close(outputs[:n, i : i + 1, SIZE:], expected)


@pytest.mark.parametrize("name", CELLS)
def test_an_utterance_does_not_depend_on_its_batch(name):
    torch.manual_seed(0)
    config = EncoderConfig(5, 2, cell=name, projection=4, residual=True, subsampling=(1, 2))
    model = AcousticModel(INPUTS, config, {"characters": HeadConfig(4, 2)}).eval()
    features, lengths = torch.randn(5, 20, INPUTS), torch.tensor([20, 13, 7, 2, 1])
    batched, batched_lengths = model(features, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone, (n,) = model(features[i : i + 1, :length], lengths[i : i + 1])
        assert n == batched_lengths[i]
        torch.testing.assert_close(batched[i, :n], alone[0], atol=1e-5, rtol=0)


def test_unknown_cells_are_refused():
    with pytest.raises(ConfigError, match=r"'lstn'.*one of lstm, peephole_lstm"):
        EncoderConfig(cell="lstn")
