"""`asr plot` draws what is inside a run."""

import pytest

torch = pytest.importorskip("torch")

from click.testing import CliRunner  # noqa: E402

from asr.cli import cli  # noqa: E402
from asr.data.manifest import read_manifest  # noqa: E402


@pytest.fixture
def run(make, settings):
    make(
        model={"hidden_size": 8, "attention_heads": 2}, trainer={"epochs": 1, "log_steps": 1}
    ).fit()
    return settings["run"]


def test_every_picture_of_a_run(run, tones, tmp_path):
    recording = read_manifest(tones)[0].audio_filepath
    for arguments in (
        ["curves", run, run],
        ["sensitivity", recording, "-m", run, "--symbol", "a"],
        ["sensitivity", recording, "-m", run, "--time", "0.2"],
        ["attention", recording, "-m", run],
        ["gradients", "--cell", "lstm", "--cell", "qrnn", "--lags", "5", "--size", "4"],
    ):
        output = tmp_path / "picture.png"
        result = CliRunner().invoke(cli, ["plot", *arguments, "-o", str(output)])
        assert result.exit_code == 0, result.output
        assert output.read_bytes().startswith(b"\x89PNG")
        output.unlink()


def test_a_run_that_ended_before_it_logged_a_step_is_drawn(make, settings, tmp_path):
    make(trainer={"epochs": 1, "log_steps": 100}).fit()
    output = tmp_path / "picture.png"
    result = CliRunner().invoke(cli, ["plot", "curves", settings["run"], "-o", str(output)])
    assert result.exit_code == 0, result.output


def test_self_attention_spells_nothing(run, tones):
    recording = read_manifest(tones)[0].audio_filepath
    result = CliRunner().invoke(cli, ["plot", "attention", recording, "-m", run, "--text", "a"])
    assert "leave --text out" in str(result.exception)


def test_symbols_that_it_cannot_write_are_refused(run, tones):
    recording = read_manifest(tones)[0].audio_filepath
    result = CliRunner().invoke(cli, ["plot", "sensitivity", recording, "-m", run, "--symbol", "z"])
    assert "no symbol 'z'" in str(result.exception)
