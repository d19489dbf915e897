"""Arrays that may be larger than memory: one in a file, written from front to back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


class Column:
    """An array in a file. A slice of it is read into memory; `mapped` leaves that to the system.

    >>> import tempfile
    >>> column = Column(Path(tempfile.mkdtemp(), "counts"), np.int32)
    >>> column.append([3, 1]); column.append([4])
    >>> len(column), column[1:3].tolist()
    (3, [1, 4])
    """

    def __init__(self, path: Path, dtype: Any):
        """Begin with an empty file at `path`."""
        self.path = path
        self.dtype = np.dtype(dtype)
        path.write_bytes(b"")
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, values: Any) -> None:
        values = np.ascontiguousarray(values, self.dtype)
        with self.path.open("ab") as file:
            values.tofile(file)
        self._length += len(values)

    def __getitem__(self, rows: slice) -> np.ndarray:
        begin, end, step = rows.indices(len(self))
        if step != 1 or end <= begin:
            return np.zeros(0, self.dtype)
        return np.fromfile(self.path, self.dtype, end - begin, offset=begin * self.dtype.itemsize)

    def mapped(self, begin: int = 0, end: int | None = None) -> np.ndarray:
        """The rows from `begin` to `end` as an array that is read-only and stays on disk."""
        end = len(self) if end is None else end
        if end <= begin:
            return np.zeros(0, self.dtype)
        offset = begin * self.dtype.itemsize
        return np.memmap(self.path, self.dtype, "r", offset, (end - begin,))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.mapped(), dtype)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
