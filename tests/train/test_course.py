"""When dev is evaluated, and when a run is over."""

import pytest

pytest.importorskip("torch")

from asr.data.sampler import BucketSampler
from asr.train.config import SequenceTrainerConfig, TrainerConfig
from asr.train.course import Epochs, Minutes, State, Steps


def test_epochs():
    sampler = BucketSampler([1] * 5, 1, shuffle=False)
    course = Epochs(TrainerConfig(epochs=2, patience=3), sampler, accumulate=2)
    assert course.total_steps(State()) == 6
    state = State(epoch=1, step_in_epoch=4)
    assert not course.evaluation_is_due(state)
    state.step_in_epoch = 5
    assert course.evaluation_is_due(state)
    assert not course.is_over(state)
    course.after_evaluation(state)
    assert (state.epoch, state.step_in_epoch) == (2, 0)
    assert course.is_over(state)


def test_minutes():
    sampler = BucketSampler([1] * 5, 1, shuffle=False)
    course = Minutes(2.0, TrainerConfig(epochs=1), sampler, 1)
    state = State(epoch=3, step=15, step_in_epoch=1, seconds=60.0)
    assert course.total_steps(State()) == 5  # without a pace yet
    assert course.total_steps(state) == 30
    assert not course.evaluation_is_due(state)
    assert not course.is_over(state)
    state.seconds = 120.0
    assert course.evaluation_is_due(state)
    assert course.is_over(state)
    assert course.total_steps(state) == 16  # the rate of a last update is above zero


def test_steps():
    course = Steps(SequenceTrainerConfig(steps=10, evaluate_steps=4))
    state, evaluated = State(), []
    while not course.is_over(state):
        state.step += 1
        if course.evaluation_is_due(state):
            evaluated.append(state.step)
            state.scores.append((1.0 / state.step, course.mark(state)))
            course.after_evaluation(state)
            assert not course.evaluation_is_due(state)
    assert evaluated == [4, 8, 10]


@pytest.mark.parametrize(
    ("scores", "over"),
    [([], False), ([3, 2, 1], False), ([1, 2], False), ([1, 2, 2], True), ([2, 1, 1, 1], True)],
)
def test_patience(scores, over):
    course = Steps(SequenceTrainerConfig(steps=10, patience=2))
    assert course.is_over(State(scores=[(s, i) for i, s in enumerate(scores)])) == over


def test_states_of_older_checkpoints_are_read():
    text = {"step": 5, "epoch": 1, "step_in_epoch": 2, "bad_steps": 0, "seconds": 1.5}
    state = State.read({**text, "losses": [2.0, 1.0]})
    assert state == State(1, 2, 5, 0, 1.5, [(2.0, 0), (1.0, 1)], evaluated=5)
    acoustic = {**text, "scores": [[0.5, 0], [0.25, 1]], "phase": 2}
    assert State.read(acoustic) == State(1, 2, 5, 0, 1.5, [(0.5, 0), (0.25, 1)], 2)
