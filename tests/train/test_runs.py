"""A run's folder: what is refused leaves it as it was, and only one process trains there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from asr.config import build  # noqa: E402
from asr.errors import ASRError, ConfigError, TrainingError  # noqa: E402
from asr.punctuation.training import make_punctuation_trainer  # noqa: E402
from asr.train.checkpoint import LAST  # noqa: E402
from asr.train.config import (  # noqa: E402
    LanguageTrainingConfig,
    PunctuationTrainingConfig,
    TrainingConfig,
)
from asr.train.runs import claimed  # noqa: E402
from asr.train.setup import make_trainer  # noqa: E402
from asr.train.text import make_language_trainer  # noqa: E402

TEXT = "The cat sat.\nThe dog sat, on the cat.\nA cat ate two fish!\n"
Train = Callable[..., object]


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, by name, with the hash of what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def nested(settings: dict, changes: dict[str, object]) -> dict:
    """Settings with some `group.name` changed."""
    changed = {key: dict(v) if isinstance(v, dict) else v for key, v in settings.items()}
    for name, value in changes.items():
        *groups, last = name.split(".")
        place = changed
        for group in groups:
            place = place[group]
        place[last] = value
    return changed


@pytest.fixture(params=["acoustic", "language_model", "punctuation"])
def task(request, settings, tmp_path) -> tuple[str, Train, Path]:
    """A task, a call that trains with `group.name` changed, and its train data."""
    name = request.param
    data = tmp_path / "data"
    data.mkdir()
    if name == "acoustic":
        source = data / "train.jsonl"
        source.write_bytes(Path(settings["data"]["train"][0]).read_bytes())
        plain = nested(settings, {"data.train": [str(source)], "trainer.epochs": 1})
        kind, make = TrainingConfig, make_trainer
    else:
        source = data / "text.txt"
        source.write_text(TEXT)
        plain = {
            "run": settings["run"],
            "data": {"train": [str(source)], "dev": [str(source)]},
            "model": {"hidden_size": 8, "embedding": 8},
            "optimizer": {"learning_rate": 0.01},
            "trainer": {"steps": 2, "evaluate_steps": 2, "device": "cpu"},
        }
        if name == "language_model":
            plain["data"] |= {"units": "characters"}
            plain["model"] |= {"projection": 8}
            kind, make = LanguageTrainingConfig, make_language_trainer
        else:
            kind, make = PunctuationTrainingConfig, make_punctuation_trainer
    return name, lambda **changes: make(build(kind, nested(plain, changes))).fit(), source


def test_a_refusal_changes_nothing(task, tmp_path):
    name, train, _ = task
    run = tmp_path / "run"
    train()
    before = content(run)
    vocabulary = {
        "acoustic": {"heads": {"characters": {"alphabet": "abcde"}}},
        "language_model": {"data.alphabet": "abcdefghijklmnopqrstuvwxyz"},
        "punctuation": {"data.join": 2},
    }[name]
    refused: list[tuple[dict, str]] = [
        ({"optimizer.learning_rate": 0.03}, r"optimizer\.learning_rate: 0\.0\d -> 0\.03"),
        ({"model.hidden_size": 12}, r"model\.hidden_size"),
        (vocabulary, "other settings"),
        ({"trainer.device": "cuda:99"}, "cannot be used here"),
        ({"trainer.init": str(tmp_path / "none")}, "other settings|no weights|not a checkpoint"),
        ({"data.train": []}, r"data\.train"),
        ({"data.dev": [str(tmp_path / "none.jsonl")]}, "cannot be read"),
    ]
    if name == "acoustic":
        refused.append(({"features.n_mels": 24}, r"features\.n_mels: 20 -> 24"))
    for changes, message in refused:
        with pytest.raises(ASRError, match=message):
            train(**changes)
        assert content(run) == before, changes
    train()  # with the settings that it had


def test_changed_data_are_noticed(task, tmp_path):
    _, train, source = task
    train()
    before, text = content(tmp_path / "run"), source.read_text()
    source.write_text(text + text.splitlines(keepends=True)[0])
    with pytest.raises(TrainingError, match=rf"other data: .*{source.name} changed.*trainer\.init"):
        train()
    assert content(tmp_path / "run") == before
    source.write_text(text)
    train()


def test_a_damaged_checkpoint_is_left_alone(task, tmp_path):
    _, train, _ = task
    train()
    last = tmp_path / "run" / LAST
    last.write_bytes(last.read_bytes()[:1000])
    before = content(tmp_path / "run")
    with pytest.raises(TrainingError, match="not a checkpoint"):
        train()
    assert content(tmp_path / "run") == before


def test_a_run_of_another_task_is_refused(make, settings, tmp_path):
    make(trainer={"epochs": 1}).fit()
    before = content(tmp_path / "run")
    (tmp_path / "text.txt").write_text(TEXT)
    text = [str(tmp_path / "text.txt")]
    config = {"run": settings["run"], "data": {"train": text, "dev": text, "units": "characters"}}
    with pytest.raises(TrainingError, match="another task"):
        make_language_trainer(build(LanguageTrainingConfig, config))
    assert content(tmp_path / "run") == before


def test_settings_may_change_before_the_first_checkpoint(task, tmp_path):
    """A run that was killed early has a description and no weights: nothing of it is kept."""
    _, train, _ = task
    train()
    (tmp_path / "run" / LAST).unlink()
    train(**{"model.hidden_size": 12})


HOLD = """
import sys
from pathlib import Path
from asr.train.runs import claimed
with claimed(Path(sys.argv[1])):
    if len(sys.argv) > 2:  # a child that outlives its parent, as workers do for a while
        import os, time
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("with_child", [False, True])
def test_a_second_training_is_refused_while_the_first_lives(task, tmp_path, with_child):
    name, train, _ = task
    if with_child and name != "acoustic":
        pytest.skip("the same lock")
    run = tmp_path / "run"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run), *(["child"] if with_child else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        start_new_session=True,
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        before = content(run)
        with pytest.raises(TrainingError, match=f"is being trained by process {holder.pid} on"):
            train()
        assert content(run) == before
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        train()
        assert (run / LAST).exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(holder.pid, signal.SIGKILL)
        holder.wait()


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="cannot be written"), claimed(tmp_path / "file"):
        pass


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "nothing:1", "hip"])
def test_a_device_that_is_not_there_is_told(make, tmp_path, device):
    with pytest.raises(
        ConfigError, match=rf"trainer\.device={device} cannot.*auto, or one of: cpu"
    ):
        make(trainer={"device": device})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"heads": {"characters": {"kind": "attention"}}, "trainer": {"truncate": 10}},
            "CTC heads",
        ),
        ({"model": {"bidirectional": True}, "trainer": {"truncate": 10}}, "whole utterances"),
        ({"trainer": {"right_contexts": [1]}}, "right context"),
        ({"data": {"batch_frames": 5}}, "does not fit into a batch"),
        ({"data": {"noises": "/none.jsonl"}}, "cannot be read"),
        ({"trainer": {"init": "/none"}}, "no weights"),
    ],
)
def test_a_new_run_that_is_refused_makes_no_folder(make, tmp_path, changes, message):
    with pytest.raises(ASRError, match=message):
        make(**changes).fit()
    assert not (tmp_path / "run").exists()
