"""Which files are recordings: one answer for all commands, and for `asr-prepare`."""

from __future__ import annotations

import os
from pathlib import Path

_SUFFIXES = """
.wav .wave .bwf .rf64 .w64 .flac .ogg .oga .ogx .opus .spx .mp1 .mp2 .mp3 .mpga .m4a .m4b .m4r .aac
.adts .ac3 .eac3 .dts .alac .ape .wv .tta .tak .mpc .wma .asf .amr .awb .3gp .3g2 .aif .aiff .aifc
.au .snd .caf .sph .nist .voc .gsm .g722 .ulaw .mulaw .pcmu .alaw .pcma .ircam .sf .paf .pvf .avr
.mka .weba .ra .rm .dsf .dff .qcp
.mp4 .m4v .mov .qt .mkv .webm .avi .wmv .flv .f4v .mpg .mpeg .m2v .ts .mts .m2ts .vob .ogv .mxf
"""
SUFFIXES = tuple(_SUFFIXES.split())
# Beginnings of recordings: (offset, bytes). They decide where the extension says nothing.
_SIGNATURES = (
    *((0, b"RIFF"), (0, b"RIFX"), (0, b"RF64"), (0, b"riff\x2e\x91\xcf\x11"), (0, b"fLaC")),
    *((0, b"OggS"), (0, b"ID3"), (0, b"\xff\xfb"), (0, b"\xff\xf3"), (0, b"\xff\xf2")),
    *((0, b"\xff\xf1"), (0, b"\xff\xf9"), (4, b"ftyp"), (0, b"\x1a\x45\xdf\xa3"), (0, b"FORM")),
    *((0, b".snd"), (0, b"caff"), (0, b"#!AMR"), (0, b"NIST_1A"), (0, b"Creative Voice File")),
    *((0, b"wvpk"), (0, b"MAC "), (0, b"TTA1"), (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
)
# RIFF and FORM hold other things, too: pictures, for one.
_FORMS = {b"RIFF": (b"WAVE", b"AVI "), b"RIFX": (b"WAVE",), b"FORM": (b"AIFF", b"AIFC")}
# Program text has these extensions, too.
_BINARY = {".ts": b"\x47", ".dts": b"\x7f\xfe\x80\x01"}
_OTHER_SUFFIXES = frozenset(".txt .lab .json .jsonl .tsv .csv .srt .vtt .ctm .textgrid".split())


def find_recordings(folder: str | os.PathLike[str]) -> list[Path]:
    """The recordings in a folder and the folders below it, sorted; hidden ones are left out.

    Extensions count in any case. A file whose extension says nothing, such as `.raw` or none, is
    taken if it begins as a recording does.
    """
    root = Path(folder)
    return [
        path
        for path in sorted(root.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
        and is_recording(path)
    ]


def is_recording(path: Path) -> bool:
    """Whether a file is a recording, by its extension or its first bytes."""
    suffix = path.suffix.lower()
    if suffix in _OTHER_SUFFIXES or not path.is_file():
        return False
    if suffix in _BINARY:
        return _head(path).startswith(_BINARY[suffix])
    return suffix in SUFFIXES or _begins_as_one(_head(path))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(32)
    except OSError:
        return b""


def _begins_as_one(head: bytes) -> bool:
    for offset, signature in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            forms = _FORMS.get(signature)
            return forms is None or head[8:12] in forms
    return False
