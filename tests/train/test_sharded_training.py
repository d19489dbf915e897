"""Training from shards equals itself when interrupted, wherever the shards are."""

import dataclasses
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from asr.data.manifest import read_manifest  # noqa: E402
from asr.train import checkpoint  # noqa: E402
from asr.train.checkpoint import LAST  # noqa: E402
from data_prep.shard import shard  # noqa: E402


@pytest.fixture
def index(tones, tmp_path):
    """The twelve recordings in four shards."""
    utterances = [
        dataclasses.replace(u, extra={"id": str(i)}) for i, u in enumerate(read_manifest(tones))
    ]
    return Path(shard(utterances, tmp_path / "shards", "train", max_bytes=60_000))


@pytest.fixture
def bucket(index, store):
    """The address of the same shards on an S3 server."""
    s3fs = pytest.importorskip("s3fs")
    s3fs.S3FileSystem().put(f"{index.parent}/", f"{store}/train/", recursive=True)
    return f"{store}/train/{index.name}"


def weights(folder) -> dict[str, torch.Tensor]:
    return checkpoint.load(folder / LAST)[0]


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def halves(make, folder, **groups):
    """Two epochs, stopped and saved, and two more by another trainer."""
    trainer = make(run=str(folder), **groups)
    evaluate = trainer._evaluate

    def stop_after_two():
        evaluate()
        if trainer.state.epoch == 2:
            trainer.stop()

    trainer._evaluate = stop_after_two
    assert trainer.fit().epoch == 2
    assert make(run=str(folder), **groups).fit().epoch == 4


@pytest.mark.slow
def test_two_and_two_epochs_equal_four_with_shards_workers_and_augmentation(make, index, tmp_path):
    groups = {
        "data": {"train": [str(index)], "shuffle_shards": 2, "workers": 2},
        "loss": {"consistency": 0.2},
    }
    make(run=str(tmp_path / "four"), **groups).fit()
    halves(make, tmp_path / "halves", **groups)
    assert_same(weights(tmp_path / "four"), weights(tmp_path / "halves"))
    # The number of workers changes nothing either.
    groups["data"]["workers"] = 0
    make(run=str(tmp_path / "alone"), **groups).fit()
    assert_same(weights(tmp_path / "four"), weights(tmp_path / "alone"))


def test_shards_in_an_object_store_train_like_those_on_a_disk(make, index, bucket, tmp_path):
    for name, address in (("disk", str(index)), ("store", bucket)):
        make(
            run=str(tmp_path / name),
            data={"train": [address], "dev": [address], "shuffle_shards": 2},
            trainer={"epochs": 1},
        ).fit()
    assert_same(weights(tmp_path / "disk"), weights(tmp_path / "store"))
    fetched = list((tmp_path / "store" / "shards").glob("*.tar"))
    assert len(fetched) == 4
    assert not (tmp_path / "disk" / "shards").exists()


def test_a_lost_shard_is_told_and_the_others_go_on(make, index, tmp_path, capsys):
    (index.parent / "train-000002.tar").unlink()
    run = tmp_path / "run"
    make(run=str(run), data={"train": [str(index)]}, trainer={"epochs": 1, "log_steps": 1}).fit()
    told = capsys.readouterr().err
    assert "train-000002.tar#" in told
    assert "cannot be read: No such file" in told
