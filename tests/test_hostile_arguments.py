"""Every command of every program on arguments that nobody should give: an answer, no traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import soundfile

import asr.cli
import data_prep.cli
import serve.cli
import serve.server
from asr.data.manifest import read_manifest, write_manifest
from asr.packaging.bundle import Bundle
from asr.program import TRACEBACK, run
from asr.types import Utterance

PROGRAMS = {
    "asr": asr.cli.cli,
    "asr-prepare": data_prep.cli.cli,
    "asr-serve": serve.cli.command,
}
SECONDS = 120  # a guard against hanging; the first call of a command may compile for some of it
NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1000000000", "1e309", "9" * 30, "0x10", "", "١")
TEXTS = ("", " ", "=", "nan", "[", "{", "${oops}", "../..", "-1", "\udcff", "x" * 5000)


def leaves(name: str, command: click.Command) -> Iterator[tuple[str, ...]]:
    """The words that lead to each command that does something."""
    if not isinstance(command, click.Group):
        yield (name,)
        return
    context = click.Context(command, info_name=name)
    for word in command.list_commands(context):
        found = command.get_command(context, word)
        assert found is not None
        yield from ((name, *words) for words in leaves(word, found))


COMMANDS = [words for name, program in PROGRAMS.items() for words in leaves(name, program)]
# One corpus for all: each has the same options, and its recipe has tests of its own.
COMMANDS += [("asr-prepare", name) for name in ("folder", "csv", "kaldi", "nemo", "librispeech")]


@pytest.fixture
def paths(tmp_path: Path, tone_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Something of each kind that may lie at a path, by what it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "zeros.wav").write_bytes(bytes(5000))
    garbage = bytes(i * i * 7 & 255 for i in range(5000))
    names = {"garbage": b"garbage.jsonl", "nameless": b"\xff\xfe.jsonl", "text": b"text.txt"}
    for name in names.values():
        (tmp_path / os.fsdecode(name)).write_bytes(garbage)
    (tmp_path / "text.txt").write_text("a b\n")
    os.mkfifo(tmp_path / "fifo")
    found = {kind: str(tmp_path / os.fsdecode(name)) for kind, name in names.items()}
    found |= {name: str(tmp_path / name) for name in ("folder", "empty", "zeros.wav", "fifo")}
    found["missing"] = str(tmp_path / "no" / "such" / "file")
    found["below a file"] = str(tmp_path / "empty" / "x")
    found["too long"] = str(tmp_path / ("x" * 300))
    found |= {"proc": "/proc/x", "full": "/dev/full", "device": "/dev/zero"}
    found["model"] = str(tone_bundle.folder)
    return found


def answer(words: tuple[str, ...], arguments: list[str], capfd: pytest.CaptureFixture[str]) -> int:
    """The exit status; fails on a traceback, a fault of the program, or silence for too long."""

    def too_long(*_: object) -> None:
        raise AssertionError("hangs")

    line = " ".join([*words, *arguments])[:300].encode(errors="replace").decode()
    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(SECONDS)
    try:
        with pytest.raises(SystemExit) as end:
            run(PROGRAMS[words[0]], words[0], [*words[1:], *arguments])
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    err = capfd.readouterr().err
    assert "Traceback" not in err, f"{line}\n{err}"
    assert TRACEBACK not in err, f"{line}\n{err}"
    assert "hangs" not in err, line
    assert end.value.code in (0, 1, 2, 3), line
    assert not end.value.code or err.strip() or "check" in words, f"{line}: says nothing"
    return int(end.value.code or 0)


# A call of each command that is right in form; what stands in braces is a path, see `paths`.
CALLS = {
    "asr transcribe": "{sound} --model {model}",
    "asr mic": "--file {sound} --fast --model {model}",
    "asr evaluate": "--manifest {manifest} --model {model}",
    "asr compare": "bundled {text} --manifest {manifest}",
    "asr models list": "",
    "asr models get": "{missing}",
    "asr models import": "{text} {new}",
    "asr align": "{sound} {text} --model {model}",
    "asr tune": "{manifest} --model {model} --dry-run",
    "asr info": "{model}",
    "asr doctor": "",
    "asr train": "data.train=[{manifest}] data.dev=[{manifest}] run={new} --show",
    "asr search": "--to {new} --trials 1 data.train=[{manifest}] data.dev=[{manifest}]",
    "asr export": "{folder} {new}",
    "asr compress": "{model} {new} --rank 2",
    "asr lm convert": "{lm} {new}",
    "asr lm export": "{folder} {new}",
    "asr lm info": "{lm}",
    "asr lm mix": "{lm} {lm} --dev {text} --output {new}",
    "asr lm sample": "{lm}",
    "asr lm score": "{lm} {text}",
    "asr lm train": "{text} --output {new}",
    "asr punctuation export": "{folder} {new}",
    "asr punctuation restore": "{text} --model {model}",
    "asr punctuation score": "{text} --model {model}",
    "asr uncertainty": "{folder} --manifest {manifest} --samples 2",
    "asr plot attention": "{sound} --model {folder}",
    "asr plot cell": "lstm --output picture.svg",
    "asr plot curves": "{folder}",
    "asr plot gradients": "--cell lstm --size 2 --lags 2 --output {picture}",
    "asr plot sensitivity": "{sound} --model {model} --output {picture}",
    "asr plot spikes": "{sound} --model {model} --output {picture}",
    "asr-prepare check": "{manifest}",
    "asr-prepare list": "",
    "asr-prepare pseudo-label": "{sound} --model {model} --to {new}",
    "asr-prepare shard": "{manifest} --to {new}",
    "asr-prepare split": "{manifest} --to {new}",
    "asr-prepare stats": "{manifest}",
    "asr-prepare synthesize": "{text} --to {new}",
    "asr-prepare text": "--to {new} --dump {text}",
    "asr-prepare dictation": "--to {new} --lines 2",
    "asr-serve": "--model {folder}",
    "asr-prepare folder": "--from-folder {folder} --to {new}",
    "asr-prepare kaldi": "--from-folder {folder} --to {new}",
    "asr-prepare nemo": "--from-folder {folder} --to {new}",
    "asr-prepare csv": "--from-folder {folder} --to {new}",
    "asr-prepare librispeech": "--from-archive {text} --to {new}",
}


def find(words: tuple[str, ...]) -> click.Command:
    command: click.Command | None = PROGRAMS[words[0]]
    for word in words[1:]:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command, info_name=words[0]), word)
    assert command is not None
    return command


def attempts(words: tuple[str, ...], paths: dict[str, str]) -> Iterator[list[str]]:
    """The right call with one thing wrong at a time: each path, then each option."""
    call = CALLS[" ".join(words)].split()
    right = [part.format(**paths) for part in call]
    yield []
    yield right
    for place, part in enumerate(call):
        if "{" in part:
            kind = part[part.index("{") + 1 : part.index("}")]
            for path in paths.values():
                hostile = part.format(**paths | {kind: path})
                yield [*right[:place], hostile, *right[place + 1 :]]
    for parameter in find(words).params:
        if not isinstance(parameter, click.Option) or parameter.is_flag:
            continue
        values = [*TEXTS, *paths.values()]
        if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
            values = [*NUMBERS]
        for value in values:
            yield [*right, parameter.opts[-1], value]


def test_each_command_has_a_call() -> None:
    assert {" ".join(words) for words in COMMANDS} == CALLS.keys()


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that could start ends at once, so that right arguments do not serve for ever."""
    monkeypatch.setattr(serve.server, "_work", lambda *_: 0)
    monkeypatch.setattr(serve.server.Workers, "run", lambda _: 0)


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
@pytest.mark.usefixtures("no_server")
def test_no_argument_makes_a_traceback(words, paths, capfd) -> None:
    paths |= {"new": "new", "sound": paths["zeros.wav"], "manifest": paths["garbage"]}
    paths |= {"lm": paths["garbage"], "picture": "picture.png"}
    for arguments in attempts(words, paths):
        answer(words, arguments, capfd)


@pytest.mark.parametrize("target", ["/dev/full", "closed"])
@pytest.mark.parametrize("line", ["asr --help", "asr info {model}", "asr-prepare list"])
def test_output_that_cannot_be_written(line, target, paths) -> None:
    program, *arguments = line.format(**paths).split()
    module = {"asr": "asr.cli", "asr-prepare": "data_prep.cli"}[program]
    code = f"import sys; from {module} import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, *arguments]
    if target == "closed":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if target == "closed":
        assert done.returncode == 0
    else:
        assert done.returncode == 1
        assert done.stderr == f"{program}: output: No space left on device\n"


@pytest.mark.parametrize("out", ["empty", "/proc/x", "/dev/full", "empty/below"])
def test_an_output_folder_that_cannot_be(out, paths, capfd) -> None:
    assert answer(
        ("asr", "transcribe"), [paths["zeros.wav"], "-m", paths["model"], "-o", out], capfd
    )


def test_a_name_that_is_not_utf_8_is_a_name(paths, capfdbinary) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    samples = np.zeros(16_000, np.int16)
    soundfile.write("plain.wav", samples, 16_000)
    Path("plain.wav").rename(name)
    with pytest.raises(SystemExit) as end:
        asr.cli.main(["transcribe", name, "-m", paths["model"], "-o", "out", "--format", "all"])
    assert not end.value.code
    assert all(path.name.startswith(os.fsdecode(b"caf\xe9.")) for path in Path("out").iterdir())
    with pytest.raises(SystemExit) as end:
        asr.cli.main(["transcribe", name, "plain.wav", "-m", paths["model"]])
    assert end.value.code == 1  # plain.wav is gone
    written = capfdbinary.readouterr()
    assert b"Traceback" not in written.err


def test_a_manifest_keeps_names_that_are_not_utf_8(tmp_path) -> None:
    name = str(tmp_path / os.fsdecode(b"caf\xe9.wav"))
    write_manifest(tmp_path / "m.jsonl", [Utterance(name, 1.0, "a")])
    assert read_manifest(tmp_path / "m.jsonl")[0].audio_filepath == name


def test_a_device_that_is_not_there(paths, capfd) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    Path("m.jsonl").write_text(
        f'{{"audio_filepath": "{paths["zeros.wav"]}", "duration": 1, "text": "a"}}\n'
    )
    call = ["data.train=[m.jsonl]", "data.dev=[m.jsonl]", "run=new", "trainer.device=cuda"]
    assert answer(("asr", "train"), call, capfd) == 1
    assert not Path("new").exists()
