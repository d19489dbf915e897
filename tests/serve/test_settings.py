"""Flags, variables and files say the same thing, and mistakes are explained."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from asr.errors import ConfigError
from serve import cli
from serve.settings import ServeSettings, from_flags, options, read_settings

PRESETS = sorted((Path(__file__).parents[2] / "conf" / "serve").glob("*.yaml"))


@pytest.fixture
def parse(monkeypatch):
    """The settings that asr-serve would begin with."""
    seen = []
    monkeypatch.setattr(cli, "serve_with", lambda settings: seen.append(settings) or 0)

    def run(*arguments, env=None):
        result = CliRunner().invoke(cli.command, arguments, env=env, standalone_mode=False)
        if result.exception:
            raise result.exception
        return seen[-1]

    return run


def test_flags_before_variables_before_the_file(parse, tmp_path):
    file = tmp_path / "serve.yaml"
    file.write_text("port: 1\nmax_uploads: 2\nidle_seconds: 3\nlog_transcripts: true\n")
    variables = {"ASR_SERVE_PORT": "4", "ASR_SERVE_MAX_UPLOADS": "5", "ASR_SERVE_API_KEY": "a b"}
    settings = parse("--config", str(file), "--port", "6", env=variables)
    assert (settings.port, settings.max_uploads, settings.idle_seconds) == (6, 5, 3.0)
    assert settings.log_transcripts
    assert settings.api_key == ("a", "b")
    assert parse("--api-key", "c", "--api-key", "d").api_key == ("c", "d")


def test_defaults_are_the_dataclass(parse):
    settings = parse()
    assert settings == ServeSettings()
    assert settings.host == "127.0.0.1"


def test_every_setting_is_a_flag_with_help():
    @click.command
    @options
    def command():
        pass

    names = {parameter.name: parameter.help for parameter in command.params}
    assert set(names) == {field.name for field in fields(ServeSettings)}
    assert all(names.values())


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets_are_valid(parse, path):
    assert parse("--config", str(path)) == from_flags(read_settings(str(path)))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("prot: 8000", "did you mean serve.port"),
        ("port: high", "not of type int"),
        ("- port", "not a group of settings"),
        ("port: [", "cannot be read"),
    ],
)
def test_mistakes_in_a_file(parse, tmp_path, text, told):
    file = tmp_path / "serve.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        parse("--config", str(file))


@pytest.mark.parametrize(
    "settings",
    [
        {"tls_certificate": "a.pem"},
        {"batch_wait": 0.5},
        {"port": 70_000},
        {"workers": 0},
        {"idle_seconds": -1.0},
    ],
)
def test_what_contradicts_itself(settings):
    with pytest.raises(ConfigError):
        ServeSettings(**settings)


def test_keys_of_a_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text("one\n\n two \n")
    assert ServeSettings(api_key=("zero",), api_key_file=str(file)).keys == ("zero", "one", "two")
    file.write_text("\n")
    with pytest.raises(ConfigError, match="no keys"):
        _ = ServeSettings(api_key_file=str(file)).keys
    with pytest.raises(ConfigError, match="cannot be read"):
        _ = ServeSettings(api_key_file=str(tmp_path / "none")).keys


def test_a_model_that_is_none(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--port", "0", "--model", "/nowhere"])
    assert caught.value.code == 1
    assert "/nowhere: no such folder" in capsys.readouterr().err
