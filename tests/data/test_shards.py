"""Shards: planned exactly, read from where they lie, and bounded on the disk."""

import json
import shutil
import time
from pathlib import Path

import fsspec
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.data.manifest import read_manifest, write_manifest
from asr.data.shards import ShardReader, ShardSampler, read_index, shard_numbers
from asr.errors import AudioError, ManifestError
from asr.types import Utterance
from data_prep.shard import shard


@pytest.fixture
def utterances(tmp_path) -> list[Utterance]:
    made = []
    for i in range(10):
        path = tmp_path / "in" / f"{i}.flac"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.random.default_rng(i).uniform(-0.1, 0.1, 1600), 16_000)
        made.append(Utterance(str(path), 0.1, f"text {i}", "ann", {"id": f"u{i}"}))
    return made


@pytest.fixture
def index(utterances, tmp_path):
    """Ten utterances in five shards."""
    return Path(shard(utterances, tmp_path / "out", "train", max_bytes=6_000))


@pytest.fixture
def in_memory(index):
    """The same shards at an address."""
    for path in index.parent.iterdir():
        with fsspec.open(f"memory://bucket/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    yield f"memory://bucket/{index.name}"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_what_was_written_is_read(utterances, index, tmp_path):
    found = {u.extra["id"]: u for u in read_index(str(index))}
    reader = ShardReader(tmp_path / "spool", keep=1)
    assert len(found) == len(utterances)
    for wanted in utterances:
        utterance = found[wanted.extra["id"]]
        assert (utterance.text, utterance.speaker) == (wanted.text, "ann")
        with open(wanted.audio_filepath, "rb") as file:  # noqa: PTH123
            assert reader.open(utterance).read() == file.read()
    assert not (tmp_path / "spool").exists()  # files on a disk are read where they lie


def test_what_has_an_address_is_fetched_once_into_a_bounded_folder(in_memory, tmp_path):
    found = read_index(in_memory)
    reader = ShardReader(tmp_path / "spool", keep=2)
    for utterance in found:
        soundfile.read(reader.open(utterance))
        assert len(list((tmp_path / "spool").glob("*.tar"))) <= 2
    fsspec.filesystem("memory").rm("/bucket", recursive=True)
    reader.open(found[-1])
    with pytest.raises(AudioError, match=r"memory://bucket/train-000000\.tar: cannot be fetched"):
        reader.open(found[0])
    fsspec.filesystem("memory").mkdir("/bucket")


def test_shards_are_fetched_ahead(in_memory, tmp_path):
    found = read_index(in_memory)
    ShardReader(tmp_path / "spool", keep=9).fetch(found)
    for _ in range(500):
        if len(list((tmp_path / "spool").glob("*.tar"))) == 5:
            break
        time.sleep(0.01)
    fsspec.filesystem("memory").rm("/bucket/train-000000.tar")
    assert ShardReader(tmp_path / "spool", keep=9).open(found[0]).read()


def test_wrong_bytes_are_no_shard(in_memory, tmp_path, monkeypatch):
    monkeypatch.setattr("asr.data.shards._FIRST_WAIT", 0.0)
    found = read_index(in_memory)
    with fsspec.open(found[0].extra["shard"], "wb") as file:
        file.write(b"something else")
    reader = ShardReader(tmp_path / "spool", keep=2)
    with pytest.raises(AudioError, match="not the bytes that the index promises"):
        reader.open(found[0])
    assert not list((tmp_path / "spool").glob("*.tar"))
    reader.open(found[-1])  # the others are as they were


def test_a_shard_that_was_cut_is_told(index, tmp_path):
    found = read_index(str(index))
    path = index.parent / "train-000000.tar"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(AudioError, match="ends before it"):
        ShardReader(tmp_path, keep=1).open(found[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not an index of shards"),
        ({"version": 1}, "version 1, not 2.*asr-prepare shard"),
    ],
)
def test_other_indices_are_refused(index, change, message):
    index.write_text(json.dumps({**json.loads(index.read_text()), **change}))
    with pytest.raises(ManifestError, match=message):
        read_index(str(index))


def test_an_index_that_is_not_there(index):
    with pytest.raises(ManifestError, match=r"none\.index\.json: cannot be read"):
        read_index("none.index.json")
    (index.parent / "train-000001.jsonl").write_text("")
    with pytest.raises(ManifestError, match="0 lines, not 2"):
        read_index(str(index))


def test_manifests_beside_shards_are_numbered_like_them(index, utterances, tmp_path):
    write_manifest(tmp_path / "m.jsonl", utterances)
    plain = read_manifest(tmp_path / "m.jsonl")
    assert shard_numbers(plain) is None
    numbers = shard_numbers([*read_index(str(index)), *plain])
    assert numbers[:10] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert set(numbers[10:]) == {5}
    shutil.rmtree(index.parent)


plans = st.fixed_dictionaries(
    {
        "shards": st.lists(st.integers(0, 6), min_size=1, max_size=40).map(
            lambda s: [sorted(set(s)).index(n) for n in s]
        ),
        "window": st.integers(1, 4),
        "world": st.integers(1, 3),
        "epoch": st.integers(0, 2),
        "sorted_first": st.booleans(),
    }
)


@settings(max_examples=50)
@given(plans)
def test_every_utterance_is_in_one_batch_of_one_process(plan):
    lengths = [5 + 7 * i % 11 for i in range(len(plan["shards"]))]
    samplers = [
        ShardSampler(
            lengths, 30, shards=plan["shards"], window=plan["window"], seed=3, rank=rank,
            world_size=plan["world"], sorted_first_epoch=plan["sorted_first"],
        )
        for rank in range(plan["world"])
    ]  # fmt: skip
    seen, n_steps = [], set()
    for sampler in samplers:
        sampler.set_epoch(plan["epoch"])
        batches = list(sampler)
        n_steps.add(len(batches))
        seen += [index for batch in batches for _, index in batch]
        assert all(len(b) * max(lengths[i] for _, i in b) <= 30 for b in batches if b)
        # The shards in use at any time are those of one window.
        shards = [{plan["shards"][i] for _, i in b} for b in batches]
        last = {s: k for k, found in enumerate(shards) for s in found}
        first = {s: k for k, found in reversed(list(enumerate(shards))) for s in found}
        for k in range(len(batches)):
            assert sum(first[s] <= k <= last[s] for s in first) <= plan["window"]
        # What is gone on with is what would have come.
        middle = len(batches) // 2
        sampler.set_epoch(plan["epoch"], middle)
        assert list(sampler) == batches[middle:]
    assert sorted(seen) == list(range(len(lengths)))
    assert len(n_steps) == 1


def test_what_is_needed_soon_is_asked_for():
    asked = []
    sampler = ShardSampler(
        [4] * 12, 8, shards=[i // 2 for i in range(12)], window=2, shuffle=False,
        fetch=asked.append,
    )  # fmt: skip
    assert len(list(sampler)) == 6
    assert asked == [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5]]
    asked.clear()
    sampler.set_epoch(0, 3)  # in the middle of the second window
    assert len(list(sampler)) == 3
    assert asked == [[2, 3, 4, 5], [4, 5]]
