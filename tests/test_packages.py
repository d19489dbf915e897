"""A package whose library does not load is told with the releases that work together."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path

import click
import pytest

from asr import doctor, packages
from asr.cli import main
from asr.cli._training import needs_training_extra
from asr.errors import MissingDependencyError

UNDEFINED = "libtorchaudio.so: undefined symbol: torch_exception_get_what_without_backtrace"


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Put a package of this name first that fails as it is imported."""

    def put(name: str, statement: str = f"raise OSError({UNDEFINED!r})") -> None:
        folder = tmp_path / "broken" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(statement)
        for loaded in [m for m in sys.modules if m == name or m.startswith(f"{name}.")]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.syspath_prepend(folder.parent)

    return put


@pytest.mark.parametrize(
    "statement",
    [
        f"raise OSError({UNDEFINED!r})",
        f"raise ImportError({UNDEFINED!r})",
        f"raise AttributeError({UNDEFINED!r})",
        f"raise RuntimeError({UNDEFINED!r} + chr(10) + 'and more')",
    ],
)
def test_a_library_that_does_not_load_is_told_with_the_pair(broken, statement):
    broken("torchaudio", statement)
    with pytest.raises(MissingDependencyError) as caught:
        packages.load("torchaudio", "torchaudio.functional")
    message = str(caught.value)
    assert "undefined symbol" in message
    assert "\n" not in message
    assert "torch==2.14.1 torchaudio==2.11.1" in message


def test_what_is_not_there_is_told_as_such():
    with pytest.raises(MissingDependencyError, match="no_such_thing is not installed"):
        packages.load("no_such_thing")


@pytest.mark.parametrize("name", ["onnxruntime", "numba", "av", "soxr", "soundfile"])
def test_doctor_names_what_works_for_each_compiled_package(broken, name):
    broken(name)
    finding = doctor._guard(name, lambda: doctor._package(name, name))
    assert finding.state == "broken"
    assert "undefined symbol" in finding.detail
    assert f"{name}=={packages.TESTED[name]}" in finding.remedy


def test_doctor_loads_the_library_of_torchaudio(broken):
    pytest.importorskip("torchaudio")
    assert doctor._guard("torchaudio", doctor.LIBRARIES["torchaudio"]).state == "ok"
    broken("torchaudio")
    finding = doctor._guard("torchaudio", doctor.LIBRARIES["torchaudio"])
    assert finding.state == "broken"
    assert "torch==2.14.1 torchaudio==2.11.1" in finding.remedy


def test_doctor_sees_an_operator_that_is_not_there(monkeypatch):
    functional = pytest.importorskip("torchaudio.functional")

    def absent(*arguments, **options):
        raise AttributeError("'_OpNamespace' 'torchaudio' object has no attribute 'rnnt_loss'")

    monkeypatch.setattr(functional, "rnnt_loss", absent)
    finding = doctor._guard("torchaudio", doctor.LIBRARIES["torchaudio"])
    assert finding.state == "broken"
    assert "torch==2.14.1 torchaudio==2.11.1" in finding.remedy


def test_a_training_command_names_the_pair(broken):
    pytest.importorskip("torch")
    broken("torchaudio")

    @needs_training_extra
    def command() -> None:
        import torchaudio  # noqa: F401

    with pytest.raises(MissingDependencyError, match=r"torch==2\.14\.1 torchaudio==2\.11\.1"):
        command()


def test_a_training_command_lets_errors_of_files_through():
    @needs_training_extra
    def command() -> None:
        Path("/no/such/file").read_bytes()

    with pytest.raises(FileNotFoundError):
        command()


def test_every_command_points_to_the_doctor(monkeypatch, capsys):
    @click.command()
    def command() -> None:
        raise ImportError(UNDEFINED)

    monkeypatch.setattr("asr.cli.cli", command)
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 1
    assert "asr doctor" in capsys.readouterr().err


def test_what_the_constraints_name_installs_on_the_oldest_python():
    """Debian 12 has 3.11.2: a release that asks for a later 3.11 cannot be installed there."""
    specifiers = pytest.importorskip("packaging.specifiers")
    canonical = pytest.importorskip("packaging.utils").canonicalize_name
    lines = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    named = {canonical(line.split("==")[0]) for line in lines if "==" in line}
    refused = [
        f"{found.name} {found.version} needs Python {required}"
        for found in metadata.distributions()
        if canonical(found.name) in named
        and (required := found.metadata["Requires-Python"])
        and not specifiers.SpecifierSet(required).contains("3.11.0")
    ]
    assert not refused
