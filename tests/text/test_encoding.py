import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.text.encoding import decode

TEXT = "Déjà vu – it cost 5 €.\n“Naïve”, she said.\n"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (TEXT.encode(), "utf-8"),
        (TEXT.encode("utf-8-sig"), "utf-8-sig"),
        (TEXT.encode("utf-16"), "utf-16"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16"),
        (TEXT.encode("utf-16-le"), "utf-16-le"),
        (TEXT.encode("utf-16-be"), "utf-16-be"),
        (TEXT.encode("utf-32"), "utf-32"),
        (TEXT.encode("cp1252"), "cp1252"),
        (TEXT.replace("\n", "\r\n").encode(), "utf-8"),
        (TEXT.replace("\n", "\r").encode("utf-16"), "utf-16"),
    ],
)
def test_files_as_people_have_them(data, encoding):
    assert decode(data) == (TEXT, encoding)


@pytest.mark.parametrize(
    "data",
    [
        "안녕하세요 반갑습니다".encode("cp949"),
        "Привет, мир".encode("cp1251"),
        "こんにちは".encode("shift-jis"),
        "你好".encode("gbk"),
        bytes(range(256)),
        b"\x00\x01\x02binary\xff",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        codecs.BOM_UTF16_LE + b"a",
        b"a\x00",
    ],
)
def test_what_is_no_text_or_of_an_unknown_encoding_is_refused(data):
    if data == b"a\x00":
        assert decode(data) == ("a", "utf-16-le")
        return
    with pytest.raises(ValueError, match=r"not|neither"):
        decode(data)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=50))
def test_utf_8_is_never_mistaken(text):
    assert decode(text.encode())[0] == text.removeprefix("\ufeff")


@given(st.binary(max_size=60))
def test_any_bytes_give_text_or_a_reason(data):
    try:
        text, _ = decode(data)
    except ValueError:
        return
    assert "\x00" not in text
