"""Training of what restores case and punctuation: learnt by heart, and resumed to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")

from asr.config import build  # noqa: E402
from asr.errors import ConfigError, TrainingError  # noqa: E402
from asr.punctuation.export import tagger_to_onnx  # noqa: E402
from asr.punctuation.labels import COMMA, KEYS, STOP, UNKNOWN_CASE, take_apart  # noqa: E402
from asr.punctuation.punctuator import Punctuator  # noqa: E402
from asr.punctuation.training import (  # noqa: E402
    Written,
    load_tagger,
    make_punctuation_trainer,
)
from asr.train import checkpoint  # noqa: E402
from asr.train.checkpoint import LAST  # noqa: E402
from asr.train.config import PunctuationTrainingConfig  # noqa: E402

LINES = [
    "Did Tom McCoy call NASA?",
    "He didn't, as far as Mary knows.",
    "Well, Mary saw Tom McCoy. Is that all?",
    "So did Tom McCoy leave?",
]
LEFT_OUT = "a line without its capital."


@pytest.fixture
def make(tmp_path: Path):
    (tmp_path / "text.txt").write_text("\n".join([*LINES, LEFT_OUT]))
    text = [str(tmp_path / "text.txt")]

    def make(folder: str = "run", steps: int = 6, **data):
        settings = {
            "run": str(tmp_path / folder),
            "data": {"train": text, "dev": text, "join": 1, "batch_words": 20, **data},
            "model": {"rows": 256, "embedding": 16, "hidden_size": 16},
            "optimizer": {"learning_rate": 0.02, "warmup_steps": 5},
            "trainer": {"steps": steps, "evaluate_steps": 60, "device": "cpu", "log_steps": 2},
        }
        return make_punctuation_trainer(build(PunctuationTrainingConfig, settings))

    return make


def test_a_small_text_is_learnt_by_heart(make, tmp_path: Path) -> None:
    make(steps=60, batch_words=100).fit()
    model, forms = load_tagger(tmp_path / "run")
    assert forms == {"mccoy": "McCoy"}
    path = tmp_path / "punctuation.onnx"
    path.write_bytes(tagger_to_onnx(model, forms).SerializeToString())
    punctuator = Punctuator(path)
    for line in LINES:
        taken = take_apart(line)
        assert taken is not None
        assert " ".join(punctuator(taken.words)) == line
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [set(r) & {"loss", "perplexity"} for r in log if r["kind"] == "dev"] == [{"loss"}]


def test_a_run_that_was_stopped_goes_on_to_the_bit(make, tmp_path: Path) -> None:
    make("whole").fit()
    trainer = make("stopped")
    update = trainer.update

    def interrupt(together):
        if trainer.state.step == 2:
            trainer.stop()
        return update(together)

    trainer.update = interrupt
    assert trainer.fit().step == 3
    make("stopped").fit()
    whole, stopped = (checkpoint.load(tmp_path / f / LAST)[0] for f in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)
    with pytest.raises(TrainingError, match=r"data\.join: 1 -> 2"):
        make("stopped", join=2).fit()


def test_examples() -> None:
    lines = [take_apart(line) for line in [*LINES, LEFT_OUT]]
    each = Written.encode(lines, 256)
    assert each.lengths == [5, 7, 8, 5]
    assert each.left_out == 1
    rows, labels, lengths = each.batch([1, 2])
    assert (rows.shape, labels.shape, lengths.tolist()) == ((2, 8, KEYS), (2, 8, 2), [7, 8])
    assert labels[0, :, 0].tolist() == [0, COMMA, 0, 0, 0, 0, STOP, UNKNOWN_CASE]
    assert labels[1, :, 1].tolist() == [UNKNOWN_CASE, 1, 0, 1, 1, UNKNOWN_CASE, 0, 0]
    joined = Written.encode(lines, 256, join=3, most_words=13, seed=1)
    assert sum(joined.lengths) == sum(each.lengths)
    assert max(joined.lengths) <= 13
    assert len(joined) < len(each)
    np.testing.assert_array_equal(joined.words, each.words)
    cut = Written.encode(lines, 256, most_words=3)
    assert cut.lengths == [3, 2, 3, 3, 1, 3, 3, 2, 3, 2]


def test_what_is_no_text_or_run_is_refused(make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.dev"):
        make(dev=[])
    (tmp_path / "low.txt").write_text(LEFT_OUT)
    with pytest.raises(TrainingError, match="no line in these texts"):
        make(train=[str(tmp_path / "low.txt")])
    with pytest.raises(TrainingError, match="task=punctuation"):
        load_tagger(tmp_path)
