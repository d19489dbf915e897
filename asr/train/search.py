"""Hyper-parameters by trial: Hydra's sweeps describe them, Optuna chooses the values.

    optimizer.learning_rate=tag(log,interval(1e-4,1e-2))   between, by ratios
    model.dropout=interval(0,0.5)                          between
    model.layers=range(2,5)                                2, 3 or 4
    model=choice(blstm_2x128,blstm_3x250)                  one of these

Values come from a tree-structured Parzen estimator (Bergstra et al. 2011), and a trial that is
worse than the median of the others at its epoch is stopped. Each trial is a run like any other,
in a folder named after its values; an interrupted search continues with its current trial.

Several machines search together where they share the folder: they read and write one journal there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, RangeSweep
from hydra.errors import HydraException
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from asr.errors import ConfigError, TrainingError
from asr.files import locked
from asr.train.config import TrainingConfig
from asr.train.course import State
from asr.train.loop import Trainer
from asr.train.runs import LOCK
from asr.train.setup import make_trainer

STUDY = "study.log"
_DONE = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Best:
    """The best trial: its overrides, its dev error (CER), and the folder of its run."""

    overrides: tuple[str, ...]
    error: float
    run: Path
    trials: int


def search(
    folder: Path,
    overrides: Sequence[str],
    compose: Callable[[list[str]], TrainingConfig],
    *,
    trials: int,
    seed: int = 1,
    tell: Callable[[str], None] = print,
) -> Best:
    """Have `trials` trials in `folder`, counting those that are there, and tell the best.

    `compose` makes settings of overrides. Raises ConfigError if nothing is to be searched,
    TrainingError if other processes make all trials and none is done, and KeyboardInterrupt if a
    trial was interrupted.
    """
    fixed, space = divide(overrides)
    if not space:
        raise ConfigError(
            "nothing to search: every setting has one value",
            "optimizer.learning_rate=interval(1e-4,1e-2), model.layers=choice(2,3)",
        )
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="search",
        storage=JournalStorage(JournalFileBackend(str(folder / STUDY))),
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    )
    while True:
        with ExitStack() as claim:
            trial = _next(study, folder, space, trials, seed, claim)
            if trial is None:
                break
            values = [f"{name}={_shown(value)}" for name, value in trial.params.items()]
            label = f"trial {trial.number + 1}"
            tell(f"{label}: {' '.join(values)}")
            run = folder / _name(trial.params)
            trainer = make_trainer(compose([*fixed, *values, f"run={run}"]))
            error, stopped = _train(trainer, trial)
            study.tell(trial, error, state=TrialState.PRUNED if stopped else TrialState.COMPLETE)
            tell(f"{label}: dev CER {error:.1%}" + (", stopped early" if stopped else ""))
    done = len(study.get_trials(deepcopy=False, states=_DONE))
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise TrainingError(f"{folder}: others make all trials, and none is done", "wait for them")
    best = study.best_trial
    assert best.value is not None
    shown = tuple(f"{name}={_shown(value)}" for name, value in best.params.items())
    return Best(shown, best.value, folder / _name(best.params), done)


def _next(
    study: optuna.Study,
    folder: Path,
    space: Mapping[str, BaseDistribution],
    trials: int,
    seed: int,
    claim: ExitStack,
) -> optuna.Trial | None:
    """A trial, locked until `claim` ends; None if as many are done, or being made elsewhere."""
    with locked(folder / LOCK):
        made = 0
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            try:
                with locked(folder / f"{LOCK}-{trial.number}", wait=False):
                    study.tell(trial.number, state=TrialState.FAIL)  # it was interrupted
                    study.enqueue_trial(trial.params)
            except BlockingIOError:
                made += 1
        if len(study.get_trials(deepcopy=False, states=_DONE)) + made >= trials:
            return None
        # Seeded by what has been, or a resumed search would draw its first values again.
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
        asked = study.ask(dict(space))
        claim.enter_context(locked(folder / f"{LOCK}-{asked.number}", wait=False))
        return asked


def _train(trainer: Trainer, trial: optuna.Trial) -> tuple[float, bool]:
    """The dev error of a trial, and whether it was stopped because others are better."""

    def worse(state: State) -> bool:
        if not state.scores:  # still being pruned
            return False
        trial.report(state.scores[-1][0], state.epoch)
        return trial.should_prune()

    state = trainer.fit(worse)
    if trainer.interrupted:
        raise KeyboardInterrupt
    stopped = state.epoch < trainer.config.trainer.epochs and trial.should_prune()
    return min(state.scores)[0], stopped


def divide(overrides: Sequence[str]) -> tuple[list[str], dict[str, BaseDistribution]]:
    """Overrides with one value, as they are, and the distributions of those with several.

    >>> divide(["model.layers=range(2,4)", "trainer.epochs=3"])
    (['trainer.epochs=3'], {'model.layers': IntDistribution(high=3, log=False, low=2, step=1)})
    """
    fixed, space = [], {}
    try:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
    except HydraException as error:
        cause = str(error).splitlines()[0]
        raise ConfigError(f"not a setting: {cause}", "write NAME=VALUE") from error
    for override, text in zip(parsed, overrides, strict=True):
        if override.is_sweep_override():
            space[override.key_or_group] = _distribution(override.value(), text)
        else:
            fixed.append(text)
    return fixed, space


def _distribution(sweep: Any, text: str) -> BaseDistribution:
    if isinstance(sweep, IntervalSweep) and sweep.start is not None and sweep.end is not None:
        return FloatDistribution(sweep.start, sweep.end, log="log" in sweep.tags)
    if isinstance(sweep, RangeSweep):
        bounds = (sweep.start, sweep.stop, sweep.step)
        if all(isinstance(bound, int) for bound in bounds):
            values = range(*map(int, bounds))  # type: ignore[arg-type]
            return IntDistribution(values[0], values[-1], step=values.step)
    if isinstance(sweep, ChoiceSweep):
        choices = [v if isinstance(v, int | float | str | bool) else str(v) for v in sweep.list]
        return CategoricalDistribution(choices)
    raise ConfigError(f"{text}: cannot be searched", "interval(a,b), range(a,b) or choice(a,b,c)")


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _name(params: Mapping[str, Any]) -> str:
    text = json.dumps({name: _shown(value) for name, value in sorted(params.items())})
    return f"trial-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
