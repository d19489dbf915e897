"""What is compiled once after an installation: told while it happens, and only then."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import soundfile

from asr.cli._recognizer_options import COMPILING
from asr.compiled import on_compiling
from asr.decode import make_decoder
from asr.decode.decoder import compile_ahead
from asr.packaging.bundle import Bundle


def test_it_is_told_once() -> None:
    told: list[str] = []
    on_compiling(lambda: told.append("now"))

    @numba.njit
    def add(a, b):  # type: ignore[no-untyped-def]
        return a + b

    add(1, 2)
    add(1.0, 2.0)  # compiled anew
    assert told == ["now"]


def test_the_search_gets_ready_on_a_thread(
    strict_tone_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from asr.decode import search

    decoder = make_decoder(strict_tone_bundle)
    classes = len(strict_tone_bundle.vocabulary)
    decoder.decode(np.full((2, classes), -np.log(classes), np.float32))
    assert search.search.signatures
    assert compile_ahead(decoder, strict_tone_bundle) is None  # it is ready

    compiled = search.search

    class Untried:
        __name__, signatures, stats = "untried", (), SimpleNamespace(cache_path=str(tmp_path))

        def __call__(self, *arguments: object) -> object:
            return compiled(*arguments)

    monkeypatch.setattr(search, "search", Untried())
    monkeypatch.setattr(search, "search_pronounced", Untried())
    cached = tmp_path / "search.untried-1.py311.nbi"
    cached.touch()
    assert compile_ahead(decoder, strict_tone_bundle) is None  # the decoding itself loads it
    cached.unlink()
    thread = compile_ahead(decoder, strict_tone_bundle)
    assert thread is not None
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.slow
def test_a_terminal_shows_that_the_search_is_compiled(tone_bundle: Bundle, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000, np.int16), 16_000)
    command = [sys.executable, "-m", "asr", "transcribe", str(tmp_path / "a.wav")]
    command += ["--model", str(tone_bundle.folder)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
    shown = []
    for _ in range(2):
        ours, theirs = pty.openpty()
        subprocess.run(
            command, stdout=subprocess.DEVNULL, stderr=theirs, env=environment, check=True
        )
        os.close(theirs)
        shown.append(os.read(ours, 1 << 16).decode(errors="replace") if _readable(ours) else "")
        os.close(ours)
    assert COMPILING in shown[0]
    assert COMPILING not in shown[1]


def _readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 1)[0])
