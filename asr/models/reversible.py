"""A reversible recurrent encoder: memory for training that does not grow with its depth.

MacKay et al., "Reversible recurrent neural networks", NeurIPS 2018, with the coupling of Gomez et
al., "The reversible residual network", NIPS 2017: a block maps (a, b) to (a', b') with
a' = a + F(b), b' = b + G(a'), and is undone by b = b' - G(a'), a = a' - F(b). F and G are recurrent
layers. Only the last block's output is kept; the backward pass finds what came before from it.

That frees memory from the depth. A causal one also goes window by window (`asr.train.truncated`),
which frees it from the length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asr.errors import ConfigError
from asr.models.cells import CELLS
from asr.models.layers import (
    LayeredEncoder,
    Recurrent,
    VariationalDropout,
    Waiting,
    subsample,
    subsample_step,
)


@dataclass(frozen=True)
class ReversibleConfig:
    """`blocks` pairs of recurrent layers, coupled reversibly.

    From outside it is one layer: what is between the blocks is not kept, so no head can sit there.
    size: columns of either half of the stream. cell, hidden_size, bidirectional: of the recurrent
    layers, each of which is followed by a linear layer to `size`. subsampling: how many frames are
    joined in front. dropout: of the output, with one mask for all frames.
    """

    kind: Literal["reversible"] = "reversible"
    blocks: int = 4
    size: int = 128
    cell: str = "gru"
    hidden_size: int = 128
    bidirectional: bool = True
    subsampling: int = 1
    dropout: float = 0.1
    layers: ClassVar[int] = 1
    init_range: ClassVar[None] = None

    def __post_init__(self) -> None:
        if min(self.blocks, self.size, self.hidden_size, self.subsampling) < 1:
            raise ConfigError("model: every size of a reversible encoder is at least 1")
        if self.cell not in CELLS:
            raise ConfigError(f"model.cell is {self.cell!r}", f"one of {', '.join(CELLS)}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"model.dropout is {self.dropout}", "in [0, 1)")

    def rate(self, layer: int) -> int:
        """Input frames for one output frame."""
        return self.subsampling


class Change(nn.Module):
    """What is added to one half of the stream: a normalised recurrent layer of the other half."""

    def __init__(self, config: ReversibleConfig):
        super().__init__()
        self.norm = nn.LayerNorm(config.size)
        self.recurrent = Recurrent(
            config.cell, config.size, config.hidden_size, config.bidirectional
        )
        self.project = nn.Linear(self.recurrent.output_size, config.size)

    def forward(self, half: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, size), (B,) -> (T, B, size)."""
        return self.project(self.recurrent(self.norm(half), lengths))

    def step(self, half: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Continue a layer without a backward direction: (T, B, size), and the next state."""
        hidden, state = self.recurrent.step(self.norm(half), state, None)
        return self.project(hidden), state


class ReversibleState(NamedTuple):
    """Where a causal encoder is: frames that wait, the state of every change, dropout's mask."""

    waiting: Waiting
    cells: tuple[Any, ...]
    mask: Tensor | None


# A change, the half that it looks at, its state -> what it adds, the state after.
Add = Callable[..., tuple[Tensor, Any]]


class Reversible(LayeredEncoder):
    """Frames are joined and projected to both halves, which then go through the blocks."""

    def __init__(self, input_size: int, config: ReversibleConfig):
        super().__init__()
        self.config = config
        self.output_size = 2 * config.size
        self.project = nn.Linear(input_size * config.subsampling, 2 * config.size)
        self.changes = nn.ModuleList(Change(config) for _ in range(2 * config.blocks))
        self.norm = nn.LayerNorm(2 * config.size)
        self.dropout = VariationalDropout(config.dropout)

    def layer_outputs(self, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """See `LayeredEncoder.layer_outputs`; there is one, after all blocks."""
        hidden, lengths = subsample(features.transpose(0, 1), lengths, self.config.subsampling)

        def add(change: Change, half: Tensor, state: None) -> tuple[Tensor, None]:
            return change(half, lengths), None

        hidden, _ = self._couple(hidden, add, (None,) * len(self.changes))
        yield self.dropout(hidden), lengths

    def step(
        self,
        features: Tensor,
        state: ReversibleState | None = None,
        lengths: Tensor | None = None,
        *,
        last: bool = False,
    ) -> tuple[list[tuple[Tensor, Tensor]], ReversibleState]:
        """As `asr.models.encoder.Encoder.step`, but no gradient flows through the state."""
        self.check_causal()
        if lengths is None:
            lengths = torch.full((len(features),), features.shape[1])
        hidden, lengths, waiting = subsample_step(
            features.transpose(0, 1),
            lengths,
            self.config.subsampling,
            state and state.waiting,
            last,
        )
        if state is None:
            like = hidden.new_empty(1, hidden.shape[1], self.output_size)
            state = ReversibleState(waiting, (None,) * len(self.changes), self.dropout.mask(like))
        hidden, cells = self._couple(hidden, Change.step, state.cells)
        output = self.dropout(hidden, state.mask)
        return [(output, lengths)], ReversibleState(waiting, cells, state.mask)

    def check_causal(self) -> None:
        """Raise ConfigError if an output of this encoder depends on later frames."""
        if self.config.bidirectional:
            raise ConfigError(
                "this encoder reads whole utterances: it cannot go frame by frame",
                "set model.bidirectional=false",
            )

    def _couple(
        self, hidden: Tensor, add: Add, states: tuple[Any, ...]
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """All blocks over joined frames (T, B, C), and the states after them."""
        halves = self.project(hidden).to(self.norm.weight.dtype).chunk(2, dim=-1)
        changes: list[nn.Module] = list(self.changes)
        weights = [p for change in changes for p in change.parameters()]
        after: list[Any] = []
        halves = _Coupled.apply(changes, add, states, after, *halves, *weights)
        return self.norm(torch.cat(halves, dim=-1)), tuple(after)


def on_grid(values: Tensor) -> Tensor:
    """Values rounded to multiples of 2^-16 (float64: 2^-40).

    Sums and differences of such numbers are exact as long as they stay below 2^8 in float32 (2^12
    in float64): 24 bits (53) hold them. So the backward pass finds the very activations of the
    forward pass again, however many blocks there are; without the grid every block would add its
    rounding errors. Larger values lose their last bits and come back nearly.
    """
    step = 2.0 ** (-40 if values.dtype == torch.float64 else -16)
    return (values / step).round_() * step


class _Coupled(torch.autograd.Function):
    """All blocks at once, keeping the last two halves alone, and the states before.

    The states after are put into `after`: they carry no gradient.
    """

    @staticmethod
    def forward(
        context: Any,
        changes: list[nn.Module],
        add: Add,
        states: tuple[Any, ...],
        after: list[Any],
        first: Tensor,
        second: Tensor,
        *weights: Tensor,
    ) -> tuple[Tensor, Tensor]:
        first, second = on_grid(first), on_grid(second)
        for change, state in zip(changes, states, strict=True):
            added, state = add(change, second, state)
            after.append(state)
            # The half that was changed is looked at next.
            first, second = second, first + on_grid(added.to(first.dtype))
        context.changes, context.add, context.states = changes, add, states
        kind = first.device.type
        context.autocast = torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)
        context.save_for_backward(first, second)
        return first, second

    @staticmethod
    @once_differentiable
    def backward(context: Any, d_first: Tensor, d_second: Tensor) -> tuple[Tensor | None, ...]:
        first, second = context.saved_tensors
        enabled, dtype = context.autocast
        by_change = []
        for change, state in zip(reversed(context.changes), reversed(context.states), strict=True):
            weights = list(change.parameters())
            with torch.enable_grad(), torch.autocast(first.device.type, dtype, enabled=enabled):
                seen = first.detach().requires_grad_()
                added = context.add(change, seen, state)[0].to(first.dtype)
            d_seen, *d_weights = torch.autograd.grad(added, [seen, *weights], d_second)
            first, second = second - on_grid(added.detach()), first
            d_first, d_second = d_second, d_first + d_seen
            by_change.append(d_weights)
        d_all = [d for d_weights in reversed(by_change) for d in d_weights]
        return None, None, None, None, d_first, d_second, *d_all
