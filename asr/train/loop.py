"""The training loop: steps, epochs, checkpoints, early stopping, averaging.

A step is a function of (weights, seed, step): batches come from (seed, epoch), augmentation from
(seed, epoch, utterance), dropout from (seed, step, rank). That is why a resumed run equals one that
was never interrupted, to the bit on a CPU.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from asr.config import to_dict
from asr.data.dataset import Batch, SpeechDataset
from asr.errors import TrainingError
from asr.models.acoustic import AcousticModel
from asr.text.vocabulary import Vocabulary
from asr.train import checkpoint
from asr.train.checkpoint import BEST, LAST
from asr.train.config import TrainingConfig
from asr.train.crf import UnitTrigram
from asr.train.device import check_memory, choose_device
from asr.train.distributed import Processes
from asr.train.evaluation import count_errors
from asr.train.loading import make_loader, make_sampler
from asr.train.log import Meter, RunLog
from asr.train.losses import suspects, training_loss
from asr.train.noise import make_noise
from asr.train.optimization import learning_rate, make_optimizer
from asr.train.pruning import make_pruning
from asr.train.runs import check_run, claimed
from asr.train.signals import stopping
from asr.train.truncated import truncated_backward

# Settings that may change when a run goes on; any other change makes it another run.
MAY_CHANGE = {
    "run",
    "trainer.epochs",
    "trainer.patience",
    "trainer.average",
    "trainer.checkpoint_minutes",
    "trainer.log_steps",
    "data.workers",
    "data.cache",
    "data.spool",
}
_MAX_BAD_STEPS, _MAX_NAMES = 20, 8


@dataclass
class State:
    """Where a run is."""

    epoch: int = 0
    step_in_epoch: int = 0  # batches
    step: int = 0
    bad_steps: int = 0
    seconds: float = 0.0
    # (dev error, or dev loss in the first of two phases; epoch), in this phase
    scores: list[tuple[float, int]] = field(default_factory=list)
    phase: int = 1


class Trainer:
    """Trains one model; `fit` returns when the run is over or was asked to stop."""

    def __init__(
        self,
        config: TrainingConfig,
        model: AcousticModel,
        vocabulary: Vocabulary,
        train_set: SpeechDataset,
        dev_set: SpeechDataset,
        lengths: tuple[list[int], list[int]],
        trigrams: Mapping[str, UnitTrigram],
        inputs: Mapping[str, str],
        describe: Callable[[], None],
    ):
        """`describe` writes what belongs beside the weights in the run's folder."""
        self.config = config
        self._inputs, self._describe = inputs, describe
        self.trigrams = trigrams
        self.folder = Path(config.run)
        self.device = choose_device(config.trainer)
        self.processes = Processes(self.device)
        self.model = model.to(self.device)
        self.vocabulary = vocabulary
        self.noise = make_noise(self.model, config.noise)
        self.pruning = make_pruning(self.model, config.pruning)
        self.parameters = [
            *self.model.parameters(),
            *(self.noise.parameters() if self.noise else ()),
        ]
        self.optimizer = self._new_optimizer()
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=config.trainer.precision == "fp16"
        )
        self.state = State()
        self.log = RunLog(self.folder, self.processes.is_main)
        self._stop = False
        self._n_train = len(lengths[0])
        self._ema = {k: v.clone() for k, v in self.model.state_dict().items()}
        sampler = partial(make_sampler, config, processes=self.processes)
        self._train_sampler = sampler(train_set, lengths[0], shuffle=True)
        self._dev_sampler = sampler(dev_set, lengths[1], shuffle=False)
        self._train_loader = make_loader(config, train_set, self._train_sampler, self.device)
        self._dev_loader = make_loader(config, dev_set, self._dev_sampler, self.device)

    def fit(self, give_up: Callable[[State], bool] = lambda state: False) -> State:
        """Train until the end. After each epoch `give_up` may end it without a result."""
        with claimed(self.folder) if self.processes.is_main else nullcontext():
            self._begin()
            return self._fit(give_up)

    def _begin(self) -> None:
        if self.may_go_on():
            self.resume()
        said = self._preflight()
        if self.processes.is_main:
            self._describe()
        self.log.open()
        if said:
            self.log.say(said)

    def may_go_on(self) -> bool:
        """Whether the folder holds this run already; raises TrainingError if it holds another."""
        symbols = self.vocabulary.symbols
        return check_run(self.folder, self.config, symbols, self._inputs, MAY_CHANGE)

    def _preflight(self) -> str:
        """Whether the largest batch fits into memory."""
        trainer = self.config.trainer
        if not trainer.preflight or trainer.truncate is not None:
            return ""
        return check_memory(self.model, self.config, self._train_sampler.largest(), self.trigrams)

    def _fit(self, give_up: Callable[[State], bool]) -> State:
        trainer = self.config.trainer
        self.log.say(
            f"{sum(p.numel() for p in self.model.parameters()):,} parameters, "
            f"{len(self._train_sampler)} steps an epoch, "
            f"padding {self._train_sampler.padding():.1%}, "
            f"{self.processes.world_size} process(es) on {self.device}"
        )
        with stopping(self._ask_to_stop):
            while self.state.epoch < trainer.epochs and not self._stop and not self._converged():
                self._train_epoch()
                if not self._stop:
                    self._end_epoch()
                    if give_up(self.state):
                        break
        finished = self.state.epoch >= trainer.epochs or self._converged()
        if finished and self.processes.is_main:
            self._average_best()
        self.processes.wait()
        self.log.close()
        self.processes.close()
        return self.state

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run: the same settings go on with it."""
        return self._stop

    def resume(self) -> None:
        """Go on from the last checkpoint."""
        tensors, metadata = checkpoint.load(self.folder / LAST)
        self.model.load_state_dict(checkpoint.select(tensors, "model."))
        self._ema = {k: v.to(self.device) for k, v in checkpoint.select(tensors, "ema.").items()}
        if self.noise:
            self.noise.load_state_dict(checkpoint.select(tensors, "noise."))
        checkpoint.unpack_optimizer(self.optimizer, tensors)
        self.scaler.load_state_dict(metadata.get("scaler", {}))
        self.state = State(**metadata["state"])
        self.state.scores = [(error, epoch) for error, epoch in self.state.scores]
        self.log.say(f"resumed at epoch {self.state.epoch + 1}, step {self.state.step}")

    def _train_epoch(self) -> None:
        state, config = self.state, self.config
        self._train_sampler.set_epoch(state.epoch, state.step_in_epoch)
        n_batches, together = len(self._train_sampler), config.optimizer.accumulate
        total_steps = self._total_steps()
        self.log.start_epoch(state.epoch, config.trainer.epochs, state.step_in_epoch, n_batches)
        self.model.train()
        meter, saved = Meter(), time.monotonic()
        loader = iter(self._train_loader)
        while state.step_in_epoch < n_batches:
            with meter.waiting():
                batches = list(itertools.islice(loader, together))
            looks = [score for score, _ in state.scores]
            rate = learning_rate(state.step, total_steps, config.optimizer, looks)
            for failure in (f for batch in batches for f in batch.failures):
                self.log.say(f"left out: {failure}")
            meter.add(self._step(batches, rate), batches)
            state.step_in_epoch += len(batches)
            self.log.advance(len(batches), meter.frames_per_second(), meter.loss())
            if state.step % config.trainer.log_steps == 0:
                values = meter.flush()
                self.log.write("train", state.step, epoch=state.epoch, rate=rate, **values)
            minutes = (time.monotonic() - saved) / 60
            if self._stop or minutes > config.trainer.checkpoint_minutes:
                self._save_last()
                saved = time.monotonic()
            if self._stop:
                break
        self.log.end_epoch()

    def _total_steps(self) -> int:
        batches = len(self._train_sampler)
        return math.ceil(batches / self.config.optimizer.accumulate) * self.config.trainer.epochs

    def _step(self, batches: Sequence[Batch], rate: float) -> dict[str, float]:
        """One update. Gradients and counts add up over `batches` and over all processes, so that
        the update is that of one process on one joined batch."""
        state, config = self.state, self.config
        started = time.monotonic()
        torch.manual_seed(hash((config.trainer.seed, state.step, self.processes.rank)))
        self.optimizer.zero_grad(set_to_none=True)
        loss, blanks = 0.0, []
        count, n_symbols, n_heard = 0, 0, 0.0  # the first is what the gradient is averaged over
        with self._noise(), self._look_ahead():
            for batch in batches:
                if not batch.texts:
                    continue
                batch = batch.to(self.device)
                part, blank_ratio = self._backward(batch)
                loss += float(part.detach())
                blanks.append(float(blank_ratio))
                count += batch.size(config.optimizer.average_over, self.model.primary)
                n_symbols += batch.size("symbols", self.model.primary)
                n_heard += len(batch.texts) / batch.views
        extra = torch.tensor([loss, count, n_symbols, n_heard, float(self._stop)])
        parameters = self.parameters
        summed = self.processes.sum_gradients(parameters, extra)
        loss, total, n_symbols, n_heard, stop = summed.tolist()
        self._stop = stop > 0
        self.scaler.unscale_(self.optimizer)
        length = None
        if self.noise and not self._quiet():
            length = self.noise.add_cost(n_heard / self._n_train)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(max(total, 1.0))
        if config.optimizer.clip_value is not None:
            torch.nn.utils.clip_grad_value_(parameters, config.optimizer.clip_value)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, config.optimizer.clip))
        if math.isfinite(norm) and n_heard:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            with self.pruning.zeros_kept() if self.pruning else nullcontext():
                self.scaler.step(self.optimizer)
            self._update_ema()
            state.bad_steps = 0
        else:
            self._skip_bad_step(batches, f"gradient norm {norm}" if n_heard else "no recording")
        self.scaler.update()
        state.step += 1
        if self.pruning:
            self.pruning.prune(state.step, self._total_steps(), self._ema)
        state.seconds += time.monotonic() - started
        return {
            "loss": loss / max(n_symbols, 1.0),
            "gradient_norm": norm,
            "blank_ratio": sum(blanks) / max(len(blanks), 1),
            **({} if length is None else {"description_length": length}),
        }

    def _backward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Add the gradient of the batch; its loss and blank ratio."""
        config = self.config
        weights = {name: head.weight for name, head in config.heads.items()}
        if config.trainer.truncate is not None:
            with self._autocast():
                return truncated_backward(
                    self.model,
                    batch,
                    weights,
                    config.loss,
                    config.trainer.truncate,
                    self.trigrams,
                )
        with self._autocast():
            loss, blanks = training_loss(self.model, batch, weights, config.loss, self.trigrams)
        self.scaler.scale(loss).backward()
        return loss, blanks

    def _skip_bad_step(self, batches: Sequence[Batch], problem: str) -> None:
        self.state.bad_steps += 1
        names = self.processes.gather([n for b in batches for n in suspects(self.model, b)])
        told = ", ".join(names[:_MAX_NAMES]) + (" …" if len(names) > _MAX_NAMES else "")
        self.log.say(f"{problem} at step {self.state.step}: step skipped; look at {told}")
        if self.state.bad_steps >= _MAX_BAD_STEPS:
            raise TrainingError(
                f"{_MAX_BAD_STEPS} steps in a row without a finite gradient; the last: {told}",
                "lower optimizer.learning_rate or optimizer.clip, or use trainer.precision=fp32",
            )

    def _update_ema(self) -> None:
        decay = self.config.trainer.ema
        # A short memory at first, so that the random start is forgotten.
        decay = min(decay, (1 + self.state.step) / (10 + self.state.step))
        current = self.model.state_dict()
        names = list(current)
        torch._foreach_lerp_([self._ema[n] for n in names], [current[n] for n in names], 1 - decay)

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        if not self.config.trainer.ema:
            yield
            return
        current = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.model.load_state_dict(self._ema)
        try:
            yield
        finally:
            self.model.load_state_dict(current)

    def _end_epoch(self) -> None:
        state = self.state
        with self._averaged_weights():
            wer, cer, loss = self._evaluate()
            weights = {k: v.clone() for k, v in self.model.state_dict().items()}
        values = {"wer": wer, "cer": cer, "loss": loss}
        told = f"dev WER {wer:.1%} CER {cer:.1%} (greedy) loss {loss:.3f}"
        if self.pruning:
            values["zeros"] = self.pruning.zeros()
            told += f" zeros {values['zeros']:.1%}"
        self.log.write("dev", state.step, epoch=state.epoch, **values)
        self.log.say(f"epoch {state.epoch + 1}: {told} after {state.seconds / 3600:.2f} h")
        if self.pruning is None or self.pruning.is_over():  # else it is no result yet
            self._keep(weights, cer, loss)
        state.epoch += 1
        state.step_in_epoch = 0
        if self._quiet() and self._converged() and state.epoch < self.config.trainer.epochs:
            self._start_second_phase()
        self._save_last()

    def _keep(self, weights: dict[str, Tensor], cer: float, loss: float) -> None:
        """Count this epoch's weights among those that may be the result, and keep the best."""
        state = self.state
        state.scores.append((loss if self._judges_by_loss() else cer, state.epoch))
        if not self.processes.is_main:
            return
        checkpoint.save(self._epoch_file(state.epoch), weights, {"epoch": state.epoch, "cer": cer})
        kept = {epoch for _, epoch in sorted(state.scores)[: self.config.trainer.average]}
        for _, epoch in state.scores:
            if epoch not in kept:
                self._epoch_file(epoch).unlink(missing_ok=True)

    def _judges_by_loss(self) -> bool:
        """In the first of two phases, and for CTC-CRF, whose outputs say little by themselves."""
        return self._quiet() or self.model.primary in self.trigrams

    def _quiet(self) -> bool:
        """Whether this is the first of two phases, which has no noise."""
        return self.config.noise.second_phase and self.state.phase == 1

    def _look_ahead(self) -> AbstractContextManager[None]:
        """The right context of this update, the same in all processes."""
        choices = self.config.trainer.right_contexts
        if not choices:
            return nullcontext()
        drawn = random.Random(f"{self.config.trainer.seed} {self.state.step}").choice(choices)
        return self.model.chunked_encoder().looking_ahead(drawn)

    def _noise(self) -> AbstractContextManager[None]:
        return nullcontext() if self.noise is None or self._quiet() else self.noise.drawn()

    def _start_second_phase(self) -> None:
        """Go back to the weights of the least dev loss, and on from there with noise."""
        state = self.state
        loss, epoch = min(state.scores)
        self.processes.wait()  # for the file of the last epoch
        weights, _ = checkpoint.load(self._epoch_file(epoch))
        self.model.load_state_dict(weights)
        self._ema = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.optimizer = self._new_optimizer()
        state.phase, state.scores = 2, []
        self.log.say(f"second phase: with noise from epoch {epoch + 1}, dev loss {loss:.3f}")

    def _new_optimizer(self) -> Optimizer:
        deviations = self.noise.parameters() if self.noise else ()
        return make_optimizer(self.model.parameters(), self.config.optimizer, deviations)

    def _evaluate(self) -> tuple[float, float, float]:
        """Word and character error rate and loss (nats a symbol) on the dev set, shared out over
        the processes."""
        self.model.eval()
        self._dev_sampler.set_epoch(0)
        with self._autocast():
            counts = self._count(self._moved(self._dev_loader))
        return self._rates(self.processes.sum(counts))

    def _count(self, batches: Iterator[Batch]) -> Tensor:
        trigram = self.trigrams.get(self.model.primary)
        return count_errors(self.model, batches, self.vocabulary, trigram)

    @staticmethod
    def _rates(counts: Tensor) -> tuple[float, float, float]:
        errors, totals = counts.view(3, 2).T
        wer, cer, loss = (errors / totals.clamp(min=1)).tolist()
        return wer, cer, loss

    def _average_best(self) -> None:
        """Average the weights of the best epochs, and keep the better of that and the best one."""
        state = self.state
        best = sorted(state.scores)[: self.config.trainer.average]
        paths = [self._epoch_file(epoch) for _, epoch in best if self._epoch_file(epoch).exists()]
        if not paths:
            return
        candidates = {"best epoch": checkpoint.load(paths[0])[0]}
        if len(paths) > 1:
            candidates[f"average of {len(paths)}"] = checkpoint.average(paths)
        results = {}
        for name, weights in candidates.items():
            self.model.load_state_dict(weights)
            results[name] = self._evaluate_alone()
            wer, cer, loss = results[name]
            self.log.say(f"{name}: dev WER {wer:.1%} CER {cer:.1%} loss {loss:.3f}")
        decisive = 2 if self._judges_by_loss() else 1
        chosen = min(results, key=lambda name: results[name][decisive])
        wer, cer, loss = results[chosen]
        self.log.write("result", state.step, chosen=chosen, wer=wer, cer=cer, loss=loss)
        metadata = {**self._metadata(), "chosen": chosen, "wer": wer, "cer": cer}
        checkpoint.save(self.folder / BEST, candidates[chosen], metadata)

    def _evaluate_alone(self) -> tuple[float, float, float]:
        """As `_evaluate`, by the main process without the others."""
        dataset = self._dev_loader.dataset
        assert isinstance(dataset, SpeechDataset)
        alone = self._dev_sampler.for_one_process()
        self.model.eval()
        batches = self._moved(make_loader(self.config, dataset, alone, self.device))
        return self._rates(self._count(batches))

    def _converged(self) -> bool:
        if not self.state.scores:
            return False
        best_epoch = min(self.state.scores)[1]
        return self.state.epoch - 1 - best_epoch >= self.config.trainer.patience

    def _save_last(self) -> None:
        if not self.processes.is_main:
            return
        tensors: dict[str, Tensor] = {
            **checkpoint.prefixed("model.", self.model.state_dict()),
            **checkpoint.prefixed("ema.", self._ema),
            **checkpoint.prefixed("noise.", self.noise.state_dict() if self.noise else {}),
            **checkpoint.pack_optimizer(self.optimizer),
        }
        checkpoint.save(self.folder / LAST, tensors, self._metadata())

    def _metadata(self) -> dict[str, Any]:
        return {
            "config": to_dict(self.config),
            "vocabulary": list(self.vocabulary.symbols),
            "inputs": dict(self._inputs),
            "state": dataclasses.asdict(self.state),
            "scaler": self.scaler.state_dict(),
            "torch": torch.__version__,
        }

    def _epoch_file(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch + 1:03d}.safetensors"

    def _moved(self, loader: DataLoader) -> Iterator[Batch]:
        for batch in loader:
            yield batch.to(self.device)

    def _autocast(self) -> torch.autocast:
        precision = self.config.trainer.precision
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype=dtype, enabled=precision != "fp32")

    def _ask_to_stop(self) -> None:
        self._stop = True
        self.log.say("stopping after this step; the same command goes on from here")
