"""The comparison with other recognisers, of which one that is known stands in for all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from benchmark_scripts import BENCHMARKS, load

pytest.importorskip("jiwer")

from asr.data.manifest import write_manifest
from asr.types import Utterance

peers = load("peers")

PARROT = f"""
import os, sys
sys.path.insert(0, {str(BENCHMARKS / "peers")!r})
from protocol import serve
serve(lambda path: f"{{sys.argv[1]}} {{os.getpid()}}!", __file__)
"""


@pytest.fixture
def parrot(tmp_path: Path) -> tuple[Path, peers.Peer]:
    """An environment, and a program in it that says its argument and the number of its process."""
    packages = tmp_path / "env" / "lib" / "python3" / "site-packages"
    (packages / "pip").mkdir(parents=True)
    (packages / "pip" / "code.py").write_bytes(bytes(5_000_000))
    (packages / "code.py").write_bytes(bytes(2_000_000))
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir()
    python.symlink_to(os.path.realpath(sys.executable))
    script = tmp_path / "parrot.py"
    script.write_text(PARROT)
    return python, peers.Peer((), str(script), arguments=("Hello",))


@pytest.fixture
def sounds(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.wav" for number in range(4)]
    for path in paths:
        soundfile.write(path, np.zeros(16_000, np.float32), 16_000)
    return paths


def test_a_process_is_replaced_after_its_share(parrot, sounds) -> None:
    heard = peers.hear(*parrot, [(path, 1.0) for path in sounds])
    processes = [text.split()[1] for text in heard.texts]
    assert processes[0] == processes[1] != processes[2] == processes[3]
    heard = peers.hear(*parrot, [(path, 1.0) for path in sounds], lifetime=1)
    assert len({text.split()[1] for text in heard.texts}) == 4
    assert heard.disk == pytest.approx(2.0, rel=1e-3)  # without pip
    assert 0 < heard.model < 0.001
    assert 1 < heard.peak < 100
    assert heard.start > 0
    assert 0 <= heard.rtf < 0.1


def test_errors_are_counted_in_normalised_words(parrot, sounds, tmp_path, capsys) -> None:
    manifest = tmp_path / "dev.jsonl"
    write_manifest(manifest, [Utterance(str(path), 1.0, "hello world") for path in sounds])
    peers.compare_errors(str(manifest), 2, {"parrot": parrot}, core=0)
    table = capsys.readouterr().out
    assert "dev.jsonl: 2 recordings, 0.0 minutes" in table
    row = next(line for line in table.splitlines() if line.startswith("| parrot"))
    assert 50 <= float(row.split("|")[2]) <= 400  # the number of the process is read out as words
    assert row.count("|") == table.splitlines()[3].count("|")


def test_words_are_counted_where_none_are_said(parrot, tmp_path, capsys) -> None:
    soundfile.write(tmp_path / "music.wav", np.zeros(16_000 * 45, np.float32), 16_000)
    Path(parrot[1].script).write_text(PARROT.replace("{os.getpid()}", "la"))
    peers.count_inventions(str(tmp_path / "*.wav"), None, {"parrot": parrot}, core=0)
    table = capsys.readouterr().out
    assert "2 recordings, 0.8 minutes" in table  # in pieces of 30 s
    assert "| parrot | 2 | 4 | 5.33 |" in table


def test_of_one_that_fails_a_row_says_so(parrot, capsys) -> None:
    python, peer = parrot
    broken = Path(peer.script).with_name("broken.py")
    broken.write_text("raise SystemExit(3)")
    named = {"broken": (python, peers.Peer((), str(broken))), "parrot": parrot}
    peers.count_inventions("silence", None, named, core=0)
    *_, row, last = capsys.readouterr().out.splitlines()
    assert row == "| broken | ended with 3 |"
    assert last.startswith("| parrot |")
