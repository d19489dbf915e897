"""What can be told about a recording from its bytes alone, before anything is decoded.

Who wrote the file may have died before the header was finished; who joined recordings left tags
between them. Neither library copes with all of that, so it is found here and hidden from them.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple


class Patch(NamedTuple):
    """Bytes to read at `position` of a view instead of those of the file."""

    position: int
    data: bytes


class View(io.RawIOBase):
    """Consecutive spans of another file, with some bytes replaced.

    It has no name, which libraries would take for a hint at its content. An error of the file is
    kept in `error` and ends it: one that passes through a C library is printed or lost.

    >>> view = View(io.BytesIO(b"0123456789"), [(1, 3), (6, 9)], [Patch(2, b"x")])
    >>> view.read()
    b'12x78'
    """

    def __init__(
        self,
        file: BinaryIO | View,
        spans: Sequence[tuple[int, int]],
        patches: Sequence[Patch] = (),
    ):
        self._file, self._patches = file, patches
        self._spans = []  # (where it begins here, where it begins in the file, bytes)
        self.size = 0
        for begin, end in spans:
            self._spans.append((self.size, begin, end - begin))
            self.size += end - begin
        self._position = 0
        self.error: Exception | None = None

    @property
    def is_patched(self) -> bool:
        return bool(self._patches)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(memoryview(buffer).cast("B")))
        memoryview(buffer).cast("B")[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return self.read(-1)

    def read(self, size: int | None = -1) -> bytes:
        left = self.size - self._position
        wanted = left if size is None or size < 0 else min(size, left)
        parts = []
        begin = self._position
        while wanted > 0 and (part := self._read_span(wanted)):
            parts.append(part)
            self._position += len(part)
            wanted -= len(part)
        return self._patched(begin, b"".join(parts))

    def _read_span(self, wanted: int) -> bytes:
        """What comes next, up to the end of a span."""
        for here, there, length in self._spans:
            within = self._position - here
            if 0 <= within < length:
                try:
                    self._file.seek(there + within)
                    return self._file.read(min(wanted, length - within))
                except (OSError, ValueError) as error:
                    self.error = error
        return b""

    def _patched(self, begin: int, data: bytes) -> bytes:
        for position, new in self._patches:
            first, last = max(position, begin), min(position + len(new), begin + len(data))
            if first < last:
                data = (
                    data[: first - begin]
                    + new[first - position : last - position]
                    + data[last - begin :]
                )
        return data


_UNKNOWN_SIZE = 0x7FFF_0000  # bytes; what writes to a pipe claims the largest size it can
_CHUNK = 1 << 20  # bytes that are searched at a time
_OTHERS = (b"fLaC", b"OggS", b"RIFF", b"FORM")  # formats that may have an ID3 tag in front
_MAX_PAGE = 65_307  # bytes of a page of Ogg
_MPEG_TAGS = (b"ID3", b"TAG", b"APETAGEX")
_MAX_CHUNKS = 1000  # of a WAV; a damaged one may seem to have any number of empty ones
_MAX_BOXES = 100_000  # of an MP4; a fragmented one has two a fragment
_LONGEST_TAG = 1 << 28  # bytes; an ID3v2 tag cannot be longer


def open_view(file: BinaryIO | View) -> View:
    """The file from its present position on, repaired: WAV sizes, tags between joined MP3s."""
    begin = file.tell()
    view = View(file, [(begin, file.seek(0, 2))])
    start = view.read(16)
    if len(chained_links(view)) > 1:
        pass  # each of its parts is repaired by itself
    elif start[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64", b".snd"):
        if start[:4] == b".snd":
            view = View(file, [(begin, begin + view.size)], list(_au_patches(start)))
        else:
            kept = _without(view, _unpadded_chunks(view), begin)
            view = View(file, kept, list(_wav_patches(View(file, kept))))
    elif start[4:8] == b"ftyp":
        view = View(file, [(begin, begin + view.size)], list(_mp4_patches(view)))
    elif is_mpeg(view):
        view = View(file, _without(view, _mpeg_tags(view), begin))
    view.seek(0)
    return view


def is_mpeg(view: View) -> bool:
    """MP3 or AAC as a bare stream, with or without a tag in front, also a damaged one."""
    head = magic(view)
    return (
        _is_sync(head) or head[:3] == b"ID3" or (_at(view, 0, 3) == b"ID3" and head not in _OTHERS)
    )


def magic(view: View) -> bytes:
    """The bytes that tell what a file is; there may be tags in front of them."""
    position = 0
    while (head := _at(view, position, 10))[:3] == b"ID3" and (length := _id3_length(head)):
        position += length
    return head[:4]


def chained_links(view: View) -> tuple[tuple[int, int], ...]:
    """Where each of the FLAC, WAV or MP4 files lies that follow each other, as (begin, end)."""
    head = magic(view)
    if head == b"fLaC":
        return flac_links(view)
    if head == b"RIFF":
        return _riff_links(view)
    if _at(view, 4, 4) == b"ftyp":
        return _mp4_links(view)
    return ((0, view.size),)


def _riff_links(view: View) -> tuple[tuple[int, int], ...]:
    begins, position = [0], 0
    for _ in range(_MAX_CHUNKS):
        size = int.from_bytes(_at(view, position + 4, 4), "little")
        end = position + 8 + size
        if size and end >= view.size - 1 and size < _UNKNOWN_SIZE:
            break
        following = -1
        if size and size < _UNKNOWN_SIZE:
            following = next((e for e in (end, end + 1) if _is_wav(_at(view, e, 12))), -1)
        else:
            following = _find_wav(view, position + 12)
        if following < 0:
            break
        begins.append(following)
        position = following
    return tuple(pairwise([*begins, view.size]))


def _is_wav(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def _find_wav(view: View, start: int) -> int:
    """Where the next WAV begins behind one that does not know its size; -1 if none does."""
    for position in range(start, view.size, _CHUNK):
        match = re.search(rb"RIFF.{4}WAVE[a-zA-Z ]{4}", _at(view, position, _CHUNK + 16), re.S)
        if match:
            return position + match.start()
    return -1


def _mp4_links(view: View) -> tuple[tuple[int, int], ...]:
    begins, position = [0], 0
    for _ in range(_MAX_BOXES):
        head = _at(view, position, 16)
        size = int.from_bytes(head[:4], "big")
        if size == 1:
            size = int.from_bytes(head[8:16], "big")
        if size < 8 or len(head) < 16:
            break
        if head[4:8] == b"ftyp" and position:
            begins.append(position)
        position += size
    return tuple(pairwise([*begins, view.size]))


def _mp4_patches(view: View) -> Iterator[Patch]:
    """What is no box, in a fragmented MP4, becomes one to be passed over, up to the next fragment.

    Offsets in the fragments count from the beginning of the file: nothing may be taken out.
    """
    position, is_fragmented = 0, False
    for _ in range(_MAX_BOXES):
        head = _at(view, position, 8)
        size, name = int.from_bytes(head[:4], "big"), head[4:]
        is_fragmented |= name == b"moof"
        if len(head) < 8 or size in (0, 1):  # the end, to the end, or with 64 bits
            if not (is_fragmented and len(head) == 8 and not name.isalpha()):
                return
        elif name.isalnum() and position + size <= view.size:
            position += size
            continue
        if not is_fragmented or (following := _find_fragment(view, position + 8)) < 0:
            return
        yield Patch(position, struct.pack(">I4s", following - position, b"free"))
        position = following


def _find_fragment(view: View, start: int) -> int:
    """Where the next fragment of an MP4 begins; -1 if none does."""
    for position in range(start, view.size, _CHUNK):
        found = _at(view, position, _CHUNK + 12).find(b"moof")
        while found >= 4 and _at(view, position + found + 8, 4) != b"mfhd":
            found = _at(view, position, _CHUNK + 12).find(b"moof", found + 1)
        if found >= 4:
            return position + found - 4
    return -1


def missing_wav_share(view: View) -> float:
    """How much of its samples a WAV lacks, by its header: 0 for none, below 1."""
    position = 12
    if _at(view, 0, 4) != b"RIFF":
        return 0.0
    for _ in range(_MAX_CHUNKS):
        head = _at(view, position, 8)
        if len(head) < 8:
            break
        size = int.from_bytes(head[4:], "little")
        if head[:4] == b"data":
            return max(0.0, 1 - (view.size - position - 8) / max(1, size))
        position += 8 + size + size % 2
    return 0.0


def flac_links(view: View) -> tuple[tuple[int, int], ...]:
    """Where each of the FLAC streams lies that follow each other, as (begin, end) in bytes."""
    begins = []
    for position in range(0, view.size, _CHUNK):
        data = _at(view, position, _CHUNK + 8)
        for match in re.finditer(rb"fLaC[\x00\x80]\x00\x00\x22", data):
            begins.append(position + match.start())
    return tuple(pairwise([0, *begins[1:], view.size]))


def promised_mpeg_seconds(view: View) -> float | None:
    """How long a single MP3 says it is, in the frame that Xing invented.

    None where it does not say, or where the file is longer than what it speaks of.
    """
    frame = _at(view, 0, 200)
    tag = max(frame.find(b"Xing"), frame.find(b"Info"))
    if tag < 0 or not _is_sync(frame) or len(frame) < tag + 16:
        return None
    flags, n_frames, n_bytes = struct.unpack(">3I", frame[tag + 4 : tag + 16])
    if flags & 3 != 3 or view.size > n_bytes + 4096:
        return None
    version, rate_index = (frame[1] >> 3) & 3, (frame[2] >> 2) & 3
    if rate_index == 3 or version == 1:
        return None
    rate = (44_100, 48_000, 32_000)[rate_index] // {3: 1, 2: 2, 0: 4}[version]
    return n_frames * (1152 if version == 3 else 576) / rate


@dataclass(frozen=True, slots=True)
class OggLayout:
    """How an Ogg file is built (RFC 3533).

    `links` are the streams that follow each other, as (begin, end) in bytes; `damaged` tells that
    some page is not whole or missing, `ends_in_page` that the last one is cut.
    """

    links: tuple[tuple[int, int], ...]
    damaged: bool
    ends_in_page: bool


def ogg_layout(view: View) -> OggLayout:
    """Walk over all pages: their numbers and checksums tell what is missing."""
    begins: list[int] = []
    damaged = ends_in_page = False
    expected: dict[int, int] = {}  # serial number -> page number
    began = False  # the last page began a stream
    position = 0
    while position < view.size:
        page = _at(view, position, _MAX_PAGE)
        length = _ogg_length(page)
        if page[:4] != b"OggS"[: len(page)]:
            damaged = True
            following = page.find(b"OggS", 1)
            position += following if following > 0 else max(1, len(page) - 3)
            continue
        if length is None or position + length > view.size:
            ends_in_page = True
            break
        serial, number, checksum = struct.unpack("<3I", page[14:26])
        if _ogg_checksum(page[:22] + bytes(4) + page[26:length]) != checksum:
            damaged = True
            position += 4
            continue
        begins_stream = bool(page[5] & 2)
        if begins_stream and not began:
            begins.append(position)
        elif not begins_stream and expected.get(serial) != number:
            damaged = True
        began, expected[serial] = begins_stream, number + 1
        position += length
    edges = [0, *begins[1:], view.size]
    return OggLayout(tuple(pairwise(edges)), damaged, ends_in_page)


def _at(view: View, position: int, size: int) -> bytes:
    view.seek(position)
    return view.read(size)


def _without(view: View, unwanted: Iterable[tuple[int, int]], begin: int) -> list[tuple[int, int]]:
    """The spans of the file that are left of the view, which lies there from `begin` on."""
    edges = [0, *(edge for span in unwanted for edge in span), view.size]
    kept = zip(edges[::2], edges[1::2], strict=True)
    return [(begin + first, begin + end) for first, end in kept if first < end]


def _unpadded_chunks(view: View) -> Iterator[tuple[int, int]]:
    """Chunks of odd length without the byte that has to follow them: nobody could read on."""
    position = 12
    for _ in range(_MAX_CHUNKS):
        head = _at(view, position, 8)
        if len(head) < 8 or head[:4] == b"data":
            return
        end = position + 8 + int.from_bytes(head[4:], "little")
        if (end - position) % 2 and _is_name(_at(view, end, 4)):
            yield position, end
            position = end
        else:
            position = end + (end - position) % 2


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _wav_patches(view: View) -> Iterator[Patch]:
    """Sizes for a header that was never finished, or claims the largest size there is."""
    order = ">" if _at(view, 0, 4) == b"RIFX" else "<"
    wide = _at(view, 0, 4) in (b"RF64", b"BW64")
    position, sizes = 12, None  # `sizes`: where RF64 keeps those that need 64 bits
    for _ in range(_MAX_CHUNKS):
        head = _at(view, position, 8)
        if len(head) < 8:
            return
        name, size = head[:4], struct.unpack(order + "I", head[4:])[0]
        body = position + 8
        if name == b"ds64":
            sizes = body
        if name == b"data":
            break
        position = body + size + size % 2
    else:
        return
    there = view.size - body
    if wide and sizes is not None:
        claimed = struct.unpack("<Q", _at(view, sizes + 8, 8).ljust(8, b"\0"))[0]
        if not 0 < claimed < 1 << 62:
            yield Patch(4, b"\xff" * 4)
            yield Patch(sizes, struct.pack("<3Q", view.size - 8, there, 0))
            yield Patch(body - 4, b"\xff" * 4)
    elif size >= _UNKNOWN_SIZE or (size == 0 and there and not _are_chunks(view, body, order)):
        yield Patch(4, struct.pack(order + "I", min(view.size - 8, 0xFFFF_FFFF)))
        yield Patch(body - 4, struct.pack(order + "I", min(there, 0xFFFF_FFFF)))
    elif body + size < view.size and not _are_chunks(view, body + size + size % 2, order):
        yield Patch(4, struct.pack(order + "I", body + size - 8))


def _are_chunks(view: View, position: int, order: str) -> bool:
    """Whether nothing but chunks of RIFF follows, to the end of the file."""
    while position < view.size - 1:
        head = _at(view, position, 8)
        if len(head) < 8 or not _is_name(head[:4]):
            return False
        size = struct.unpack(order + "I", head[4:])[0]
        position += 8 + size + size % 2
    return position <= view.size + 1


def _au_patches(start: bytes) -> Iterator[Patch]:
    if start[8:12] == bytes(4):
        yield Patch(8, b"\xff" * 4)  # the format's own word for an unknown size


def _mpeg_tags(view: View) -> Iterator[tuple[int, int]]:
    """Where tags lie in an MP3: (begin, end) of each, in order.

    What merely looks like one does not count: frames, another tag, or the end must follow.
    """
    position = done = 0
    while position < view.size:
        data = _at(view, position, _CHUNK + 16)
        hits = [i for name in _MPEG_TAGS if 0 <= (i := data.find(name)) < _CHUNK]
        if not hits:
            position += _CHUNK
            continue
        found = position + min(hits)
        begin, end = _tag_at(view, found)
        if end > max(begin, done):
            yield max(begin, done), end
            done = end
        position = max(end, found + 1)


def _tag_at(view: View, position: int) -> tuple[int, int]:
    """Where the tag begins and ends whose name stands here; an empty range if it is none."""
    begin, length = position, 0
    head = _at(view, position, 32)
    if head[:3] == b"ID3":
        length = _id3_length(head)
    elif head[:8] == b"APETAGEX" and len(head) == 32:
        size, _, flags = struct.unpack("<3I", head[12:24])
        if flags & 1 << 29:  # this is the header
            length = 32 + size
        else:  # the footer of a tag without one: its items lie in front
            begin, length = max(0, position + 32 - size), min(position + 32, size)
    elif head[:3] == b"TAG":
        length = 128
    if not 0 < length < _LONGEST_TAG:
        return position, position
    end = min(begin + length, view.size)
    after = _at(view, end, 10)
    follows = not after or _is_sync(after) or after.startswith((*_MPEG_TAGS, b"LYRICS"))
    return (begin, end) if follows or position == 0 else (position, position)


def _id3_length(head: bytes) -> int:
    """Of an ID3v2 tag with its header and footer; 0 if it is none."""
    if len(head) < 10 or not 2 <= head[3] <= 4 or head[4] == 0xFF or max(head[6:10]) >= 0x80:
        return 0
    size = sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    return size + (20 if head[5] & 0x10 else 10)


def _is_sync(head: bytes) -> bool:
    """The first bytes of a frame of MPEG audio or ADTS."""
    return len(head) > 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0


def _ogg_length(page: bytes) -> int | None:
    """Bytes of the page that begins here; None if its header is not whole."""
    if len(page) < 27 or len(page) < 27 + page[26]:
        return None
    return 27 + page[26] + sum(page[27 : 27 + page[26]])


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def _ogg_checksum(page: bytes) -> int:
    """Ogg's CRC, which is zlib's with the bits in another order and without its inversions."""
    mirrored = zlib.crc32(page.translate(_REVERSED), 0xFFFF_FFFF) ^ 0xFFFF_FFFF
    return int(f"{mirrored:032b}"[::-1], 2)
