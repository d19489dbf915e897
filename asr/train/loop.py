"""The training loop of every task: updates, evaluation, checkpoints, early stopping.

An update is a function of (weights, seed, step): batches come from (seed, epoch), augmentation from
(seed, epoch, utterance), dropout from (seed, step, rank). So a resumed run equals one that was
never interrupted, to the bit on a CPU.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asr.config import to_dict
from asr.errors import TrainingError
from asr.train import checkpoint
from asr.train.checkpoint import BEST, LAST
from asr.train.course import State, make_course
from asr.train.device import lacks_bfloat16
from asr.train.log import Meter, RunLog
from asr.train.optimization import learning_rate
from asr.train.runs import check_run, claimed
from asr.train.task import Batch, Task


class MovingAverage:
    """Of all weights and buffers of `model`; `decay` 0 follows the weights, None keeps none."""

    def __init__(self, model: nn.Module, decay: float | None):
        self._model, self._decay = model, decay
        self.weights: dict[str, Tensor] = {}
        self.restart()

    def restart(self) -> None:
        """Begin with the weights as they are."""
        if self._decay is not None:
            self.weights = {k: v.clone() for k, v in self._model.state_dict().items()}

    def load(self, weights: Mapping[str, Tensor], device: torch.device) -> None:
        self.weights = {name: tensor.to(device) for name, tensor in weights.items()}

    def update(self, step: int) -> None:
        """Take in the weights after the update with the number `step`, from 0."""
        if self._decay is None:
            return
        # A short memory at first, so that the random start is forgotten.
        decay = min(self._decay, (1 + step) / (10 + step))
        current = self._model.state_dict()
        names = list(current)
        averages = [self.weights[name] for name in names]
        torch._foreach_lerp_(averages, [current[name] for name in names], 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the model has the averaged weights."""
        if not self._decay:
            yield
            return
        current = {k: v.clone() for k, v in self._model.state_dict().items()}
        self._model.load_state_dict(self.weights)
        try:
            yield
        finally:
            self._model.load_state_dict(current)


@contextmanager
def stopping(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` when the process is asked to end, instead of ending it at once."""
    before = {s: signal.signal(s, lambda *_: stop()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_MAX_BAD_STEPS, _MAX_NAMES = 20, 8


class Trainer:
    """Trains the model of one task in the folder `config.run`.

    config: a configuration of `asr.train.config`. Raises TrainingError if the folder holds another
    run.
    """

    def __init__(self, task: Task, config: Any, log: RunLog):
        self.task, self.config, self.log = task, config, log
        self.folder = Path(config.run)
        self.model, self.processes = task.model, task.processes
        self.course = make_course(config, task.sampler)
        self.optimizer = task.make_optimizer()
        fp16 = config.trainer.precision == "fp16"
        self.scaler = torch.amp.GradScaler(self.processes.device.type, enabled=fp16)
        self.state = State()
        self.average = MovingAverage(self.model, self.course.ema)
        self._asked_to_stop = self._agreed_to_stop = False
        self._lap_began = time.monotonic()
        check_run(self.folder, config, task.symbols, task.inputs)

    def fit(self, stop: Callable[[State], bool] = lambda state: False) -> State:
        """Train from the last checkpoint, if there is one, until the run is over or is to stop.

        After each evaluation `stop` may end the run without a result. Raises TrainingError if
        another process trains in the same folder.
        """
        main = self.processes.is_main
        with claimed(self.folder) if main else nullcontext(), stopping(self.stop):
            if check_run(self.folder, self.config, self.task.symbols, self.task.inputs):
                self.resume()
            fits = self.task.check_memory()
            if main:
                self.task.describe()
            self.log.open()
            if fits:
                self.log.info(fits)
            self.log.info(self._summary())
            self._lap()
            while not self.interrupted and not self.course.is_over(self.state):
                self._train()
                if self.interrupted:
                    break
                self._evaluate()
                if stop(self.state):
                    break
            if main and self.course.average and self.course.is_over(self.state):
                self._average_best()
            self.processes.wait()
            self.log.close()
        self.processes.close()
        return self.state

    def stop(self) -> None:
        """End the run after the update in progress, with a checkpoint."""
        self._asked_to_stop = True
        self.log.info("stopping after this step; the same command resumes the run")

    @property
    def interrupted(self) -> bool:
        """Whether the run was asked to stop; of several processes, when all of them know."""
        alone = self.processes.world_size == 1
        return self._asked_to_stop if alone else self._agreed_to_stop

    def update(self, batches: Sequence[Batch]) -> dict[str, float]:
        """One update of the weights, and its figures for the log.

        Gradients and counts add up over `batches` and over all processes, so that the update is
        that of one process on one joined batch.
        """
        state, settings, task = self.state, self.config.optimizer, self.task
        total_steps = self.course.total_steps(state)
        rate = learning_rate(state.step, total_steps, settings, [s for s, _ in state.scores])
        torch.manual_seed(hash((self.config.trainer.seed, state.step, self.processes.rank)))
        self.optimizer.zero_grad(set_to_none=True)
        with task.perturbed(state.step, state.phase):
            losses = [task.backward(batch, self.scaler) for batch in batches if len(batch)]
        by_symbols = settings.average_over == "symbols"
        counts = [
            sum(float(loss.value.detach()) for loss in losses),
            sum(loss.symbols if by_symbols else loss.examples for loss in losses),
            sum(loss.symbols for loss in losses),
            sum(loss.examples / loss.views for loss in losses),
            float(self._asked_to_stop),
            self._lap() if self.processes.is_main else 0.0,  # all processes go by one clock
        ]
        parameters = task.parameters()
        sums = self.processes.sum_gradients(parameters, torch.tensor(counts)).tolist()
        loss, total, symbols, examples, stop, seconds = sums
        self._agreed_to_stop = stop > 0
        self.scaler.unscale_(self.optimizer)
        values = task.add_gradients(examples, state.phase)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(max(total, 1.0))
        if settings.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, settings.clip_value)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.clip))
        if math.isfinite(norm) and examples:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with task.stepping():
                self.scaler.step(self.optimizer)
            self.average.update(state.step)
            state.bad_steps = 0
        else:
            self._skip_step(batches, f"gradient norm {norm}" if examples else "no recording")
        self.scaler.update()
        state.step += 1
        task.after_update(state.step, total_steps, self.average.weights)
        state.seconds += seconds
        means = {k: sum(x.values[k] for x in losses) / max(len(losses), 1) for k in task.logged}
        figures = {"loss": loss / max(symbols, 1.0), "gradient_norm": norm, "rate": rate}
        return {**figures, **means, **values}

    def save(self, name: str = LAST) -> None:
        """Write the state of the run to LAST, or the weights alone to another file."""
        if not self.processes.is_main:
            return
        tensors: dict[str, Tensor] = self.model.state_dict()
        if name == LAST:
            tensors = {
                **checkpoint.prefixed("model.", tensors),
                **checkpoint.prefixed("ema.", self.average.weights),
                **self.task.state_dict(),
                **checkpoint.pack_optimizer(self.optimizer),
            }
        checkpoint.save(self.folder / name, tensors, self._metadata())

    def resume(self) -> None:
        """Read the state of the run from its last checkpoint."""
        tensors, metadata = checkpoint.load(self.folder / LAST)
        self.model.load_state_dict(checkpoint.select(tensors, "model."))
        self.average.load(checkpoint.select(tensors, "ema."), self.processes.device)
        self.task.load_state_dict(tensors)
        checkpoint.unpack_optimizer(self.optimizer, tensors)
        self.scaler.load_state_dict(metadata.get("scaler", {}))
        self.state = State.read(metadata["state"])
        self.log.info(f"resumed at epoch {self.state.epoch + 1}, step {self.state.step}")

    def _lap(self) -> float:
        """Seconds since the last call."""
        began, self._lap_began = self._lap_began, time.monotonic()
        return self._lap_began - began

    def _summary(self) -> str:
        size = sum(p.numel() for p in self.model.parameters())
        processes = f"{self.processes.world_size} process(es) on {self.processes.device}"
        steps = f"{len(self.task.sampler)} steps an epoch"
        padding = f"padding {self.task.sampler.padding():.1%}"
        lacks = lacks_bfloat16(self.config.trainer, self.processes.device)
        precision = ", in fp32: this CPU has no bfloat16" if lacks else ""
        return f"{size:,} parameters, {steps}, {padding}, {processes}{precision}"

    def _train(self) -> None:
        """Updates until an evaluation is due, or the run is asked to stop."""
        state, settings = self.state, self.config.trainer
        self.task.sampler.set_epoch(state.epoch, state.step_in_epoch)
        n_batches, together = len(self.task.sampler), self.config.optimizer.accumulate
        self.log.start_epoch(state.epoch, state.step_in_epoch, n_batches, self.task.unit)
        self.model.train()
        meter, saved = Meter(self.task.unit), time.monotonic()
        batches = self._batches()
        while not self.course.evaluation_is_due(state):
            with meter.waiting():
                chosen = list(itertools.islice(batches, together))
            failures = [failure for batch in chosen for failure in batch.failures]
            for failure in failures:
                self.log.info(f"left out: {failure}")
            figures = self.update(chosen)
            rate = figures.pop("rate")
            meter.add(figures, sum(batch.n_units for batch in chosen), len(failures))
            self.log.advance(len(chosen), meter.units_per_second(), meter.loss())
            if state.step % settings.log_steps == 0:
                means = meter.flush()
                self.log.write("train", state.step, epoch=state.epoch, rate=rate, **means)
            minutes = (time.monotonic() - saved) / 60
            if self.interrupted or minutes > settings.checkpoint_minutes:
                self.save()
                saved = time.monotonic()
            if self.interrupted:
                break
        self.log.end_epoch()

    def _batches(self) -> Iterator[Batch]:
        """From where the run is: to the end of the epoch, or without an end."""
        state = self.state
        while True:
            for batch in self.task.batches():
                state.step_in_epoch += 1
                yield batch
            if not self.course.crosses_epochs:
                return
            state.epoch, state.step_in_epoch = state.epoch + 1, 0
            self.task.sampler.set_epoch(state.epoch)

    def _evaluate(self) -> None:
        """Evaluate on the dev set, keep what is good enough, and save."""
        state = self.state
        with self.average.applied():
            self.model.eval()
            with self.task.autocast():
                metrics = self.task.evaluate()
            weights = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.log.write("dev", state.step, epoch=state.epoch, **metrics)
        hours = f"after {state.seconds / 3600:.2f} h"
        self.log.info(
            f"{self.course.label(state)}: dev {self.task.format_metrics(metrics)} {hours}"
        )
        if self.task.may_be_result():
            state.scores.append((self.task.score(metrics, state.phase), self.course.mark(state)))
            self._keep(weights, metrics)
        self.course.after_evaluation(state)
        first = state.phase < self.task.phases
        if first and self.course.has_converged(state) and not self.course.at_end(state):
            self._start_next_phase()
        self.save()

    def _keep(self, weights: dict[str, Tensor], metrics: Mapping[str, float]) -> None:
        """Keep the weights of the last evaluation, if they are among the best."""
        scores = self.state.scores
        score, mark = scores[-1]
        if not self.processes.is_main:
            return
        if not self.course.average:
            if score <= min(scores)[0]:
                self.save(BEST)
            return
        checkpoint.save(self._epoch_file(mark), weights, {"epoch": mark, **metrics})
        kept = {epoch for _, epoch in sorted(scores)[: self.course.average]}
        for _, epoch in scores:
            if epoch not in kept:
                self._epoch_file(epoch).unlink(missing_ok=True)

    def _start_next_phase(self) -> None:
        """Go back to the weights of the best score so far, with a new optimiser."""
        state = self.state
        score, epoch = min(state.scores)
        self.processes.wait()  # for the file of the last epoch
        weights, _ = checkpoint.load(self._epoch_file(epoch))
        self.model.load_state_dict(weights)
        self.average.restart()
        self.optimizer = self.task.make_optimizer()
        state.phase, state.scores = state.phase + 1, []
        self.log.info(f"phase {state.phase}: from epoch {epoch + 1}, dev score {score:.3f}")

    def _average_best(self) -> None:
        """Average the weights of the best epochs; the result is that or the best epoch."""
        state = self.state
        best = sorted(state.scores)[: self.course.average]
        paths = [self._epoch_file(epoch) for _, epoch in best if self._epoch_file(epoch).exists()]
        if not paths:
            return
        candidates = {"best epoch": checkpoint.load(paths[0])[0]}
        if len(paths) > 1:
            candidates[f"average of {len(paths)}"] = checkpoint.average(paths)
        results = {}
        for name, weights in candidates.items():
            self.model.load_state_dict(weights)
            self.model.eval()
            results[name] = self.task.evaluate(alone=True)
            self.log.info(f"{name}: dev {self.task.format_metrics(results[name])}")
        chosen = min(results, key=lambda name: self.task.score(results[name], state.phase))
        self.log.write("result", state.step, chosen=chosen, **results[chosen])
        metadata = {**self._metadata(), "chosen": chosen, **results[chosen]}
        checkpoint.save(self.folder / BEST, candidates[chosen], metadata)

    def _skip_step(self, batches: Sequence[Batch], problem: str) -> None:
        self.state.bad_steps += 1
        names = self.processes.gather([n for b in batches for n in self.task.bad_examples(b)])
        listed = ", ".join(names[:_MAX_NAMES]) + (" …" if len(names) > _MAX_NAMES else "")
        look = f"; look at {listed}" if listed else ""
        self.log.info(f"{problem} at step {self.state.step}: step skipped{look}")
        if self.state.bad_steps >= _MAX_BAD_STEPS:
            last = f"; the last: {listed}" if listed else ""
            raise TrainingError(
                f"{_MAX_BAD_STEPS} steps in a row without a finite gradient{last}",
                "lower optimizer.learning_rate or optimizer.clip, or use trainer.precision=fp32",
            )

    def _metadata(self) -> dict[str, Any]:
        return {
            "config": to_dict(self.config),
            "vocabulary": list(self.task.symbols),
            "inputs": dict(self.task.inputs),
            "state": dataclasses.asdict(self.state),
            "scaler": self.scaler.state_dict(),
            "torch": torch.__version__,
        }

    def _epoch_file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch + 1:03d}.safetensors"
