"""An attention decoder: a head that spells the whole utterance, one symbol after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.decode.attention import Floats, beam_search
from asr.errors import ConfigError
from asr.models.cells import CELLS, run_cell, state_widths
from asr.models.heads import Head, uniform
from asr.models.language import BOUNDARY, SymbolConfig


@dataclass(frozen=True)
class AttentionConfig:
    """A recurrent decoder that looks at the encoder's rows (Chorowski et al. 2015, Chan et al.
    2016).

    decoder: its cells; `embedding` is needed, `projection` is of what predicts the next symbol.
    size: of the space in which rows and decoder are compared. location_filters,
    location_width: of the convolution over where it looked for the symbol before, so that it moves
    on from there; 0 filters leave it out. label_smoothing: the share of probability that training
    wants to see on all symbols alike.
    """

    decoder: SymbolConfig = field(
        default_factory=lambda: SymbolConfig(hidden_size=256, embedding=64, projection=256)
    )
    size: int = 128
    location_filters: int = 10
    location_width: int = 31
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.decoder.embedding is None:
            raise ConfigError("attention.decoder.embedding is null", "give it a size")
        if self.size < 1 or self.location_filters < 0 or self.location_width % 2 == 0:
            raise ConfigError(
                "attention.size is at least 1, location_filters at least 0, location_width odd"
            )


class AttentionHead(Head):
    """Listen, attend and spell, with attention that knows where it was.

    For each symbol: the cells read the symbol before and what was seen for it; their state s and
    the location features f of the last attention give energies v tanh(W s + V h + U f) over the
    rows h; the softmax over them weighs the rows into what is seen now; both predict the symbol.
    """

    per_frame = False

    def __init__(
        self, input_size: int, classes: int, config: AttentionConfig, init_range: float | None
    ):
        super().__init__()
        self.config, self.input_size, self.classes = config, input_size, classes
        decoder = config.decoder
        assert decoder.embedding is not None
        self.embedding = nn.Embedding(classes, decoder.embedding)
        self.cells = nn.ModuleList()
        size = decoder.embedding + input_size
        for _ in range(decoder.layers):
            self.cells.append(CELLS[decoder.cell](size, decoder.hidden_size))
            size = decoder.hidden_size
        self.keys = nn.Linear(input_size, config.size)
        self.query = nn.Linear(size, config.size, bias=False)
        self.energy = nn.Linear(config.size, 1, bias=False)
        if config.location_filters:
            width = config.location_width
            self.look_back = nn.Conv1d(
                1, config.location_filters, width, padding=width // 2, bias=False
            )
            self.location = nn.Linear(config.location_filters, config.size, bias=False)
        self.projection: nn.Module = nn.Identity()
        width = size + input_size
        if decoder.projection:
            self.projection = nn.Sequential(nn.Linear(width, decoder.projection), nn.Tanh())
            width = decoder.projection
        self.dropout = nn.Dropout(decoder.dropout)
        self.output = nn.Linear(width, classes)
        uniform(self, decoder.init_range if init_range is None else init_range)
        self.state_widths = [w for cell in self.cells for w in state_widths(cell)]

    @property
    def state_size(self) -> int:
        """Of the cells, and of what was seen last."""
        return sum(self.state_widths) + self.input_size

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> keys and the rows themselves, (B, T, size + C)."""
        return torch.cat([self.keys(hidden), hidden], dim=-1)

    def step(
        self, encoded: Tensor, inside: Tensor, symbols: Tensor, state: Tensor, looked: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One symbol further.

        Args:
            encoded: (B, T, size + C), `inside` (B, T) is True for what is no padding.
            symbols: (B,), the last ones; the boundary at first.
            state: (B, state_size), zeros at first.
            looked: (B, T), the attention for the last symbols, zeros at first.

        Returns logits (B, classes) of the next symbols, state, attention.
        """
        keys, rows = encoded.split([self.config.size, self.input_size], dim=-1)
        *states, seen = state.split([*self.state_widths, self.input_size], dim=1)
        hidden, after = torch.cat([self.embedding(symbols), seen], dim=1)[None], []
        for cell in self.cells:
            n_states = len(state_widths(cell))
            hidden, last = run_cell(cell, self.dropout(hidden), states[:n_states])
            states = states[n_states:]
            after += last
        compared = keys + self.query(hidden[0])[:, None]
        if self.config.location_filters:
            features = self.look_back(looked[:, None]).transpose(1, 2)
            compared = compared + self.location(features)
        energies = self.energy(torch.tanh(compared))[..., 0].float()
        attention = torch.softmax(energies.masked_fill(~inside, -math.inf), dim=1)
        seen = torch.bmm(attention[:, None].to(rows.dtype), rows)[:, 0]
        spelled = self.projection(self.dropout(torch.cat([hidden[0], seen], dim=1)))
        return self.output(spelled), torch.cat([*after, seen], dim=1), attention

    def spell(self, outputs: Tensor, lengths: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Led by the targets (B, U): logits (B, U + 1, classes), attention (B, U + 1, T).

        The last of a text's logits, at its length, are of its end. Padding beyond means nothing.
        """
        frames = torch.arange(outputs.shape[1], device=outputs.device)
        inside = frames[None, :] < lengths.to(outputs.device)[:, None]
        state = outputs.new_zeros(len(outputs), self.state_size, dtype=torch.float32)
        looked = outputs.new_zeros(inside.shape, dtype=torch.float32)
        logits, attention = [], []
        for symbols in functional.pad(targets, (1, 0), value=BOUNDARY).unbind(dim=1):
            found, state, looked = self.step(outputs, inside, symbols, state, looked)
            logits.append(found)
            attention.append(looked)
        return torch.stack(logits, dim=1), torch.stack(attention, dim=1)

    def losses(
        self, outputs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """See `Head.losses`; the end of each target included."""
        logits, _ = self.spell(outputs, lengths, targets[:, : int(target_lengths.max())])
        n_symbols = target_lengths.to(outputs.device)[:, None]
        positions = torch.arange(logits.shape[1], device=outputs.device)[None, :]
        wanted = functional.pad(targets[:, : logits.shape[1] - 1], (0, 1), value=BOUNDARY)
        wanted = torch.where(positions < n_symbols, wanted, BOUNDARY)
        losses = functional.cross_entropy(
            logits.float().transpose(1, 2),
            wanted,
            reduction="none",
            label_smoothing=self.config.label_smoothing if self.training else 0.0,
        )
        return (losses * (positions <= n_symbols)).sum(dim=1)

    @torch.inference_mode()
    def decode(self, outputs: Tensor, lengths: Tensor) -> list[list[int]]:
        """See `Head.decode`."""
        steps, rows = TorchAttention(self), outputs.float().cpu().numpy()
        return [
            list(beam_search(steps, row[:n], beam=1)[0].symbols)
            for row, n in zip(rows, lengths.tolist(), strict=True)
        ]


class TorchAttention:
    """An attention head as the search wants it (`asr.decode.attention.AttentionSteps`)."""

    def __init__(self, head: AttentionHead):
        self._head = head
        self._device = head.output.weight.device

    def start(self, n_rows: int) -> tuple[Floats, Floats]:
        state = np.zeros((1, self._head.state_size), np.float32)
        return state, np.zeros((1, n_rows), np.float32)

    def step(
        self, encoded: Floats, symbols: np.ndarray, states: Floats, looked: Floats
    ) -> tuple[Floats, Floats, Floats]:
        with torch.inference_mode():
            rows = self._tensor(encoded)[None].expand(len(symbols), -1, -1)
            inside = torch.ones(rows.shape[:2], dtype=torch.bool, device=self._device)
            inputs = map(self._tensor, (symbols, states, looked))
            logits, *after = self._head.step(rows, inside, *inputs)
            found = [torch.log_softmax(logits.float(), dim=-1), *after]
        log_probs, states_after, attention = (tensor.float().cpu().numpy() for tensor in found)
        return log_probs, states_after, attention

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
