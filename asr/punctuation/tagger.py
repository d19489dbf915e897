"""A tagger of words: the mark behind each, and its case."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.errors import ConfigError
from asr.models.cells import CELLS
from asr.models.layers import Recurrent, VariationalDropout
from asr.punctuation.labels import CASES, KEYS, MARKS, UNKNOWN_CASE


@dataclass(frozen=True)
class TaggerConfig:
    """Size of the network.

    rows: of the table that words are hashed into, `embedding` numbers each; cell: one of
    `asr.models.cells.CELLS`, `layers` of `hidden_size` in each direction. dropout: before each
    layer and at the end.
    """

    rows: int = 16384
    embedding: int = 64
    cell: str = "lstm"
    hidden_size: int = 128
    layers: int = 2
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ConfigError(f"cell is {self.cell!r}", f"one of {', '.join(CELLS)}")
        if min(self.rows, self.embedding, self.hidden_size, self.layers) < 1:
            raise ConfigError("sizes and layers of the tagger are at least 1")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}", "it is in [0, 1)")


class Tagger(nn.Module):
    """Bidirectional recurrent layers over words, each the sum of `KEYS` rows of a table."""

    def __init__(self, config: TaggerConfig):
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.rows, config.embedding)
        nn.init.normal_(self.table.weight, std=(KEYS * config.embedding) ** -0.5)
        self.layers = nn.ModuleList()
        size = config.embedding
        for _ in range(config.layers):
            layer = Recurrent(config.cell, size, config.hidden_size)
            self.layers.append(layer)
            size = layer.output_size
        self.dropout = VariationalDropout(config.dropout)
        self.output = nn.Linear(size, len(MARKS) + len(CASES))

    def forward(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, U, KEYS), (B,) -> log-probabilities of marks (B, U, marks), of cases (B, U, cases).

        What is beyond a text's length means nothing.
        """
        hidden = self.table(rows).sum(dim=2).transpose(0, 1)
        for layer in self.layers:
            hidden = layer(self.dropout(hidden), lengths)
        logits = self.output(self.dropout(hidden)).transpose(0, 1).float()
        marks, cases = logits.split([len(MARKS), len(CASES)], dim=-1)
        return torch.log_softmax(marks, dim=-1), torch.log_softmax(cases, dim=-1)

    def loss(self, rows: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Sum of -ln p over the marks and cases `labels` (B, U, 2); UNKNOWN_CASE counts nothing."""
        log_probs = self(rows, lengths)
        return sum(
            (
                functional.nll_loss(
                    scores.flatten(0, 1),
                    labels[..., i].flatten(),
                    ignore_index=UNKNOWN_CASE,
                    reduction="sum",
                )
                for i, scores in enumerate(log_probs)
            ),
            start=rows.new_zeros((), dtype=torch.float32),
        )
