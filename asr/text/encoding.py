"""Text files as people have them: UTF-8 with a byte-order mark or without, UTF-16, Windows-1252."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from asr.files import open_binary

# Longer marks first: UTF-32's begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
# Bytes above 127 stand alone or in pairs in a Western text (déjà, «ÉÉ»); encodings of East Asia and
# of other alphabets have whole words of them.
_FOREIGN = re.compile(rb"[\x80-\xff]{3}")
_WESTERN = re.compile("[‚„…‘’“”•–—\xa0-\xbf\xc0-\xff€ŠšŒœŽžŸ™†‡‰‹›ˆ˜ƒ]")


def decode(data: bytes) -> tuple[str, str]:
    """The text of a file, and its encoding: `utf-8`, `utf-8-sig`, `utf-16`, `utf-32`, `cp1252`, ….

    A byte-order mark decides; then UTF-8 is tried, then UTF-16 where every other byte is 0, then
    Windows-1252, of which Latin-1 is a part, if that makes a plausible text. Line ends become
    `\\n`. Raises ValueError for what is none of these.

    >>> decode("déjà".encode("latin-1"))
    ('déjà', 'cp1252')
    """
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    if encoding is None:
        encoding = _guess(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"not {encoding} text: {error.reason} at byte {error.start}") from error
    if match := _CONTROLS.search(text):
        raise ValueError(f"not text: it holds the control character {match[0]!r}")
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding


def read_text(path: Path) -> tuple[str, str]:
    """`decode` of a file. Raises ValueError as it does, and OSError."""
    with open_binary(path) as file:
        return decode(file.read())


def _guess(data: bytes) -> str:
    if data.count(0) * 4 > len(data):
        even, odd = data[::2].count(0), data[1::2].count(0)
        return "utf-16-be" if even > odd else "utf-16-le"
    try:
        data.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError as error:
        high = re.findall(rb"[\x80-\xff]", data)
        if _FOREIGN.search(data) or len(high) * 3 > len(data) + 3:
            raise ValueError("neither UTF-8 nor Western European text") from error
    if all(_WESTERN.match(byte.decode("cp1252", "replace")) for byte in set(high)):
        return "cp1252"
    raise ValueError("neither UTF-8 nor Western European text")
