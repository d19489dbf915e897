"""Training of what reads symbols or words: batches, checkpoints, exact resume.

As in `asr.train.loop` a step is a function of (weights, seed, step): batches come from (seed,
epoch), dropout from (seed, step, rank). Two thousand steps and two thousand more are four thousand.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from asr.config import to_dict
from asr.data.sampler import BucketSampler
from asr.errors import TrainingError
from asr.files import replacing
from asr.models.language import LanguageModel
from asr.models.punctuation import Tagger
from asr.train import checkpoint
from asr.train.config import OptimizerConfig, SequenceTrainerConfig
from asr.train.device import choose_device
from asr.train.distributed import Processes
from asr.train.log import RunLog
from asr.train.loop import BEST, LAST
from asr.train.optimization import learning_rate, make_optimizer
from asr.train.runs import check_run, claimed
from asr.train.signals import stopping

# Settings that may change when a run goes on; any other change makes it another run.
MAY_CHANGE = {
    "run",
    "trainer.steps",
    "trainer.patience",
    "trainer.checkpoint_minutes",
    "trainer.log_steps",
}
_MAX_BAD_STEPS = 20


@dataclass
class State:
    """Where a run is: `losses` are nats a symbol of the dev text, one for each look at it."""

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    bad_steps: int = 0
    seconds: float = 0.0
    losses: list[float] = dataclasses.field(default_factory=list)


class Examples(Protocol):
    """Text to train on: `lengths` are the symbols of each example that count in the loss."""

    @property
    def lengths(self) -> list[int]: ...

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, ...]: ...


class RunConfig(Protocol):
    """What a run of any kind is told: see `asr.train.config`."""

    @property
    def run(self) -> str: ...
    @property
    def optimizer(self) -> OptimizerConfig: ...
    @property
    def trainer(self) -> SequenceTrainerConfig: ...


class SequenceTrainer:
    """Trains one network; `fit` returns when the run is over or was asked to stop.

    Args:
        model: whose `loss` takes what `Examples.batch` gives, and returns the sum of -ln p.
        symbols: which the network was made for; a run of others is another run.
        batch_symbols: in a batch, padding included.
        inputs: the files that the run learns from, and their digests.
        description: what an export needs besides the weights.

    Raises TrainingError if the folder holds another run, or the weights to start from do not fit.
    """

    description_file: str

    unit = "symbol"  # what is counted

    def __init__(
        self,
        config: RunConfig,
        model: LanguageModel | Tagger,
        symbols: Sequence[str],
        train: Examples,
        dev: Examples,
        batch_symbols: int,
        inputs: Mapping[str, str],
        description: Mapping[str, Any],
    ):
        self.config = config
        self.folder = Path(config.run)
        self.device = choose_device(config.trainer)
        self.processes = Processes(self.device)
        self.model = model.to(self.device)
        self.symbols = list(symbols)
        self.optimizer = make_optimizer(model.parameters(), config.optimizer)
        self.state = State()
        self.log = RunLog(self.folder, self.processes.is_main)
        self._train, self._dev, self._batch_symbols = train, dev, batch_symbols
        self._inputs, self._description = inputs, description
        self._sampler = self._batches(train, shuffle=True)
        self._stop = False
        init = config.trainer.init
        if not self.may_go_on() and init is not None:
            self._start_from(Path(init))

    def fit(self) -> State:
        with claimed(self.folder) if self.processes.is_main else nullcontext():
            self._begin()
            return self._fit()

    def _begin(self) -> None:
        if self.may_go_on():
            self.resume()
        if self.processes.is_main:
            with replacing(self.folder / self.description_file) as temporary:
                temporary.write_text(json.dumps(self._description, indent=1), encoding="utf-8")
        self.log.open()

    def may_go_on(self) -> bool:
        """Whether the folder holds this run already; raises TrainingError if it holds another."""
        return check_run(self.folder, self.config, self.symbols, self._inputs, MAY_CHANGE)

    def _fit(self) -> State:
        trainer, state = self.config.trainer, self.state
        self.log.say(
            f"{sum(p.numel() for p in self.model.parameters()):,} parameters, {self.describe()}, "
            f"{len(self._sampler)} steps an epoch"
        )
        batches, started = self._endless(), time.monotonic()
        seen, saved = 0, time.monotonic()
        with stopping(self._ask_to_stop):
            while state.step < trainer.steps and not self._stop and not self._converged():
                step_started = time.monotonic()
                together = itertools.islice(batches, self.config.optimizer.accumulate)
                values, symbols = self._step(list(together))
                seen += symbols
                state.seconds += time.monotonic() - step_started
                if state.step % trainer.log_steps == 0:
                    rate = seen / (time.monotonic() - started)
                    self.log.write("train", state.step, **values, symbols_per_second=rate)
                    seen, started = 0, time.monotonic()
                if state.step % trainer.evaluate_steps == 0 or state.step == trainer.steps:
                    self._look_at_dev()
                    saved = time.monotonic()
                elif self._stop or time.monotonic() - saved > 60 * trainer.checkpoint_minutes:
                    self._save(LAST)
                    saved = time.monotonic()
        self.processes.wait()
        self.log.close()
        self.processes.close()
        return state

    def describe(self) -> str:
        """What there is to learn from."""
        lengths = self._train.lengths
        return f"{sum(lengths):,} {self.unit}s in {len(lengths):,} sequences"

    def figures(self, loss: float) -> dict[str, float]:
        """What the log says about the dev text."""
        return {"loss": loss}

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        tensors, metadata = checkpoint.load(self.folder / LAST)
        self.model.load_state_dict(checkpoint.select(tensors, "model."))
        checkpoint.unpack_optimizer(self.optimizer, tensors)
        for name, value in metadata["state"].items():
            setattr(self.state, name, value)
        self.log.say(f"resumed at step {self.state.step}")

    def evaluate(self) -> float:
        """Nats a symbol of the dev text."""
        self.model.eval()
        total, count = torch.zeros((), dtype=torch.float64), 0
        with torch.inference_mode(), self._autocast():
            for chosen in self._batches(self._dev, shuffle=False):
                loss, n_symbols = self._loss(self._dev, chosen)
                total += loss.cpu().double()
                count += n_symbols
        self.model.train()
        sums = self.processes.sum(torch.tensor([float(total), count], dtype=torch.float64))
        return float(sums[0] / sums[1])

    def _ask_to_stop(self) -> None:
        self._stop = True
        self.log.say("stopping after this step; the same command goes on from here")

    def _start_from(self, path: Path) -> None:
        tensors, metadata = checkpoint.load(path)
        if metadata.get("vocabulary") != self.symbols:
            raise TrainingError(
                f"{path}: weights of another vocabulary",
                "start from those in the folder of a run, beside the file that lists its symbols",
            )
        self.model.load_state_dict(checkpoint.select(tensors, "model.") or tensors)
        self.log.say(f"started from {path}")

    def _loss(self, examples: Examples, chosen: list[tuple[int, int]]) -> tuple[Tensor, int]:
        """The summed loss of some examples, and their symbols."""
        indices = [index for _, index in chosen]
        batch = (tensor.to(self.device) for tensor in examples.batch(indices))
        lengths = examples.lengths
        return self.model.loss(*batch), sum(lengths[i] for i in indices)

    def _batches(self, examples: Examples, shuffle: bool) -> BucketSampler:
        return BucketSampler(
            examples.lengths,
            self._batch_symbols,
            seed=self.config.trainer.seed,
            shuffle=shuffle,
            rank=self.processes.rank,
            world_size=self.processes.world_size,
        )

    def _endless(self) -> Iterator[list[tuple[int, int]]]:
        state = self.state
        while True:
            self._sampler.set_epoch(state.epoch, state.step_in_epoch)
            for chosen in self._sampler:
                state.step_in_epoch += 1
                yield chosen
            state.epoch, state.step_in_epoch = state.epoch + 1, 0

    def _step(self, together: list[list[tuple[int, int]]]) -> tuple[dict[str, float], int]:
        """One update of all processes together; what the log says of it, and symbols seen here."""
        state, config = self.state, self.config
        torch.manual_seed(hash((config.trainer.seed, state.step, self.processes.rank)))
        self.optimizer.zero_grad(set_to_none=True)
        loss_here, n_symbols = 0.0, 0
        for chosen in filter(None, together):
            with self._autocast():
                loss, n_here = self._loss(self._train, chosen)
            loss.backward()
            loss_here += float(loss.detach())
            n_symbols += n_here
        by_symbols = config.optimizer.average_over == "symbols"
        count = n_symbols if by_symbols else sum(map(len, together))
        extra = torch.tensor([loss_here, n_symbols, count, float(self._stop)])
        parameters = list(self.model.parameters())
        extra = self.processes.sum_gradients(parameters, extra)
        loss_sum, all_symbols, total, stop = extra.tolist()
        self._stop = stop > 0
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(total)
        if config.optimizer.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, config.optimizer.clip_value)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.optimizer.clip))
        steps = config.trainer.steps
        rate = learning_rate(state.step, steps, config.optimizer, state.losses)
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            state.bad_steps = 0
        else:
            self._skip_bad_step(norm)
        state.step += 1
        values = {"loss": loss_sum / all_symbols, "gradient_norm": norm, "rate": rate}
        return values, n_symbols

    def _skip_bad_step(self, norm: float) -> None:
        self.state.bad_steps += 1
        self.log.say(f"gradient norm {norm} at step {self.state.step}: step skipped")
        if self.state.bad_steps >= _MAX_BAD_STEPS:
            raise TrainingError(
                f"{_MAX_BAD_STEPS} steps in a row without a finite gradient",
                "lower optimizer.learning_rate or optimizer.clip, or use trainer.precision=fp32",
            )

    def _look_at_dev(self) -> None:
        state = self.state
        loss = self.evaluate()
        state.losses.append(loss)
        self.log.write("dev", state.step, **self.figures(loss))
        further = "".join(f", {k} {v:.2f}" for k, v in self.figures(loss).items() if k != "loss")
        self.log.say(
            f"step {state.step}: dev {loss:.4f} nats a {self.unit}{further} "
            f"after {state.seconds / 3600:.2f} h"
        )
        if loss <= min(state.losses):
            self._save(BEST)
        self._save(LAST)

    def _converged(self) -> bool:
        losses = self.state.losses
        return bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= (
            self.config.trainer.patience
        )

    def _save(self, name: str) -> None:
        if not self.processes.is_main:
            return
        weights = self.model.state_dict()
        tensors: dict[str, Tensor] = dict(weights)
        if name == LAST:
            tensors = checkpoint.prefixed("model.", weights)
            tensors |= checkpoint.pack_optimizer(self.optimizer)
        metadata: dict[str, Any] = {
            "config": to_dict(self.config),
            "vocabulary": self.symbols,
            "inputs": dict(self._inputs),
            "state": dataclasses.asdict(self.state),
        }
        checkpoint.save(self.folder / name, tensors, metadata)

    def _autocast(self) -> torch.autocast:
        enabled = self.config.trainer.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=enabled)


def load_best(run: Path) -> dict[str, Tensor]:
    """The best weights of a run so far."""
    if (run / BEST).exists():
        return checkpoint.load(run / BEST)[0]
    return checkpoint.select(checkpoint.load(run / LAST)[0], "model.")
