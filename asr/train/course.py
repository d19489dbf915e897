"""Where a run is, when dev is evaluated, when the run is over, and which weights are kept."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from asr.data.sampler import BucketSampler
from asr.train.config import SequenceTrainerConfig, TrainerConfig


@dataclass
class State:
    """Where a run is."""

    epoch: int = 0
    step_in_epoch: int = 0  # batches of this epoch that are done
    step: int = 0  # updates
    bad_steps: int = 0  # updates in a row that were skipped
    seconds: float = 0.0  # of training, with waiting for data and all evaluations but the last
    # Of each evaluation in this phase (score, epoch or number of the evaluation); less is better.
    scores: list[tuple[float, int]] = field(default_factory=list)
    phase: int = 1
    evaluated: int = 0  # the step of the last evaluation

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> State:
        """From a checkpoint, also from one that an older version wrote for a run on text."""
        data = dict(data)
        if "losses" in data:
            data["scores"] = [(loss, number) for number, loss in enumerate(data.pop("losses"))]
            data["evaluated"] = data["step"]
        data["scores"] = [(score, mark) for score, mark in data["scores"]]
        return cls(**data)


class Course(ABC):
    """ema: decay of the moving average of the weights; None: there is none. average: how many of
    the best evaluations are averaged in the end; None: the best weights are the result.
    crosses_epochs: whether the batches of an update may belong to two epochs."""

    ema: float | None = None
    average: int | None = None
    crosses_epochs = False
    patience: int

    @abstractmethod
    def total_steps(self, state: State) -> int:
        """Updates of the whole run."""

    @abstractmethod
    def evaluation_is_due(self, state: State) -> bool: ...

    @abstractmethod
    def after_evaluation(self, state: State) -> None: ...

    @abstractmethod
    def at_end(self, state: State) -> bool: ...

    @abstractmethod
    def mark(self, state: State) -> int:
        """The number that an evaluation has in `State.scores`."""

    @abstractmethod
    def label(self, state: State) -> str:
        """What a message calls an evaluation."""

    def has_converged(self, state: State) -> bool:
        """Whether `patience` evaluations have brought nothing better."""
        scores = state.scores
        return bool(scores) and scores[-1][1] - min(scores)[1] >= self.patience

    def is_over(self, state: State) -> bool:
        return self.at_end(state) or self.has_converged(state)


class Epochs(Course):
    """A number of epochs, each evaluated; the best ones are averaged."""

    def __init__(self, settings: TrainerConfig, sampler: BucketSampler, accumulate: int):
        self._epochs, self._sampler, self._accumulate = settings.epochs, sampler, accumulate
        self.ema, self.average, self.patience = settings.ema, settings.average, settings.patience

    def total_steps(self, state: State) -> int:
        return math.ceil(len(self._sampler) / self._accumulate) * self._epochs

    def evaluation_is_due(self, state: State) -> bool:
        return state.step_in_epoch >= len(self._sampler)

    def after_evaluation(self, state: State) -> None:
        state.epoch, state.step_in_epoch = state.epoch + 1, 0

    def at_end(self, state: State) -> bool:
        return state.epoch >= self._epochs

    def mark(self, state: State) -> int:
        return state.epoch

    def label(self, state: State) -> str:
        return f"epoch {state.epoch + 1}"


class Minutes(Epochs):
    """As many epochs as the time allows; the last one may be cut short."""

    def __init__(self, minutes: float, *arguments: Any):
        super().__init__(*arguments)
        self._seconds = minutes * 60

    def total_steps(self, state: State) -> int:
        """At the pace so far."""
        if not state.seconds:
            return super().total_steps(state)
        return max(state.step + 1, round(state.step / state.seconds * self._seconds))

    def evaluation_is_due(self, state: State) -> bool:
        return super().evaluation_is_due(state) or self.at_end(state)

    def at_end(self, state: State) -> bool:
        return state.seconds >= self._seconds


class Steps(Course):
    """A number of updates, evaluated every `evaluate_steps`; the best weights are kept."""

    crosses_epochs = True

    def __init__(self, settings: SequenceTrainerConfig):
        self._steps, self.patience = settings.steps, settings.patience
        self._every = settings.evaluate_steps

    def total_steps(self, state: State) -> int:
        return self._steps

    def evaluation_is_due(self, state: State) -> bool:
        due = state.step % self._every == 0 or state.step == self._steps
        return due and state.step > state.evaluated

    def after_evaluation(self, state: State) -> None:
        state.evaluated = state.step

    def at_end(self, state: State) -> bool:
        return state.step >= self._steps and not self.evaluation_is_due(state)

    def mark(self, state: State) -> int:
        return len(state.scores)

    def label(self, state: State) -> str:
        return f"step {state.step}"


def make_course(config: Any, sampler: BucketSampler) -> Course:
    settings = config.trainer
    if isinstance(settings, SequenceTrainerConfig):
        return Steps(settings)
    if settings.minutes is not None:
        return Minutes(settings.minutes, settings, sampler, config.optimizer.accumulate)
    return Epochs(settings, sampler, config.optimizer.accumulate)
