"""The recurrent neural network transducer: a head that knows what it has emitted (Graves 2012)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from asr import packages
from asr.decode.transducer import Floats, greedy
from asr.errors import ConfigError
from asr.models.heads import Head, uniform
from asr.models.language import BOUNDARY, SymbolConfig, SymbolNetwork


@dataclass(frozen=True)
class TransducerConfig:
    """A prediction network over the symbols so far, and how it is joined with the encoder.

    joiner: `sum` adds one vector of logits from each (Graves 2012); `graves2013` is a hidden layer
    of `size` over both, below which the encoder's rows go through a linear layer of the same size
    (Graves et al. 2013, section 3.2); `tanh` is that without the linear layer, now the usual one.
    most_symbols: that greedy decoding may emit in one frame.
    """

    prediction: SymbolConfig = field(
        default_factory=lambda: SymbolConfig(hidden_size=250, embedding=None)
    )
    joiner: Literal["sum", "graves2013", "tanh"] = "tanh"
    size: int = 250
    most_symbols: int = 10

    def __post_init__(self) -> None:
        if self.size < 1 or self.most_symbols < 1:
            raise ConfigError("transducer.size and transducer.most_symbols are at least 1")


class TransducerHead(Head):
    """Rows of the encoder are brought to the joiner's width once; the rest depends on symbols."""

    per_frame = False

    def __init__(
        self, input_size: int, classes: int, config: TransducerConfig, init_range: float | None
    ):
        super().__init__()
        self.config = config
        self.prediction = SymbolNetwork(classes, config.prediction)
        self.width = classes if config.joiner == "sum" else config.size
        if config.joiner == "graves2013":
            self.linear: nn.Module = nn.Linear(input_size, config.size)
            input_size = config.size
        else:
            self.linear = nn.Identity()
        self.from_encoder = nn.Linear(input_size, self.width)
        self.from_prediction = nn.Linear(self.prediction.output_size, self.width, bias=False)
        self.output = nn.Identity() if config.joiner == "sum" else nn.Linear(self.width, classes)
        uniform(self, init_range)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, C) -> what the joiner sees of it, (B, T, J)."""
        return self.from_encoder(self.linear(hidden))

    def predict(self, symbols: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `TransducerSteps.predict`."""
        hidden, state = self.prediction(symbols[None], state)
        return self.from_prediction(hidden[0]), state

    def join(self, encoded: Tensor, predicted: Tensor) -> Tensor:
        """Rows (…, J) of both, which must broadcast -> logits (…, classes)."""
        joined = encoded + predicted
        return joined if self.config.joiner == "sum" else self.output(torch.tanh(joined))

    def logits(self, encoded: Tensor, targets: Tensor) -> Tensor:
        """(B, T, J), (B, U) -> (B, T, U + 1, classes), as `torchaudio.functional.rnnt_loss`."""
        inputs = functional.pad(targets, (1, 0), value=BOUNDARY).T
        predicted, _ = self.prediction(inputs)
        predicted = self.from_prediction(predicted).transpose(0, 1)
        return self.join(encoded[:, :, None], predicted[:, None])

    def losses(
        self, outputs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> Tensor:
        """See `Head.losses`; -ln of the sum over all ways to emit the target."""
        rnnt_loss = packages.load("torchaudio", "torchaudio.functional").rnnt_loss

        # Its tensors may not be longer than the longest of the batch, nor have gaps.
        outputs = outputs[:, : int(lengths.max())]
        targets = targets[:, : int(target_lengths.max())]
        lengths, target_lengths = lengths.to(outputs.device), target_lengths.to(outputs.device)
        logits = self.logits(outputs, targets).float()
        if not targets.shape[1]:  # only silence, of which there is one way, and no loss there
            blanks = torch.log_softmax(logits[:, :, 0], dim=-1)[..., BOUNDARY]
            frames = torch.arange(blanks.shape[1], device=blanks.device)
            return -(blanks * (frames < lengths[:, None])).sum(dim=1)
        return rnnt_loss(
            logits.contiguous(),
            targets.int().contiguous(),
            lengths.int(),
            target_lengths.int(),
            blank=BOUNDARY,
            reduction="none",
        )

    @torch.inference_mode()
    def decode(self, outputs: Tensor, lengths: Tensor) -> list[list[int]]:
        """See `Head.decode`."""
        steps = TorchSteps(self)
        rows = outputs.float().cpu().numpy()
        return [
            list(greedy(steps, row[:n], self.config.most_symbols).symbols)
            for row, n in zip(rows, lengths.tolist(), strict=True)
        ]


class TorchSteps:
    """A transducer head as the search wants it (`asr.decode.transducer.TransducerSteps`)."""

    def __init__(self, head: TransducerHead):
        self._head = head
        self._device = next(head.parameters()).device

    def start(self) -> Floats:
        return np.zeros((1, self._head.prediction.state_size), np.float32)

    def predict(self, symbols: np.ndarray, states: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            rows, states_after = self._head.predict(self._tensor(symbols), self._tensor(states))
        return rows.float().cpu().numpy(), states_after.float().cpu().numpy()

    def join(self, encoded: Floats, predicted: Floats) -> Floats:
        with torch.inference_mode():
            logits = self._head.join(self._tensor(encoded), self._tensor(predicted))
        return torch.log_softmax(logits.float(), dim=-1).cpu().numpy()

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)
