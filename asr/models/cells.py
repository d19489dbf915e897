"""Recurrent cells by name: torch's own where it has them, the others from their papers.

Each is built as `cell(input_size, hidden_size)` and called as torch's are: `cell(inputs, state)`
takes (T, B, input_size) and the state before the first frame (None: zeros), and returns the outputs
(T, B, hidden_size) and the state after the last one. Inputs are projected for all frames in one
matrix product; what is left in the loop over time is the recurrence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def peephole_recurrence(
    projected: Tensor, recurrent: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs (T, B, H) and the last cell (B, H), for the equations of `cells.PeepholeLSTM`.

    The gradient is by hand: autograd would record a dozen small operations and a weight gradient
    for every frame. Here whatever does not depend on the frame after it is computed for all frames
    at once, and the loop backwards in time keeps one matrix product.

    projected (T, B, 4 H) are the inputs times their weights, rows i, f, c, o; recurrent (4 H, H);
    peepholes (3, H) for i, f, o; hidden and cell (B, H) come before the first frame.
    """
    return _Recurrence.apply(projected, recurrent, peepholes, hidden, cell)


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, projected: Tensor, recurrent: Tensor, peepholes: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        n_frames, batch, _ = projected.shape
        size = recurrent.shape[1]
        gates = projected.new_empty(n_frames, batch, 4, size)
        hiddens = projected.new_empty(n_frames + 1, batch, size)
        cells = projected.new_empty(n_frames + 1, batch, size)
        squashed = projected.new_empty(n_frames, batch, size)  # tanh(c')
        hiddens[0], cells[0] = h, c
        transposed, p_input_forget, p_output = recurrent.T, peepholes[:2], peepholes[2]
        frames = zip(
            projected.unbind(),
            gates.view(n_frames, batch, -1).unbind(),
            gates[:, :, :2].unbind(),
            *(gates[:, :, k].unbind() for k in range(4)),
            hiddens.unbind()[:-1],
            hiddens.unbind()[1:],
            cells.unbind()[:-1],
            cells.unbind()[1:],
            squashed.unbind(),
            strict=True,
        )
        for x, gate, i_f, i, f, z, o, h, h_next, c, c_next, tanh_c in frames:
            torch.addmm(x, h, transposed, out=gate)
            i_f.addcmul_(p_input_forget, c[:, None]).sigmoid_()
            z.tanh_()
            torch.mul(f, c, out=c_next).addcmul_(i, z)
            o.addcmul_(p_output, c_next).sigmoid_()
            torch.tanh(c_next, out=tanh_c)
            torch.mul(o, tanh_c, out=h_next)
        context.save_for_backward(recurrent, peepholes, gates, hiddens, cells, squashed)
        return hiddens[1:], cells[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(context: Any, outputs_gradient: Tensor, cell_gradient: Tensor) -> tuple:
        recurrent, peepholes, gates, hiddens, cells, squashed = context.saved_tensors
        gradient, d_h, d_c = _back_through_time(
            outputs_gradient, cell_gradient, gates, cells, squashed, recurrent, peepholes
        )
        flat = gradient.flatten(2)
        d_recurrent = flat.flatten(0, 1).T @ hiddens[:-1].flatten(0, 1)
        seen = torch.stack([cells[:-1], cells[:-1], cells[1:]])  # by the gates i, f, o
        d_peepholes = (gradient[:, :, [0, 1, 3]].movedim(2, 0) * seen).sum(dim=(1, 2))
        return flat, d_recurrent, d_peepholes, d_h, d_c


def _back_through_time(
    outputs_gradient: Tensor,
    cell_gradient: Tensor,
    gates: Tensor,
    cells: Tensor,
    squashed: Tensor,
    recurrent: Tensor,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the gates' inputs (T, B, 4, H), and of the first output and cell (B, H).

    gates (T, B, 4, H) are i, f, c and o, cells (T + 1, B, H), squashed (T, B, H) their tanh.
    """
    i, f, z, o = gates.unbind(2)
    # How each pre-activation moves with c' (i, f, z) and with h' (o), frame by frame.
    by_cell = torch.empty_like(gates[:, :, :3])
    torch.mul(z * i, 1 - i, out=by_cell[:, :, 0])
    torch.mul(cells[:-1] * f, 1 - f, out=by_cell[:, :, 1])
    torch.mul(i, 1 - z * z, out=by_cell[:, :, 2])
    by_hidden = squashed * o * (1 - o)
    cell_by_hidden, cell_by_next = o * (1 - squashed * squashed), f
    if peepholes is not None:
        cell_by_hidden += by_hidden * peepholes[2]
        cell_by_next = f + by_cell[:, :, 0] * peepholes[0] + by_cell[:, :, 1] * peepholes[1]

    gradient = torch.empty_like(gates)
    d_h, d_c = torch.zeros_like(cells[0]), cell_gradient.clone()
    frames = zip(
        outputs_gradient.unbind(),
        cell_by_hidden.unbind(),
        by_cell.unbind(),
        by_hidden.unbind(),
        cell_by_next.unbind(),
        gradient[:, :, :3].unbind(),
        gradient[:, :, 3].unbind(),
        gradient.flatten(2).unbind(),
        strict=True,
    )
    for d_output, c_by_h, by_c, by_h, c_by_next, d_ifz, d_o, d_gates in reversed([*frames]):
        d_h += d_output
        d_c.addcmul_(d_h, c_by_h)
        torch.mul(d_c[:, None], by_c, out=d_ifz)
        torch.mul(d_h, by_h, out=d_o)
        d_c *= c_by_next
        torch.mm(d_gates, recurrent, out=d_h)
    return gradient, d_h, d_c


class _Trained(torch.autograd.Function):
    """torch's LSTM, (T, B, input_size) -> (T, B, H), with another gradient on the CPU.

    That of oneDNN's kernel adds to the gradients of the weights frame by frame, which is slow for
    few long utterances. Here the outputs tell the gates of all frames at once, and only what the
    next frame hands back is computed in a loop. Nothing but inputs and outputs is remembered.
    """

    @staticmethod
    def forward(
        context: Any,
        inputs: Tensor,
        weight: Tensor,
        recurrent: Tensor,
        bias: Tensor,
        hidden: Tensor,
        cell: Tensor,
    ) -> tuple[Tensor, Tensor]:
        weights = [weight, recurrent, bias, torch.zeros_like(bias)]
        outputs, _, last = torch.lstm(
            inputs, (hidden, cell), weights, True, 1, 0.0, False, False, False
        )
        context.save_for_backward(inputs, weight, recurrent, bias, hidden, cell, outputs)
        return outputs, last

    @staticmethod
    @once_differentiable
    def backward(context: Any, outputs_gradient: Tensor, cell_gradient: Tensor) -> tuple:
        inputs, weight, recurrent, bias, hidden, cell, outputs = context.saved_tensors
        n_frames, batch, size = outputs.shape
        dtype = outputs.dtype  # bfloat16 under autocast, for the matrix products over all frames
        seen = inputs.flatten(0, 1).to(dtype)
        before = torch.cat([hidden.to(dtype), outputs[:-1]]).flatten(0, 1)
        gates = functional.linear(seen, weight.to(dtype)).to(weight.dtype)
        gates += functional.linear(before, recurrent.to(dtype))
        gates = (gates + bias).view(n_frames, batch, 4, size)
        gates[:, :, :2].sigmoid_()
        gates[:, :, 2].tanh_()
        gates[:, :, 3].sigmoid_()
        i, f, z, _ = gates.unbind(2)
        cells = gates.new_empty(n_frames + 1, batch, size)
        cells[0] = cell
        frames = zip((i * z).unbind(), f.unbind(), cells.unbind(), cells.unbind()[1:], strict=False)
        for added, forget, c, c_next in frames:
            torch.addcmul(added, forget, c, out=c_next)
        gradient, d_hidden, d_cell = _back_through_time(
            outputs_gradient.to(weight.dtype),
            cell_gradient[0].to(weight.dtype),
            gates,
            cells,
            cells[1:].tanh(),
            recurrent,
        )
        flat = gradient.view(n_frames * batch, -1)
        low = flat.to(dtype)
        d_inputs = (low @ weight.to(dtype)).view_as(inputs).to(inputs.dtype)
        d_weight, d_recurrent = ((low.T @ x).to(weight.dtype) for x in (seen, before))
        return d_inputs, d_weight, d_recurrent, flat.sum(0), d_hidden[None], d_cell[None]


class LSTM(nn.LSTM):
    """torch's LSTM with the forget gate open at first (Jozefowicz et al. 2015)."""

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        with torch.no_grad():
            self.get_parameter("bias_ih_l0")[hidden_size : 2 * hidden_size] = 1.0
            self.get_parameter("bias_hh_l0").zero_()

    def forward(  # type: ignore[override]
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        if not torch.is_grad_enabled() or inputs.device.type != "cpu":
            return super().forward(inputs, state)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        weight, recurrent, input_bias, hidden_bias = (getattr(self, name) for name in names)
        if state is None:
            zeros = recurrent.new_zeros(1, inputs.shape[1], self.hidden_size)
            state = (zeros, zeros)
        outputs, cell = _Trained.apply(inputs, weight, recurrent, input_bias + hidden_bias, *state)
        return outputs, (outputs[-1:], cell)


class _Cell(nn.Module):
    """Weights W (gates * H, input_size) of the input, and one bias for each gate."""

    gates: int

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.hidden_size = hidden_size
        self.weight = nn.Parameter(torch.empty(self.gates * hidden_size, input_size))
        self.bias = nn.Parameter(torch.zeros(self.gates * hidden_size))
        nn.init.xavier_uniform_(self.weight)

    def project(self, inputs: Tensor) -> Tensor:
        """(T, B, input_size) -> (T, B, gates * H), in full precision also under autocast."""
        projected = functional.linear(inputs, self.weight, self.bias)
        return projected.to(self.weight.dtype)  # errors of a recurrence add up over time

    def zeros(self, inputs: Tensor) -> Tensor:
        """The initial state (B, H)."""
        return inputs.new_zeros(inputs.shape[1], self.hidden_size)


class PeepholeLSTM(_Cell):
    """LSTM whose gates see the cell (Gers et al. 2002; Graves et al. 2013, equations 3 to 7).

    i = s(W_i x + U_i h + p_i c), f = s(W_f x + U_f h + p_f c), c' = f c + i tanh(W_c x + U_c h),
    o = s(W_o x + U_o h + p_o c'), h' = o tanh(c'), with biases, and diagonal peepholes p.
    Rows of the weights: i, f, c, o; the state is (h, c).
    """

    gates = 4

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.recurrent_weight = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.peepholes = nn.Parameter(torch.zeros(3, hidden_size))  # i, f, o
        nn.init.xavier_uniform_(self.recurrent_weight)
        with torch.no_grad():
            self.bias[hidden_size : 2 * hidden_size] = 1.0

    def forward(
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        hidden, cell = state or (self.zeros(inputs), self.zeros(inputs))
        outputs, cell = peephole_recurrence(
            self.project(inputs), self.recurrent_weight, self.peepholes, hidden, cell
        )
        return outputs, (outputs[-1], cell)


class LiGRU(_Cell):
    """GRU without reset gate, with ReLU (Ravanelli et al. 2018).

    z = s(N(W_z x) + U_z h), h' = z h + (1 - z) relu(N(W_h x) + U_h h); rows: z, h. The paper's N is
    batch normalisation; here it is layer normalisation of each gate's projection, because an
    utterance must not depend on its batch.
    """

    gates = 2

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.recurrent_weight = nn.Parameter(torch.empty(2 * hidden_size, hidden_size))
        self.gain = nn.Parameter(torch.ones(2, hidden_size))
        nn.init.orthogonal_(self.recurrent_weight[:hidden_size])
        nn.init.orthogonal_(self.recurrent_weight[hidden_size:])

    def project(self, inputs: Tensor) -> Tensor:
        projected = functional.linear(inputs, self.weight).unflatten(-1, (2, self.hidden_size))
        normalised = functional.layer_norm(projected, (self.hidden_size,)) * self.gain
        return normalised.flatten(-2).to(self.weight.dtype) + self.bias

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = self.zeros(inputs) if state is None else state
        outputs = []
        transposed = self.recurrent_weight.T
        for projected in self.project(inputs).unbind():
            update, candidate = (projected + hidden @ transposed).chunk(2, dim=1)
            hidden = torch.lerp(torch.relu(candidate), hidden, torch.sigmoid(update))
            outputs.append(hidden)
        return torch.stack(outputs), hidden


class IndRNN(_Cell):
    """Neurons that see only their own past: h' = relu(W x + u h + b) (Li et al. 2018)."""

    gates = 1

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.recurrent_weight = nn.Parameter(torch.rand(hidden_size))

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        hidden = self.zeros(inputs) if state is None else state
        outputs = []
        for projected in self.project(inputs).unbind():
            hidden = torch.relu(torch.addcmul(projected, self.recurrent_weight, hidden))
            outputs.append(hidden)
        return torch.stack(outputs), hidden


class SRU(_Cell):
    """Simple recurrent unit (Lei et al. 2018, equations 1 to 4): no matrix product over time.

    f = s(W_f x + v_f c + b_f), r = s(W_r x + v_r c + b_r), c' = f c + (1 - f) W x,
    h = r c' + (1 - r) W_h x; rows: W, f, r, W_h. (The paper's highway is x itself where the sizes
    agree; W_h makes them agree.) The state is c.
    """

    gates = 4

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.recurrent_weight = nn.Parameter(torch.zeros(2, hidden_size))  # v_f, v_r

    def forward(self, inputs: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        cell = self.zeros(inputs) if state is None else state
        candidate, forget, reset, highway = self.project(inputs).chunk(4, dim=-1)
        by_forget, by_reset = self.recurrent_weight
        before, cells = [], []
        for z, f in zip(candidate.unbind(), forget.unbind(), strict=True):
            before.append(cell)
            gate = torch.sigmoid(torch.addcmul(f, by_forget, cell))
            cell = torch.lerp(z, cell, gate)
            cells.append(cell)
        gate = torch.sigmoid(torch.addcmul(reset, by_reset, torch.stack(before)))
        return torch.lerp(highway, torch.stack(cells), gate), cell


class QRNN(_Cell):
    """Quasi-recurrent network with fo-pooling and a window of two frames (Bradbury et al. 2017).

    z = tanh(W_z [x_{t-1}, x_t]), f = s(W_f [x_{t-1}, x_t]), o = s(W_o [x_{t-1}, x_t]),
    c' = f c + (1 - f) z, h = o c'; rows: z, f, o. The state is (c, last input).
    """

    gates = 3

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(2 * input_size, hidden_size)

    def forward(
        self, inputs: Tensor, state: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        cell, last = state or (self.zeros(inputs), torch.zeros_like(inputs[0]))
        shifted = torch.cat([last[None], inputs[:-1]])
        candidate, forget, output = self.project(torch.cat([shifted, inputs], -1)).chunk(3, dim=-1)
        cells = []
        for z, f in zip(
            torch.tanh(candidate).unbind(), torch.sigmoid(forget).unbind(), strict=True
        ):
            cell = torch.lerp(z, cell, f)
            cells.append(cell)
        return torch.sigmoid(output) * torch.stack(cells), (cell, inputs[-1])


CELLS: dict[str, Callable[[int, int], nn.Module]] = {
    "lstm": LSTM,
    "peephole_lstm": PeepholeLSTM,
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda input_size, hidden_size: nn.RNN(
        input_size, hidden_size, nonlinearity="relu"
    ),
    "gru": nn.GRU,
    "ligru": LiGRU,
    "indrnn": IndRNN,
    "sru": SRU,
    "qrnn": QRNN,
}


def recurrent_weight(cell: nn.Module) -> str | None:
    """The name of the parameter whose last axis is the cells of the frame before, if there is one.

    >>> recurrent_weight(LSTM(2, 3)), recurrent_weight(SRU(2, 3)), recurrent_weight(QRNN(2, 3))
    ('weight_hh_l0', 'recurrent_weight', None)
    """
    names = dict(cell.named_parameters())
    return next((n for n in ("weight_hh_l0", "recurrent_weight") if n in names), None)


def weight_matrices(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The matrices of all linear layers and cells in `module`, by their names in its state.

    >>> [name for name, _ in weight_matrices(nn.ModuleList([SRU(2, 3), nn.Linear(3, 4)]))]
    ['0.weight', '1.weight']
    """
    for path, part in module.named_modules():
        names = set()
        if isinstance(part, nn.Linear | _Cell):
            names.add("weight")
        if isinstance(part, nn.RNNBase):
            names |= {"weight_ih_l0", "weight_hh_l0"}
        if isinstance(part, PeepholeLSTM | LiGRU):  # in the others each cell reads only itself
            names.add("recurrent_weight")
        for name in sorted(names):
            yield f"{path}.{name}".lstrip("."), part.get_parameter(name)


def state_widths(cell: nn.Module) -> list[int]:
    """Columns of each of the tensors that are a cell's state."""
    if isinstance(cell, QRNN):
        return [cell.hidden_size, cell.weight.shape[1] // 2]
    size: int = cell.hidden_size  # type: ignore[assignment]
    return [size, size] if isinstance(cell, LSTM | PeepholeLSTM) else [size]


def run_cell(cell: nn.Module, inputs: Tensor, states: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """A cell over (T, B, C) from `states`, each (B, width), in whatever form it keeps them."""
    if isinstance(cell, nn.RNNBase):  # (layers, B, width)
        states = [state[None].contiguous() for state in states]
    outputs, last = cell(inputs, tuple(states) if len(states) > 1 else states[0])
    after = last if isinstance(last, tuple) else (last,)
    return outputs, [state.flatten(0, -2) for state in after]
