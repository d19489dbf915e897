"""Evaluation, alignment, pseudo-labels and shards come out alike on a cluster and without one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from transcribing import files, options, record

from asr import cluster
from asr.cli import main
from asr.data.shards import read_index
from data_prep.cli import main as prepare

TEXTS = ["cab", "bad cab", "a cafe", "bag"]


@pytest.fixture
def address(nodes):
    """Of the cluster, connected to once for all commands."""
    with cluster.connected(nodes.address):
        yield nodes.address


@pytest.fixture
def manifest(tmp_path):
    """Recordings with their texts, one of which is wrong, and a recording that is none."""
    lines = []
    for number, text in enumerate(TEXTS):
        wav = record(tmp_path / "in" / f"{number}.flac", text)
        said = "bad" if number == 3 else text
        lines.append({"audio_filepath": str(wav), "duration": 0.24 * len(text), "text": said})
    path = tmp_path / "in" / "dev.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def call(program, *arguments):
    with pytest.raises(SystemExit) as end:
        program([*map(str, arguments)])
    return int(end.value.code or 0)


@pytest.mark.slow
def test_the_same_with_and_without_a_cluster(
    address, store, manifest, tone_bundle, tmp_path, capsys
):
    model = ["--model", tone_bundle.folder]
    told, aligned, labelled = {}, {}, {}
    for name, where in (("plain", []), ("cluster", ["--cluster", address])):
        out = tmp_path / name
        capsys.readouterr()
        arguments = [*options(tone_bundle), *where]
        assert call(main, "evaluate", *arguments, "--manifest", manifest, "--report", out) == 0
        told[name] = capsys.readouterr().out.partition("  CER")[0]
        report = (out / "in-dev.txt").read_text()
        assert "bag" in report
        align = ["align", manifest, *model, "--vad", "energy", "-f", "json", "-o", out / "aligned"]
        assert call(main, *align, *where) == 0
        aligned[name] = files(out / "aligned")
        label = ["pseudo-label", manifest.parent, *model, "--to", out, "--min-words", 1]
        assert call(prepare, *label, "--confidence", 0, *where) == 0
        labelled[name] = (out / "pseudo.jsonl").read_text()
        to = f"{store}/shards" if where else out
        assert call(prepare, "shard", manifest, "--to", to, "--megabytes", 1, *where) == 0
    assert told["plain"] == told["cluster"]
    assert len(aligned["plain"]) == len(TEXTS)
    assert aligned["plain"] == aligned["cluster"]
    assert labelled["plain"] == labelled["cluster"]
    plain, stored = (read_index(f"{at}/dev.index.json") for at in (tmp_path / "plain", to))
    assert [u.text for u in plain] == [u.text for u in stored]
    assert {u.extra["sha256"] for u in plain} == {u.extra["sha256"] for u in stored}
    tar = (tmp_path / "plain" / "dev-000000.tar").read_bytes()
    assert plain[0].extra["sha256"] == hashlib.sha256(tar).hexdigest()
    assert Path(plain[0].extra["shard"]).name == "dev-000000.tar"
