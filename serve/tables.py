"""Tables of MP4 that speak of more than a file holds: refused before anybody makes room for them.

ffmpeg makes an index of all samples that a file claims to have, some 40 bytes for each, before it
reads the first one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from asr.errors import AudioError

_FOLDERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf", b"edts", b"mvex"}
# Bytes of each entry of a table that counts its entries behind version and flags.
_ENTRIES = {b"stts": 8, b"ctts": 8, b"stsc": 12, b"stco": 4, b"co64": 8, b"stss": 4}
_FIRST = {b"ftyp", b"mdat", b"wide", b"free", b"skip", *_FOLDERS}
_MAX_BOXES = 100_000
_MAX_DEPTH = 8
# Fields of a `trun` by its flags: one for all samples, then one for each.
_TRUN_ONCE, _TRUN_EACH = (0x1, 0x4), (0x100, 0x200, 0x400, 0x800)


def check_tables(data: bytes | bytearray, name: str) -> None:
    """Raises AudioError if an MP4 says that it has more samples than it has bytes."""
    if bytes(data[4:8]) not in _FIRST:
        return
    samples = 0
    view = memoryview(data)
    for kind, box in _boxes(view, 0):
        claimed, fits = _claim(kind, box, len(data))
        samples += claimed
        if not fits or samples > len(data):
            raise AudioError(
                f"{name}: damaged: its tables speak of more samples than the file has bytes",
                "copy it again from its source",
            )


def _boxes(data: memoryview, depth: int) -> Iterator[tuple[bytes, memoryview]]:
    """All boxes that hold no others, with their content."""
    position = count = 0
    while position + 8 <= len(data):
        count += 1
        size, kind = struct.unpack_from(">I4s", data, position)
        begin = 8
        if size == 1 and position + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + 8)
            begin = 16
        size = len(data) - position if size == 0 else size
        if size < begin or count > _MAX_BOXES:
            return
        content = data[position + begin : position + size]
        if kind in _FOLDERS and depth < _MAX_DEPTH:
            yield from _boxes(content, depth + 1)
        else:
            yield kind, content
        position += size


def _claim(kind: bytes, box: memoryview, n_bytes: int) -> tuple[int, bool]:
    """How many samples a fragment adds, and whether a box's table can be true."""
    if len(box) < (12 if kind in (b"stsz", b"stz2") else 8):
        return 0, True
    if kind == b"stsz":
        size, count = struct.unpack_from(">II", box, 4)
        return 0, count * size <= n_bytes if size else 4 * count <= len(box) - 12
    if kind == b"stz2":
        bits, count = struct.unpack_from(">II", box, 4)
        return 0, (bits & 0xFF) * count <= 8 * (len(box) - 12)
    if kind == b"trun":
        (flags, count) = struct.unpack_from(">II", box, 0)
        fields = sum(bool(flags & bit) for bit in _TRUN_EACH)
        once = sum(bool(flags & bit) for bit in _TRUN_ONCE)
        return count, 4 * (fields * count + once) <= len(box) - 8
    if kind in _ENTRIES:
        (count,) = struct.unpack_from(">I", box, 4)
        fits = _ENTRIES[kind] * count <= len(box) - 8
        if fits and kind == b"stts":
            entries = np.frombuffer(box, ">u4", 2 * count, 8)
            fits = int(entries[::2].sum(dtype=np.uint64)) <= n_bytes
        return 0, fits
    return 0, True
