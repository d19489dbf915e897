"""Training of language models: learnt by heart, and resumed to the bit."""

import json
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from asr.config import build  # noqa: E402
from asr.errors import ConfigError, TrainingError  # noqa: E402
from asr.train import checkpoint  # noqa: E402
from asr.train.checkpoint import BEST, LAST  # noqa: E402
from asr.train.config import LanguageTrainingConfig  # noqa: E402
from asr.train.text import (  # noqa: E402  # noqa: E402
    Sentences,
    character_vocabulary,
    load_language_model,
    make_language_trainer,
    word_vocabulary,
)

TEXT = "The cat sat.\nthe dog sat on the cat\nA cat ate 2 fish!\n"


@pytest.fixture
def make(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    settings = {
        "run": str(tmp_path / "run"),
        "data": {"train": [str(tmp_path / "text.txt")], "dev": [str(tmp_path / "text.txt")]},
        "model": {"hidden_size": 16, "embedding": 8, "projection": 8, "dropout": 0.2, "tied": True},
        "optimizer": {"learning_rate": 0.02, "warmup_steps": 5},
        "trainer": {"steps": 8, "evaluate_steps": 4, "device": "cpu", "log_steps": 2},
    }
    settings["data"] |= {"units": "characters", "batch_symbols": 40}

    def make(**groups):
        changed = {k: {**v, **groups[k]} if k in groups else v for k, v in settings.items()}
        changed["run"] = groups.get("folder", settings["run"])
        return make_language_trainer(build(LanguageTrainingConfig, changed))

    return make


@pytest.mark.parametrize("stop_at", [4, 5])
def test_a_run_that_was_stopped_goes_on_to_the_bit(make, tmp_path, stop_at):
    make(folder=str(tmp_path / "whole")).fit()
    trainer = make(folder=str(tmp_path / "halves"))
    update = trainer.update

    def interrupt(together):
        if trainer.state.step == stop_at - 1:
            trainer.stop()
        return update(together)

    trainer.update = interrupt
    assert trainer.fit().step == stop_at
    assert make(folder=str(tmp_path / "halves")).fit().step == 8
    for name in (LAST, BEST):
        whole, halves = (checkpoint.load(tmp_path / f / name)[0] for f in ("whole", "halves"))
        assert whole.keys() == halves.keys()
        assert all(torch.equal(whole[key], halves[key]) for key in whole)
    with pytest.raises(TrainingError, match=r"model\.dropout: 0\.2 -> 0\.3"):
        make(folder=str(tmp_path / "halves"), model={"dropout": 0.3}).fit()


@pytest.mark.parametrize("units", ["characters", "pieces", "words"])
def test_a_small_text_is_learnt_by_heart(make, tmp_path, units):
    """Down to what cannot be known: how each sentence begins, and three forks of one bit."""
    if units == "pieces":
        pytest.importorskip("sentencepiece")
    make(
        data={"units": units, "size": 32, "batch_symbols": 500},
        model={"dropout": 0.0},
        trainer={"steps": 150, "evaluate_steps": 150},
    ).fit()
    records = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    symbols = sum(Sentences.encode(_read(), load_language_model(tmp_path / "run")[1], 99).lengths)
    (dev,) = [r for r in records if r["kind"] == "dev"]
    assert dev["loss"] * symbols < 3 * math.log(3) + 5 * math.log(2)
    assert {"loss", "gradient_norm", "rate", "symbols_per_second"} <= records[0].keys()


def test_a_run_goes_on_from_another_with_its_vocabulary(make, tmp_path):
    """Text of which as many other pieces would be learnt."""
    pytest.importorskip("sentencepiece")
    pieces = {"units": "pieces", "size": 32}
    make(data=pieces, folder=str(tmp_path / "first")).fit()
    (tmp_path / "other.txt").write_text("zebras buzz\nwho vexes a quick fox\n" * 3)
    other = {**pieces, "train": [str(tmp_path / "other.txt")]}
    symbols = make(data=other, folder=str(tmp_path / "alone")).task.symbols
    for weights in (BEST, LAST):
        init = {"init": str(tmp_path / "first" / weights), "steps": 4}
        second = make(data=other, trainer=init, folder=str(tmp_path / weights))
        assert second.task.symbols != symbols
        assert second.task.symbols == list(load_language_model(tmp_path / "first")[1].symbols)
        assert second.fit().step == 4
    (tmp_path / "moved").mkdir()
    (tmp_path / "first" / BEST).rename(tmp_path / "moved" / BEST)
    with pytest.raises(TrainingError, match="another vocabulary"):
        make(data=other, trainer={"init": str(tmp_path / "moved" / BEST)}).fit()


def _read():
    return [line.lower().replace("2", "two").strip(".!").split() for line in TEXT.splitlines()]


def test_long_sentences_are_cut_and_foreign_symbols_marked():
    vocabulary = character_vocabulary("abc")
    sentences = Sentences.encode([["ab", "cx"], ["c"]], vocabulary, most_symbols=3)
    assert sentences.lengths == [4, 3, 2]
    symbols, lengths = sentences.batch([0, 1, 2])
    spelled = [vocabulary.symbols[i] for i in symbols[1, : lengths[1]]]
    assert spelled == ["c", "<unk>"]
    words = word_vocabulary([["b", "b", "é"], ["b", "a", "é", "é", "é"]], 4, "ab")
    assert words.symbols == ("<blank>", "b", "a", "<unk>")


def test_a_run_without_text_is_refused(make):
    with pytest.raises(ConfigError, match=r"data\.dev"):
        make(data={"dev": []})


def test_a_folder_without_a_run_is_refused(tmp_path: Path):
    with pytest.raises(TrainingError, match="task=language_model"):
        load_language_model(tmp_path)
