import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.text.normalize import normalize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World!", "hello world"),
        ("It’s rock ’n’ roll", "it's rock n roll"),
        ("naïve café façade Ærø", "naive cafe facade aero"),
        ("well-known — state-of-the-art", "well known state of the art"),
        ("R&D", "r and d"),
        ("한국어 맞춤법!", "한국어 맞춤법"),
        ("call 911", "call 911"),
        ("''", ""),
    ],
)
def test_examples(text, expected):
    assert normalize(text) == expected


@given(st.text())
def test_is_idempotent_and_clean(text):
    plain = normalize(text)
    assert normalize(plain) == plain
    assert plain == " ".join(plain.split())
    assert not any(c.isascii() and c.isupper() for c in plain)


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz ", max_size=50))
def test_plain_words_stay(text):
    assert normalize(text).split() == text.split()
