"""Text of what people dictate."""

import itertools
import re

import pytest
from click.testing import CliRunner

pytest.importorskip("faker")

from asr.text.languages import normalizer
from data_prep.cli import cli
from data_prep.dictation import Dictation, plain_letters


def lines(seed: int, n: int = 300) -> list[str]:
    return list(itertools.islice(Dictation(seed), n))


def test_a_seed_gives_its_lines():
    assert lines(1, 50) == lines(1, 50)
    assert lines(1, 50) != lines(2, 50)


def test_lines_are_words_as_they_are_said():
    say = normalizer("en")
    for line in lines(3):
        assert re.fullmatch("[a-z']+( [a-z']+)*", line), line
        assert say(line) == line


def test_every_kind_comes():
    text = "\n".join(lines(4))
    assert re.search(r"^([a-z] ){5,}[a-z]$", text, re.M)  # a spelled name
    for word in ("oh", "zero", "double", "number", "code", "past", "dollars", "dot", "nineteen"):
        assert re.search(rf"\b{word}\b", text), word


def test_digits_and_letters():
    dictation = Dictation()
    assert dictation.digits("1223334444") == "one two two three three three four four four four"
    said = dictation.digits("1223334444", double=True)
    assert said == "one double two triple three four four four four"
    assert dictation.spelled("Zoë-Ann") == "z o e a n n"
    assert plain_letters("Müller") == "muller"


def test_the_command_writes_a_file(tmp_path):
    path = tmp_path / "dictation.txt"
    done = CliRunner().invoke(cli, ["dictation", "--lines", "20", "--to", str(path)])
    assert done.exit_code == 0, done.output
    assert path.read_text().splitlines() == lines(0, 20)
