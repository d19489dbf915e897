"""Processes that transcribe share the cores."""

from __future__ import annotations

import os

import pytest

from asr.cli._processes import _inherited


@pytest.mark.parametrize("own", [None, "4"])
def test_a_variable_is_inherited_unless_the_user_has_set_it(monkeypatch, own) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if own:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", own)
    with _inherited("OPENBLAS_NUM_THREADS", "1"):
        assert os.environ["OPENBLAS_NUM_THREADS"] == (own or "1")
    assert os.environ.get("OPENBLAS_NUM_THREADS") == own
