"""`asr transcribe --cluster` writes what `asr transcribe` writes, once, whatever is lost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from transcribing import files, record, transcriber

from asr import stores
from asr.cli import _cluster
from asr.cli._sources import sources
from asr.cli._table import Table
from asr.errors import ManifestError

TEXTS = ["cab", "bad cab", "a cafe", "bag", "dad", "face", "a bad face", "cabbage"]


@pytest.fixture
def recordings(tmp_path):
    """A folder with recordings, one of them of six utterances, and one that is none."""
    folder = tmp_path / "in"
    for number, text in enumerate(TEXTS):
        record(folder / f"{number % 2}" / f"{number}.flac", text)
    record(folder / "long.wav", "        ".join(TEXTS[:6]))
    (folder / "broken.wav").write_bytes(b"no recording")
    return folder


def rows(out):
    pq = pytest.importorskip("pyarrow.parquet")
    with stores.reading(stores.join(out, "transcripts.parquet")) as table:
        return {row["uri"].rpartition("/")[2]: row for row in pq.read_table(table).to_pylist()}


def times(bucket):
    found = bucket.find("speech/out", detail=True)
    return {path: info["LastModified"] for path, info in found.items()}


@pytest.mark.slow
def test_a_store_is_transcribed_like_a_folder_though_a_node_is_lost(
    nodes, store, recordings, tmp_path, tone_bundle, capsys, monkeypatch
):
    import s3fs

    bucket = s3fs.S3FileSystem()
    bucket.put(f"{recordings}/", "speech/in/", recursive=True)
    transcribe = transcriber(tone_bundle, capsys)
    status, _, plain_errors = transcribe(recordings, "-o", tmp_path / "plain", "-f", "txt,json")
    assert status == 1
    plain = files(tmp_path / "plain")

    lost = []
    add = Table.add

    def lose_a_node(table, row):
        if not lost:
            node = next(n for n in nodes.list_all_nodes() if n is not nodes.head_node)
            nodes.remove_node(node, allow_graceful=False)
            lost.append(node)
        add(table, row)

    monkeypatch.setattr(Table, "add", lose_a_node)
    monkeypatch.setattr(_cluster, "_BATCH_SIZE", 2)
    monkeypatch.setattr(_cluster, "LARGE", 1 + (recordings / "1" / "1.flac").stat().st_size * 2)
    cluster = ["--cluster", nodes.address, "-f", "txt,json"]
    status, _, errors = transcribe(f"{store}/in", "-o", f"{store}/out", *cluster)
    assert lost
    assert status == 1
    assert "broken.wav" in errors
    assert errors.count("\n") == plain_errors.count("\n") == 1
    written = {
        path.removeprefix("speech/out/"): bucket.cat_file(path).decode()
        for path in bucket.find("speech/out")
        if not path.endswith(".parquet")
    }
    assert written == plain
    table = rows(f"{store}/out")
    assert len(table) == len(TEXTS) + 2
    assert table["1.flac"]["text"] == json.loads(plain["1/1.json"])["text"] == "bad cab"
    assert [word["word"] for word in table["1.flac"]["words"]] == ["bad", "cab"]
    assert "broken.wav" in table["broken.wav"]["error"]
    assert table["long.wav"]["error"] is None
    assert table["long.wav"]["duration"] > 5

    # What is done is done, but for what has failed, has changed or is gone.
    done = {
        path: info["LastModified"] for path, info in bucket.find("speech/out", detail=True).items()
    }
    nodes.add_node(num_cpus=1, object_store_memory=100 << 20)
    bucket.rm("speech/in/broken.wav")
    assert transcribe(f"{store}/in", "-o", f"{store}/out", *cluster)[0] == 0
    again = {
        path: info["LastModified"] for path, info in bucket.find("speech/out", detail=True).items()
    }
    assert again == done
    bucket.rm("speech/out/0/2.txt")
    bucket.put_file(str(recordings / "0" / "0.flac"), "speech/in/1/1.flac")
    assert transcribe(f"{store}/in", "-o", f"{store}/out", *cluster)[0] == 0
    assert bucket.cat_file("speech/out/0/2.txt").decode() == plain["0/2.txt"]
    assert bucket.cat_file("speech/out/1/1.txt").decode() == plain["0/0.txt"]
    assert len(rows(f"{store}/out")) == len(TEXTS) + 2


def test_what_only_makes_sense_on_one_machine_is_refused(tone_bundle, capsys, tmp_path):
    transcribe = transcriber(tone_bundle, capsys)
    wav = record(tmp_path / "a.wav", "cab")
    for arguments, message in (
        ([wav], "needs --out"),
        ([wav, "-o", tmp_path / "out", "--jobs", 2], "--jobs is for one machine"),
        (["-", "-o", tmp_path / "out"], "standard input"),
    ):
        status, _, errors = transcribe("--cluster", "local", *arguments)
        assert (status, message in errors) == (2, True), errors
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    status, _, errors = transcribe(wav, "-o", tmp_path / "mine", "--cluster", "local")
    assert (status, (tmp_path / "mine" / "a.txt").read_text()) == (1, "mine")
    assert "--overwrite" in errors


MEMORY = """
import resource, sys
from asr.cli._cluster import batches
from asr.cli._sources import sources
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
n = sum(map(len, batches(sources([sys.argv[1]], "", False))))
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_list_of_a_hundred_thousand_takes_little_memory(tmp_path):
    listing = tmp_path / "list.jsonl"
    with listing.open("w") as file:
        for i in range(100_000):
            file.write(json.dumps({"uri": f"s3://bucket/{i // 100}/{i}.flac", "size": 1000}) + "\n")
    command = [sys.executable, "-c", MEMORY, str(listing)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    n, kilobytes = map(int, done.stdout.split())
    assert n == 100_000
    assert kilobytes < 40_000


def test_tables_name_recordings(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    uris = ["s3://bucket/calls/a.flac", str(tmp_path / "b" / "c.wav"), "d.ogg"]
    pq.write_table(pa.table({"uri": uris}), tmp_path / "list.parquet")
    (tmp_path / "list.jsonl").write_text("".join(json.dumps({"uri": u}) + "\n" for u in uris))
    pytest.importorskip("lance").write_dataset(pa.table({"uri": uris}), tmp_path / "list.lance")
    for name in ("list.parquet", "list.jsonl", "list.lance"):
        found = list(sources([str(tmp_path / name)], "", False))
        assert [s.path for s in found] == [*uris[:2], str(tmp_path / "d.ogg")]
        assert [s.stem for s in found] == ["bucket/calls/a", "b/c", "d"]


@pytest.mark.parametrize("line", ['{"audio": "a.wav"}', "[]", "{", '{"uri": "a.wav", "offset": 1}'])
def test_other_tables_are_refused(tmp_path, line, tone_bundle, capsys):
    (tmp_path / "list.jsonl").write_text(line + "\n")
    status, _, errors = transcriber(tone_bundle, capsys)(
        tmp_path / "list.jsonl", "-o", tmp_path / "out", "--cluster", "local"
    )
    assert status == 1
    assert "list.jsonl" in errors


def test_a_lance_table_that_is_none_is_refused(tmp_path):
    pytest.importorskip("lance")
    (tmp_path / "list.lance").mkdir()
    with pytest.raises(ManifestError, match=r"list\.lance: cannot be read"):
        list(sources([str(tmp_path / "list.lance")], "", False))
