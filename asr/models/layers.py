"""Building blocks of recurrent encoders. Everything here is time first: (T frames, B batch, C)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from asr.models.cells import CELLS, recurrent_weight

MIN_DEVIATION = 1e-5  # of an utterance that is all the same


class LayeredEncoder(nn.Module, ABC):
    """What all encoders are from outside. `output_size` columns come out of every layer."""

    output_size: int

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, input_size), lengths (B,) -> encoded (B, T', output_size), lengths (B,).

        Rows beyond an utterance's length mean nothing.
        """
        *_, (hidden, lengths) = self.layer_outputs(features, lengths)
        return hidden.transpose(0, 1), lengths

    @abstractmethod
    def layer_outputs(self, features: Tensor, lengths: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Features (B, T, input_size), lengths (B,) -> after each layer (T', B, C), (B,).

        Heads of lower layers read them; what is not asked for is not computed.
        """


def normalise_utterances(sequences: Tensor, lengths: Tensor) -> Tensor:
    """(T, B, C), (B,) -> the same with mean 0 and standard deviation 1 over all values of each
    utterance; padding becomes 0. Silence stays silent.
    """
    lengths = lengths.to(sequences.device)
    frames = torch.arange(len(sequences), device=sequences.device)
    inside = (frames[:, None] < lengths)[..., None]
    count = (lengths * sequences.shape[2])[:, None].to(sequences.dtype)
    mean = (sequences * inside).sum((0, 2))[:, None] / count
    deviations = (sequences - mean) * inside
    variance = deviations.square().sum((0, 2))[:, None] / (count - 1).clamp(min=1)
    return deviations / variance.sqrt().clamp(min=MIN_DEVIATION)


def reverse(sequences: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence of (T, B, C) within its own length; padding stays at the end."""
    frames = torch.arange(len(sequences), device=sequences.device)[:, None]
    lengths = lengths.to(sequences.device)[None, :]
    index = torch.where(frames < lengths, lengths - 1 - frames, frames)
    return sequences[index, torch.arange(sequences.shape[1], device=sequences.device)]


class Recurrent(nn.Module):
    """One layer of a cell of `asr.models.cells`, uni- or bidirectional, blind to the padding.

    The backward direction is a second forward cell over sequences that are reversed within their
    own lengths. For LSTMs that equals `pack_padded_sequence`, but keeps whole batches of equal
    shape, for which torch has its fast CPU kernels (oneDNN): three times as fast in training.
    Parameters are named after direction and cell: `forward_lstm.weight_ih_l0`.

    `dropout` hides cells from the next frame, the same ones at every frame (Gal & Ghahramani 2016).
    To hide a cell is to drop its column of the recurrent weights, which leaves the kernels as they
    are; therefore the whole batch has one mask.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        bidirectional: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.hidden_size, self.dropout = hidden_size, dropout
        self.output_size = hidden_size * (2 if bidirectional else 1)
        for direction in ("forward", "backward") if bidirectional else ("forward",):
            self.add_module(f"{direction}_{cell}", CELLS[cell](input_size, hidden_size))

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """(T, B, input_size), (B,) -> (T, B, output_size)."""
        forward_cell, *backward_cell = self.children()
        forward, _ = _run(forward_cell, inputs, None, self.mask(inputs))
        if not backward_cell:
            return forward
        backward, _ = _run(backward_cell[0], reverse(inputs, lengths), None, self.mask(inputs))
        return torch.cat([forward, reverse(backward, lengths)], dim=-1)

    def forward_chunks(
        self,
        inputs: Tensor,
        lengths: Tensor,
        n_own: int,
        batch: int,
        state: Any,
        masks: Sequence[Tensor | None],
    ) -> tuple[Tensor, Any]:
        """Chunks of `n_own` frames and what follows each, as `split_chunks` lays them.

        (F, K * batch, input_size), (K * batch,) -> (F, K * batch, output_size), and the forward
        state after the last chunk. `state` is that before the first one; `masks` are those of the
        two directions.
        """
        forward_cell, *backward_cell = self.children()
        mask, backward_mask = masks
        outputs, states = [], []
        for own in inputs[:n_own].split(batch, dim=1):
            output, state = _run(forward_cell, own, state, mask)
            outputs.append(output)
            states.append(state)
        forward = torch.cat(outputs, dim=1)
        if len(inputs) > n_own:
            ahead, _ = _run(forward_cell, inputs[n_own:], side_by_side(states), mask)
            forward = torch.cat([forward, ahead])
        if not backward_cell:
            return forward, state
        backward, _ = _run(backward_cell[0], reverse(inputs, lengths), None, backward_mask)
        return torch.cat([forward, reverse(backward, lengths)], dim=-1), state

    def step(self, inputs: Tensor, state: Any, mask: Tensor | None) -> tuple[Tensor, Any]:
        """Continue a layer without a backward direction: more outputs, and the next state."""
        (cell,) = self.children()
        if not len(inputs):
            return inputs.new_zeros(0, inputs.shape[1], self.output_size), state
        return _run(cell, inputs, state, mask)

    def mask(self, inputs: Tensor) -> Tensor | None:
        """(hidden_size,): 0 for hidden cells, 1 / (1 - dropout) for the others."""
        if not self.training or not self.dropout:
            return None
        keep = 1 - self.dropout
        return inputs.new_empty(self.hidden_size).bernoulli_(keep) / keep


def _run(cell: nn.Module, inputs: Tensor, state: Any, mask: Tensor | None) -> tuple[Tensor, Any]:
    if mask is None:
        return cell(inputs, state)
    name = recurrent_weight(cell)
    assert name is not None
    return functional_call(cell, {name: cell.get_parameter(name) * mask}, (inputs, state))


class VariationalDropout(nn.Module):
    """Dropout whose mask is the same at every frame of a sequence (Gal & Ghahramani 2016)."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """(T, B, C) -> (T, B, C); by default with a new mask."""
        mask = self.mask(inputs) if mask is None else mask
        return inputs if mask is None else inputs * mask

    def mask(self, inputs: Tensor) -> Tensor | None:
        """(1, B, C): 0 or 1 / (1 - probability); None where nothing is dropped."""
        if not self.training or not self.probability:
            return None
        keep = 1 - self.probability
        return inputs.new_empty(1, *inputs.shape[1:]).bernoulli_(keep) / keep


def subsample(sequences: Tensor, lengths: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """Join `factor` neighbouring frames into one: (T, B, C) -> (ceil(T / factor), B, C * factor).

    A last group that is not full is filled with zeros, also where it is padding that follows, so
    that the batch an utterance is in makes no difference.
    """
    if factor == 1:
        return sequences, lengths
    n_frames, batch, channels = sequences.shape
    inside = torch.arange(n_frames, device=sequences.device)[:, None] < lengths.to(sequences.device)
    sequences = sequences * inside[..., None]
    sequences = nn.functional.pad(sequences, (0, 0, 0, 0, 0, -n_frames % factor))
    grouped = sequences.view(-1, factor, batch, channels).transpose(1, 2)
    return grouped.reshape(-1, batch, factor * channels), (lengths + factor - 1) // factor


class Waiting(NamedTuple):
    """Frames (R, B, C) whose group is not full yet, and how many belong to each sequence (B,)."""

    frames: Tensor
    n_frames: Tensor

    @classmethod
    def behind(cls, sequences: Tensor, lengths: Tensor, n_taken: int) -> Waiting:
        """What is left of sequences (T, B, C), (B,) when their first frames are taken."""
        return cls(sequences[n_taken:].clone(), (lengths - n_taken).clamp(min=0))

    def then(self, sequences: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """These frames and the next ones, (T, B, C) and (B,)."""
        return torch.cat([self.frames, sequences]), self.n_frames + lengths


def subsample_step(
    sequences: Tensor, lengths: Tensor, factor: int, waiting: Waiting | None, last: bool
) -> tuple[Tensor, Tensor, Waiting]:
    """`subsample` of the next frames of sequences, and what waits for those that follow.

    Nothing follows the `last` ones.
    """
    if waiting is not None:
        sequences, lengths = waiting.then(sequences, lengths)
    n_taken = len(sequences) if last else len(sequences) // factor * factor
    left = Waiting.behind(sequences, lengths, n_taken)
    grouped, n_grouped = subsample(sequences[:n_taken], lengths.clamp(max=n_taken), factor)
    return grouped, n_grouped, left


def detached(state: Any) -> Any:
    """The state of an encoder, tensors in tuples, through which nothing is back-propagated."""
    if isinstance(state, tuple):
        parts = map(detached, state)
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return state.detach() if isinstance(state, Tensor) else state


def split_chunks(
    sequences: Tensor, lengths: Tensor, chunk: int, right: int, n_chunks: int | None = None
) -> tuple[Tensor, Tensor]:
    """(T, B, C), (B,) -> chunks and what follows them (chunk + right, K * B, C), (K * B,).

    Latency-controlled recurrence: each chunk, with `right` frames behind it, goes through all
    layers by itself, so an output depends on everything before, and on `right` frames after its
    chunk, however many layers there are (Zhang et al. 2016, "Highway long short-term memory RNNs
    for distant speech recognition"; Xue & Yan 2017). Row `k * B + b` is chunk k of utterance b.

    The lengths are those within a chunk, 0 for chunks behind the end of their utterance. There are
    as many chunks as hold all frames, or the first `n_chunks`.
    """
    if n_chunks is None:
        n_chunks = max(1, -(-len(sequences) // chunk))
    sequences = sequences[: n_chunks * chunk + right]
    missing = n_chunks * chunk + right - len(sequences)
    padded = nn.functional.pad(sequences, (0, 0, 0, 0, 0, missing))
    chunks = padded.unfold(0, chunk + right, chunk)  # (K, B, C, chunk + right)
    begins = chunk * torch.arange(n_chunks, device=lengths.device)[:, None]
    left = (lengths - begins).clamp(0, chunk + right)
    return chunks.flatten(0, 1).permute(2, 0, 1), left.flatten()


def join_chunks(chunks: Tensor, batch: int) -> Tensor:
    """Chunks without what follows them (chunk, K * B, C) -> (K * chunk, B, C)."""
    return chunks.unflatten(1, (-1, batch)).transpose(0, 1).flatten(0, 1)


def side_by_side(states: list[Any]) -> Any:
    """The states of a cell before each chunk as one for the batch of all chunks."""
    if isinstance(states[0], tuple):
        return tuple(side_by_side([*parts]) for parts in zip(*states, strict=True))
    return torch.cat(states, dim=-2)  # (B, H), or (1, B, H) where torch's own cells want that
