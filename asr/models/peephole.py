"""The recurrence of the peephole LSTM with its gradient by hand: back-propagation through time.

Autograd would record a dozen small operations and a weight gradient for every frame. Here whatever
does not depend on the frame after it is computed for all frames at once, and the loop backwards in
time keeps one matrix product and four element-wise operations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def peephole_recurrence(
    projected: Tensor, recurrent: Tensor, peepholes: Tensor, hidden: Tensor, cell: Tensor
) -> tuple[Tensor, Tensor]:
    """Outputs (T, B, H) and the last cell (B, H), for the equations of `cells.PeepholeLSTM`.

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
        n_frames, batch, _, size = gates.shape
        p_i, p_f, p_o = peepholes
        i, f, z, o = gates.unbind(2)
        # How each pre-activation moves with c' (i, f, z) and with h' (o), frame by frame.
        by_cell = torch.stack([z * i * (1 - i), cells[:-1] * f * (1 - f), i * (1 - z * z)], dim=2)
        by_hidden = squashed * o * (1 - o)
        cell_by_hidden = o * (1 - squashed * squashed) + by_hidden * p_o
        cell_by_next = f + by_cell[:, :, 0] * p_i + by_cell[:, :, 1] * p_f

        gradient = torch.empty_like(gates)
        d_h, d_c = torch.zeros_like(hiddens[0]), cell_gradient
        for t in reversed(range(n_frames)):
            d_h = d_h + outputs_gradient[t]
            d_c = torch.addcmul(d_c, d_h, cell_by_hidden[t])
            torch.mul(d_c[:, None], by_cell[t], out=gradient[t, :, :3])
            torch.mul(d_h, by_hidden[t], out=gradient[t, :, 3])
            d_c = d_c * cell_by_next[t]
            d_h = torch.mm(gradient[t].view(batch, -1), recurrent)
        flat = gradient.view(n_frames * batch, -1)
        d_recurrent = flat.T @ hiddens[:-1].reshape(-1, size)
        seen = torch.stack([cells[:-1], cells[:-1], cells[1:]])  # by the gates i, f, o
        d_peepholes = (gradient[:, :, [0, 1, 3]].movedim(2, 0) * seen).sum(dim=(1, 2))
        return gradient.view(n_frames, batch, -1), d_recurrent, d_peepholes, d_h, d_c
