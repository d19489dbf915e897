import re
import subprocess
import sys
from contextlib import ExitStack

import pytest

pytest.importorskip("torch")
pytest.importorskip("optuna")

import optuna

from asr.cli.train import compose
from asr.errors import ConfigError
from asr.train import search as module
from asr.train.search import _next as next_trial
from asr.train.search import divide, search


@pytest.fixture
def overrides(tones):
    return [
        f"data.train=[{tones}]", f"data.dev=[{tones}]", "data.batch_frames=120",
        "features.n_mels=20", "model.hidden_size=8", "model.layers=1", "trainer.epochs=1",
        "trainer.device=cpu", "optimizer.learning_rate=tag(log,interval(1e-9,0.05))",
        "model.dropout=choice(0.0,0.1)",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_search_tells_the_best_and_goes_on_where_it_was(overrides, tmp_path, monkeypatch):
    told = []
    best = search(tmp_path, overrides, compose, trials=3, tell=told.append)
    errors = [float(line.split("CER ")[1].split("%")[0]) for line in told if "CER" in line]
    assert len(errors) == best.trials == 3
    assert best.error == pytest.approx(min(errors) / 100, abs=1e-3)
    assert (best.run / "best.safetensors").exists()
    assert {o.split("=")[0] for o in best.overrides} == {
        "optimizer.learning_rate", "model.dropout",
    }  # fmt: skip
    # The fourth is interrupted; the same command trains it in the folder where it began.
    make_trainer, folders = module.make_trainer, []

    def interrupted(config):
        trainer = make_trainer(config)
        folders.append(config.run)
        if len(folders) == 1:
            trainer.stop()
        return trainer

    monkeypatch.setattr(module, "make_trainer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, overrides, compose, trials=4, tell=told.append)
    assert search(tmp_path, overrides, compose, trials=4, tell=told.append).trials == 4
    assert len(folders) == 2
    assert folders[0] == folders[1]
    assert search(tmp_path, overrides, compose, trials=4).trials == 4
    assert len(folders) == 2


@pytest.mark.slow
def test_two_processes_share_a_search(overrides, tmp_path):
    command = [sys.executable, "-m", "asr", "search", "--to", str(tmp_path), "--trials", "6"]
    both = [
        subprocess.Popen([*command, *overrides], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    printed = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    finished = [set(re.findall(r"^(trial \d+): dev CER", text, re.MULTILINE)) for text in printed]
    assert all(finished)
    assert not finished[0] & finished[1]
    assert len(finished[0] | finished[1]) == 6
    assert len([*tmp_path.glob("trial-*/best.safetensors")]) == 6


def test_a_trial_of_a_living_process_is_left_alone(tmp_path):
    study = optuna.create_study()
    space = {"x": optuna.distributions.FloatDistribution(0, 1)}
    with ExitStack() as first, ExitStack() as second:
        begun = next_trial(study, tmp_path, space, 2, 1, first)
        other = next_trial(study, tmp_path, space, 2, 1, second)
        assert (begun.number, other.number) == (0, 1)
        assert next_trial(study, tmp_path, space, 2, 1, second) is None
    # Both processes ended before their trials did: the same values are tried again.
    with ExitStack() as claim:
        assert next_trial(study, tmp_path, space, 2, 1, claim).params == begun.params


def test_sweeps_become_distributions():
    fixed, space = divide(["a=1", "b=interval(0,2)", "c=choice(x,y)", "d=range(1,9,2)", "e=[1,2]"])
    assert fixed == ["a=1", "e=[1,2]"]
    assert (space["b"].low, space["b"].high, space["b"].log) == (0.0, 2.0, False)
    assert space["c"].choices == ("x", "y")
    assert (space["d"].low, space["d"].high, space["d"].step) == (1, 7, 2)


def test_a_search_of_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="every setting has one value"):
        search(tmp_path, ["trainer.epochs=1"], compose, trials=1)
