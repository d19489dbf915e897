"""The course of a run: when dev is evaluated, when the run is over, which weights are kept."""

from __future__ import annotations

import math
from typing import Any, Protocol, TypeAlias

from asr.data.sampler import BucketSampler
from asr.train.config import SequenceTrainerConfig, TrainerConfig


class Progress(Protocol):
    """What a course needs to know of `asr.train.loop.State`."""

    epoch: int
    step_in_epoch: int
    step: int
    scores: list[tuple[float, int]]
    evaluated: int


class Epochs:
    """So many epochs, each of which is evaluated; the best ones are averaged."""

    crosses_epochs = False

    def __init__(self, settings: TrainerConfig, sampler: BucketSampler, accumulate: int):
        self._settings, self._sampler, self._accumulate = settings, sampler, accumulate
        self.ema: float | None = settings.ema
        self.average: int | None = settings.average

    @property
    def total_steps(self) -> int:
        return math.ceil(len(self._sampler) / self._accumulate) * self._settings.epochs

    def evaluation_is_due(self, state: Progress) -> bool:
        return state.step_in_epoch >= len(self._sampler)

    def after_evaluation(self, state: Progress) -> None:
        state.epoch, state.step_in_epoch = state.epoch + 1, 0

    def at_end(self, state: Progress) -> bool:
        return state.epoch >= self._settings.epochs

    def has_converged(self, state: Progress) -> bool:
        return _waited(state) >= self._settings.patience

    def is_over(self, state: Progress) -> bool:
        return self.at_end(state) or self.has_converged(state)

    def mark(self, state: Progress) -> int:
        """What tells one evaluation from others."""
        return state.epoch

    def label(self, state: Progress) -> str:
        return f"epoch {state.epoch + 1}"


class Steps:
    """So many updates, evaluated every `evaluate_steps`; the best weights are kept."""

    crosses_epochs = True
    ema: float | None = None
    average: int | None = None

    def __init__(self, settings: SequenceTrainerConfig):
        self._settings = settings
        self.total_steps = settings.steps

    def evaluation_is_due(self, state: Progress) -> bool:
        settings, step = self._settings, state.step
        due = step % settings.evaluate_steps == 0 or step == settings.steps
        return due and step > state.evaluated

    def after_evaluation(self, state: Progress) -> None:
        state.evaluated = state.step

    def at_end(self, state: Progress) -> bool:
        return state.step >= self._settings.steps and not self.evaluation_is_due(state)

    def has_converged(self, state: Progress) -> bool:
        return _waited(state) >= self._settings.patience

    def is_over(self, state: Progress) -> bool:
        return self.at_end(state) or self.has_converged(state)

    def mark(self, state: Progress) -> int:
        return len(state.scores)

    def label(self, state: Progress) -> str:
        return f"step {state.step}"


Course: TypeAlias = Epochs | Steps


def make_course(config: Any, sampler: BucketSampler) -> Course:
    settings = config.trainer
    if isinstance(settings, SequenceTrainerConfig):
        return Steps(settings)
    return Epochs(settings, sampler, config.optimizer.accumulate)


def _waited(state: Progress) -> int:
    """Evaluations since the best one; -1 without any."""
    if not state.scores:
        return -1
    return state.scores[-1][1] - min(state.scores)[1]
