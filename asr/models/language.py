"""Networks over symbols that have been said: language models, prediction networks, decoders.

Symbols are the classes of a `asr.text.vocabulary.Vocabulary`. Class 0, the blank of CTC, never
stands inside a text; here it is the boundary that begins and ends every sequence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.errors import ConfigError
from asr.models.cells import CELLS, run_cell, state_widths
from asr.models.layers import VariationalDropout

BOUNDARY = 0


@dataclass(frozen=True)
class SymbolConfig:
    """Size and shape of a network over symbols.

    cell: one of `asr.models.cells.CELLS`, `layers` of `hidden_size` each. embedding: numbers that
    stand for a symbol; None gives each an input of its own, and the boundary none (Graves 2012).
    projection: columns of a linear layer at the end. dropout: before each layer and at the
    end, with one mask for a whole sequence. init_range: weights drawn from U(-r, r).
    """

    cell: str = "lstm"
    hidden_size: int = 512
    layers: int = 1
    embedding: int | None = 256
    projection: int | None = None
    dropout: float = 0.0
    init_range: float | None = None

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ConfigError(f"cell is {self.cell!r}", f"one of {', '.join(CELLS)}")
        sizes = (self.hidden_size, self.layers, self.embedding or 1, self.projection or 1)
        if min(sizes) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError("sizes and layers are at least 1, dropout is in [0, 1)")


class SymbolNetwork(nn.Module):
    """Recurrent layers over symbols, from the boundary on: causal, and to be run step by step.

    A *state* is one row of numbers for each sequence, (B, state_size); zeros at the beginning.
    """

    def __init__(self, classes: int, config: SymbolConfig):
        super().__init__()
        self.classes, self.config = classes, config
        size = classes - 1
        if config.embedding is not None:
            size = config.embedding
            self.embedding = nn.Embedding(classes, size)
            nn.init.normal_(self.embedding.weight, std=1 / math.sqrt(size))
        self.cells = nn.ModuleList()
        for _ in range(config.layers):
            self.cells.append(CELLS[config.cell](size, config.hidden_size))
            size = config.hidden_size
        self.projection = nn.Linear(size, config.projection) if config.projection else nn.Identity()
        self.dropout = VariationalDropout(config.dropout)
        self.output_size = config.projection or size
        if config.init_range is not None:
            for parameter in self.parameters():
                nn.init.uniform_(parameter, -config.init_range, config.init_range)
        self.state_widths = [width for cell in self.cells for width in state_widths(cell)]

    @property
    def state_size(self) -> int:
        return sum(self.state_widths)

    def forward(self, symbols: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(T, B) integers [, (B, state_size)] -> after each symbol (T, B, output_size), state."""
        if state is None:
            state = self.start(symbols.shape[1])
        if self.config.embedding is not None:
            hidden = self.embedding(symbols)
        else:
            hidden = functional.one_hot(symbols, self.classes)[..., 1:].to(state.dtype)
        states = list(state.split(self.state_widths, dim=1))
        after = []
        for cell in self.cells:
            n_states = len(state_widths(cell))
            hidden, last = run_cell(cell, self.dropout(hidden), states[:n_states])
            del states[:n_states]
            after += last
        return self.dropout(self.projection(hidden)), torch.cat(after, dim=1)

    def start(self, batch: int) -> Tensor:
        """The state (batch, state_size) before anything was said."""
        parameter = next(self.parameters())
        return parameter.new_zeros(batch, self.state_size)


class LanguageModel(SymbolNetwork):
    """Predicts the next symbol, or the end, from all symbols before it (Mikolov et al. 2010).

    tied: the embedding is also the output layer's weight (Press & Wolf 2017).
    """

    def __init__(self, classes: int, config: SymbolConfig, tied: bool = False):
        super().__init__(classes, config)
        if tied and config.embedding != self.output_size:
            raise ConfigError(
                f"model.tied needs an embedding of the output's size, {self.output_size}",
                f"set model.projection={config.embedding}, or model.tied=false",
            )
        self.tied = tied
        self.output = nn.Linear(self.output_size, classes)
        if tied:  # the weight is looked up where it is used, so that it is stored once
            self.output.register_parameter("weight", None)
            nn.init.zeros_(self.output.bias)
        elif config.init_range is not None:
            for parameter in self.output.parameters():
                nn.init.uniform_(parameter, -config.init_range, config.init_range)

    @property
    def output_weight(self) -> Tensor:
        """(classes, output_size)."""
        return self.embedding.weight if self.tied else self.output.weight

    def log_probs(self, symbols: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `forward`, but log-probabilities (T, B, classes) of the symbol that follows each."""
        hidden, state = self(symbols, state)
        logits = functional.linear(hidden, self.output_weight, self.output.bias)
        return torch.log_softmax(logits.float(), dim=-1), state

    def loss(self, symbols: Tensor, lengths: Tensor) -> Tensor:
        """Sum of -ln p over the symbols (B, U) of sequences of `lengths` (B,), and over their ends.

        What is beyond a sequence's length means nothing.
        """
        padded = symbols.T
        inside = torch.arange(len(padded), device=symbols.device)[:, None]
        inside = inside < lengths.to(symbols.device)
        padded = torch.where(inside, padded, BOUNDARY)
        inputs = functional.pad(padded, (0, 0, 1, 0), value=BOUNDARY)
        targets = functional.pad(padded, (0, 0, 0, 1), value=BOUNDARY)
        counted = functional.pad(inside, (0, 0, 1, 0), value=True)
        hidden, _ = self(inputs)
        logits = functional.linear(hidden[counted], self.output_weight, self.output.bias)
        return functional.cross_entropy(logits.float(), targets[counted], reduction="sum")
