"""The installation's own check."""

from __future__ import annotations

import pytest

from asr import doctor
from asr.cli import main
from asr.errors import BundleError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without what takes long: the compiler and the model have tests of their own."""
    for name in ("_check_search", "_check_model"):
        monkeypatch.setattr(doctor, name, lambda: "")


def findings() -> dict[str, doctor.Finding]:
    return {finding.subject: finding for finding in doctor.examine()}


@pytest.mark.usefixtures("quick")
def test_this_installation_is_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "FLAC, MP3, M4A are written and read" in out
    assert "BROKEN" not in out


@pytest.mark.usefixtures("quick")
def test_what_is_broken_comes_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def damaged() -> str:
        raise BundleError("damaged", "copy it again")

    monkeypatch.setattr(doctor, "_check_model", damaged)
    monkeypatch.setitem(doctor.PACKAGES, "no-such-thing", "no_such_thing")
    monkeypatch.setitem(doctor.EXTRAS, "moon", ("no-such-thing",))
    found = findings()
    assert found["bundled model"] == doctor.Finding(
        "broken", "bundled model", "damaged", "copy it again"
    )
    assert found["no-such-thing"].state == "broken"
    assert "pip install" in found["no-such-thing"].remedy
    assert found["extra [moon]"].state == "missing"
    with pytest.raises(SystemExit) as end:
        main(["doctor"])
    assert end.value.code == 1
    assert "-> copy it again" in capsys.readouterr().out


@pytest.mark.slow
def test_the_search_is_compiled() -> None:
    assert "ready in" in doctor._check_search()
