"""WebDataset shards: every utterance once, whole, and the same bytes in every run."""

import hashlib
import json
import tarfile
from collections import defaultdict
from pathlib import Path

import pytest

from asr.errors import ManifestError
from asr.types import Utterance
from data_prep.shard import shard


@pytest.fixture
def utterances(digits, tmp_path):
    return [
        Utterance(
            str(d.write(tmp_path / "in" / f"{i}.flac")), 0.5 + i, d.text, d.speaker, {"id": f"u{i}"}
        )
        for i, d in enumerate(digits[:20])
    ]


def _read(index_path):
    """Recordings and lines, as any reader of WebDataset groups them."""
    index = json.loads(index_path.read_text())
    found = []
    for facts in index["shards"]:
        path = index_path.parent / facts["path"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == facts["sha256"]
        assert path.stat().st_size == facts["bytes"]
        samples: dict[str, dict[str, bytes]] = defaultdict(dict)
        with tarfile.open(path) as tar:
            for info in tar:
                key, _, ending = info.name.partition(".")
                samples[key][ending] = tar.extractfile(info).read()
        lines = [json.loads(sample["json"]) for sample in samples.values()]
        assert len(lines) == facts["utterances"]
        assert sum(line["duration"] for line in lines) == pytest.approx(facts["duration"])
        found += zip(lines, (sample["flac"] for sample in samples.values()), strict=True)
    assert len(found) == index["utterances"]
    return index, found


def test_every_utterance_is_in_one_shard_with_its_recording(utterances, tmp_path):
    index, found = _read(Path(shard(utterances, tmp_path / "out", "train", max_bytes=30_000)))
    assert (index["format"], index["version"]) == ("asr-shards", 2)
    assert len(index["shards"]) > 3
    assert index["shards"][0]["path"] == "train-000000.tar"
    assert index["duration"] == sum(u.duration for u in utterances)
    by_id = {line["id"]: (line, recording) for line, recording in found}
    assert len(by_id) == len(utterances)
    for utterance in utterances:
        line, recording = by_id[utterance.extra["id"]]
        assert recording == Path(utterance.audio_filepath).read_bytes()
        assert line == {
            "duration": utterance.duration, "text": utterance.text,
            "speaker": utterance.speaker, "id": utterance.extra["id"],
        }  # fmt: skip


def test_the_order_is_that_of_the_seed(utterances, tmp_path):
    def order(folder, seed):
        _, found = _read(Path(shard(utterances, tmp_path / folder, "a", seed=seed)))
        return [line["id"] for line, _ in found]

    straight = [u.extra["id"] for u in utterances]
    assert order("kept", None) == straight
    assert order("one", 1) != straight
    assert sorted(order("one", 1)) == sorted(straight)
    assert order("two", 2) != order("one", 1)


def test_the_same_call_gives_the_same_bytes(utterances, tmp_path):
    for folder in ("a", "b"):
        shard(utterances, tmp_path / folder, "train", max_bytes=30_000)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_missing_recording_leaves_no_index(utterances, tmp_path):
    utterances.append(Utterance("/nowhere/x.flac", 1.0, "x"))
    with pytest.raises(ManifestError, match=r"/nowhere/x\.flac.*asr-prepare check"):
        shard(utterances, tmp_path / "out", "train")
    assert not list((tmp_path / "out").glob("*.index.json"))
