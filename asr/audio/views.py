"""A file as the decoders are to see it: without its name, without some spans, repaired."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
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
