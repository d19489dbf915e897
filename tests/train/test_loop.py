import itertools
import json
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from asr.data.manifest import read_manifest  # noqa: E402
from asr.errors import ConfigError, TrainingError  # noqa: E402
from asr.train import checkpoint, loop  # noqa: E402
from asr.train.checkpoint import BEST, LAST  # noqa: E402


def weights(folder: str | Path, name: str = LAST) -> dict[str, torch.Tensor]:
    return checkpoint.load(Path(folder) / name)[0]


def log(folder: str | Path, kind: str) -> list[dict]:
    lines = Path(folder, "log.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def two_and_two_equal_four(make, folder: Path, **settings) -> None:
    make(run=str(folder / "four"), **settings).fit()
    trainer = make(run=str(folder / "halves"), **settings)
    evaluate = trainer._evaluate

    def stop_after_two():
        evaluate()
        if trainer.state.epoch == 2:
            trainer.stop()

    trainer._evaluate = stop_after_two
    assert trainer.fit().epoch == 2
    assert make(run=str(folder / "halves"), **settings).fit().epoch == 4
    for name in (LAST, BEST):
        assert_same(weights(folder / "four", name), weights(folder / "halves", name))


def test_two_epochs_and_two_more_equal_four_to_the_bit(make, tmp_path):
    two_and_two_equal_four(make, tmp_path)


def test_the_rate_is_reduced_alike_where_a_run_was_interrupted(make, tmp_path):
    reducing = {"schedule": "on_plateau", "warmup_steps": 1, "reduce_after": 1, "reduce_by": 0.1}
    two_and_two_equal_four(make, tmp_path, optimizer=reducing, trainer={"log_steps": 1})
    for folder in ("four", "halves"):
        rates = [record["rate"] for record in log(tmp_path / folder, "train")]
        scores = [record["cer"] for record in log(tmp_path / folder, "dev")]
        stuck = sum(b >= min(scores[:i]) for i, b in enumerate(scores[:-1]) if i)
        assert rates[-1] == pytest.approx(rates[0] * max(0.02, 0.1**stuck))


def test_a_run_ends_when_its_time_is_over_and_its_rate_follows_the_clock(
    make, tmp_path, monkeypatch
):
    seconds = itertools.count()
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    settings = {"trainer": {"minutes": 0.5, "log_steps": 1}, "optimizer": {"warmup_steps": 1}}
    trainer = make(run=str(tmp_path / "run"), **settings)
    state = trainer.fit()
    assert state.seconds >= 30
    rates = [record["rate"] for record in log(tmp_path / "run", "train")]
    assert rates[-1] < 0.3 * max(rates)
    assert len(log(tmp_path / "run", "dev")) == state.epoch
    assert (tmp_path / "run" / BEST).exists()


def test_a_run_stopped_by_a_signal_in_mid_epoch_goes_on_exactly(make, tmp_path):
    make(run=str(tmp_path / "whole"), trainer={"epochs": 2}).fit()
    trainer = make(run=str(tmp_path / "cut"), trainer={"epochs": 2})
    update = trainer.update

    def interrupt(*arguments):
        if trainer.state.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return update(*arguments)

    trainer.update = interrupt
    state = trainer.fit()
    assert (state.epoch, state.step_in_epoch) == (0, 3)
    make(run=str(tmp_path / "cut"), trainer={"epochs": 2}).fit()
    assert_same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))


def test_other_settings_are_refused_on_resume(make):
    make(trainer={"epochs": 1}).fit()
    with pytest.raises(TrainingError, match=r"optimizer\.learning_rate: 0\.02 -> 0\.01"):
        make(optimizer={"learning_rate": 0.01}).fit()
    with pytest.raises(TrainingError, match="the vocabulary"):
        make(heads={"characters": {"alphabet": "abcde"}}).fit()


def test_a_run_goes_on_though_settings_were_added_since_it_began(make, settings):
    make(trainer={"epochs": 1}).fit()
    path = Path(settings["run"]) / LAST
    tensors, metadata = checkpoint.load(path)
    del metadata["config"]["model"]["cell"], metadata["config"]["trainer"]["init"]
    checkpoint.save(path, tensors, metadata)
    assert make(trainer={"epochs": 2}).fit().epoch == 2


def test_a_tiny_corpus_is_learnt_by_heart(make, settings):
    make(
        trainer={"epochs": 40, "masks_from": 99},
        augment={"speeds": [1.0], "time_masks": 0, "frequency_masks": 0},
        model={"dropout": 0.0},
    ).fit()
    (result,) = log(settings["run"], "result")
    assert result["cer"] <= 0.02
    assert log(settings["run"], "dev")[0]["cer"] > 0.2


def test_two_views_train_and_need_masks(make, settings):
    masked = {"time_masks": 1, "frequency_masks": 0}
    make(trainer={"epochs": 2}, augment=masked, loss={"consistency": 0.2}).fit()
    assert len(log(settings["run"], "dev")) == 2
    with pytest.raises(ConfigError, match="two masked views"):
        make(augment={"time_masks": 0, "frequency_masks": 0}, loss={"consistency": 0.2})


def test_early_stopping_and_what_is_kept(make, settings):
    state = make(
        optimizer={"learning_rate": 1e-9}, trainer={"epochs": 50, "patience": 2, "ema": 0.0}
    ).fit()
    assert state.epoch <= 5
    folder = Path(settings["run"])
    assert len(list(folder.glob("epoch-*.safetensors"))) == 2
    assert not list(folder.glob(".*tmp"))
    assert {"chosen", "wer", "cer"} <= checkpoint.load(folder / BEST)[1].keys()


def test_the_log_tells_what_a_healthy_run_needs(make, settings):
    make(trainer={"epochs": 1, "log_steps": 1}).fit()
    records = log(settings["run"], "train")
    assert records
    for key in ("loss", "gradient_norm", "blank_ratio", "rate", "frames_per_second", "waiting"):
        assert all(key in record for record in records)


def test_gradients_are_averaged_over_symbols_or_utterances(make, tones, tmp_path):
    first = {}
    for over in ("symbols", "utterances"):
        make(
            run=str(tmp_path / over),
            data={"batch_frames": 10_000},
            optimizer={"average_over": over, "clip": 1e9},
            trainer={"epochs": 1, "log_steps": 1},
        ).fit()
        first[over] = log(tmp_path / over, "train")[0]
    n_symbols = sum(len(u.text) for u in read_manifest(tones))
    by_symbol, by_utterance = first["symbols"], first["utterances"]
    norms = by_symbol["gradient_norm"] * n_symbols, by_utterance["gradient_norm"] * 12
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    # What is told of the loss is for each symbol in either case, as that of the dev set is.
    assert by_symbol["loss"] == pytest.approx(by_utterance["loss"], rel=1e-4)


STILL = {
    "model": {"dropout": 0.0},
    "augment": {"speeds": [1.0], "time_masks": 0, "frequency_masks": 0},
    "optimizer": {"name": "sgd", "learning_rate": 0.1},
}


def test_accumulated_batches_make_the_update_of_one_large_batch(make, tmp_path):
    for name, frames, together in (("large", 10_000, 1), ("small", 120, 100), ("pairs", 120, 2)):
        make(
            run=str(tmp_path / name),
            data={"batch_frames": frames},
            trainer={"epochs": 1, "log_steps": 1},
            **{**STILL, "optimizer": {**STILL["optimizer"], "accumulate": together}},
        ).fit()
    large, small = weights(tmp_path / "large"), weights(tmp_path / "small")
    for name, tensor in large.items():
        torch.testing.assert_close(tensor, small[name], atol=1e-5, rtol=0)
    steps = {n: len(log(tmp_path / n, "train")) for n in ("large", "small", "pairs")}
    assert steps["large"] == steps["small"] == 1
    assert steps["pairs"] > 1


def test_scaled_gradients_give_the_same_update(make, tmp_path, monkeypatch):
    """The path of fp16, but for the half precision itself, which CPUs lack."""
    make(run=str(tmp_path / "plain"), trainer={"epochs": 1}, **STILL).fit()
    trainer = make(run=str(tmp_path / "scaled"), trainer={"epochs": 1}, **STILL)
    trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    trainer.fit()
    plain, scaled = weights(tmp_path / "plain"), weights(tmp_path / "scaled")
    for name, tensor in plain.items():
        torch.testing.assert_close(tensor, scaled[name], atol=1e-6, rtol=1e-5)
    assert checkpoint.load(tmp_path / "scaled" / LAST)[1]["scaler"]["scale"] == 2.0**10


def test_a_training_set_that_cannot_be_read_is_told(make, tones, tmp_path):
    lost = tmp_path / "lost.jsonl"
    lines = [line.replace(".wav", "-lost.wav") for line in tones.read_text().splitlines(True)]
    lost.write_text("".join(lines[:11]) + tones.read_text().splitlines(True)[11])
    trainer = make(
        data={"train": [str(lost)], "batch_utterances": 1},
    )
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    lost_batches = [b for b in trainer.task.train_loader if not b.texts]
    assert len(lost_batches) == 11
    for batch in lost_batches[:5]:
        trainer.update([batch])
    assert trainer.state.bad_steps == 5
    assert_same(before, dict(trainer.model.state_dict()))
    trainer.state.bad_steps = 19
    with pytest.raises(TrainingError, match=r"the last: .*-lost\.wav: no such file"):
        trainer.update(lost_batches[:1])


def test_steps_without_finite_gradient_are_skipped_and_end_the_run(make, monkeypatch):
    from asr.train import acoustic

    def broken(model, *_):
        loss = sum(p.sum() for p in model.parameters()) * float("nan")
        return loss, torch.zeros(())

    monkeypatch.setattr(acoustic, "training_loss", broken)
    trainer = make(trainer={"epochs": 30})
    before = {k: v.clone() for k, v in trainer.model.state_dict().items()}
    with pytest.raises(TrainingError, match="without a finite gradient"):
        trainer.fit()
    assert_same(before, dict(trainer.model.state_dict()))


def test_a_run_can_start_from_the_weights_of_another(make, tmp_path):
    make(run=str(tmp_path / "first"), trainer={"epochs": 2}).fit()
    init = str(tmp_path / "first" / LAST)
    other = make(
        run=str(tmp_path / "second"),
        trainer={"epochs": 0, "init": init},
        heads={"characters": {"alphabet": "abcde"}},
    )
    other.fit()
    known, now = weights(tmp_path / "first"), other.model.state_dict()
    for name, tensor in now.items():
        same_shape = known[f"ema.{name}"].shape == tensor.shape
        assert same_shape == (not name.startswith("heads."))
        assert not same_shape or torch.equal(known[f"ema.{name}"], tensor)


def test_weights_that_do_not_fit_are_refused(make, tmp_path):
    with pytest.raises(TrainingError, match="no weights in this file"):
        make(trainer={"init": str(tmp_path / "none")}).fit()
    checkpoint.save(tmp_path / "foreign", {"a": torch.ones(1)}, {})
    with pytest.raises(TrainingError, match="none of its weights fits"):
        make(trainer={"init": str(tmp_path / "foreign")}).fit()


def test_gradients_are_clipped_by_value_too(make, settings):
    trainer = make(
        optimizer={"clip_value": 1e-3, "clip": 1e9}, trainer={"epochs": 1, "log_steps": 1}
    )
    trainer.fit()
    most = 1e-3 * sum(p.numel() for p in trainer.model.parameters()) ** 0.5
    assert all(0 < record["gradient_norm"] <= most for record in log(settings["run"], "train"))


def test_each_update_draws_a_right_context_and_a_resumed_run_the_same(make, tmp_path):
    model = {"chunk": 8, "right_context": 2}
    two_and_two_equal_four(make, tmp_path, model=model, trainer={"right_contexts": [None, 1, 4]})
    make(model=model, run=str(tmp_path / "fixed")).fit()
    drawn, fixed = weights(tmp_path / "four"), weights(tmp_path / "fixed")
    assert not all(torch.equal(drawn[name], fixed[name]) for name in drawn)
    with pytest.raises(ConfigError, match="right context"):
        make(trainer={"right_contexts": [1]})
