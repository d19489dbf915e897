"""The table of a cluster run: a row for each recording, in Parquet, on a disk or in a store.

Rows are appended as parts; `merge` puts them into the one table, the newest row of each recording.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from asr import stores
from asr.errors import MissingDependencyError

if TYPE_CHECKING:
    import pyarrow as pa

TABLE, PARTS = "transcripts.parquet", "transcripts.parts"
_PART_SECONDS, _PART_ROWS = 30.0, 2000  # what a run that is killed loses at most
_MERGED_ROWS = 10_000  # that are in memory at a time


class Table:
    """`OUT/transcripts.parquet`, to which one process adds rows.

    Columns: uri, name (of its outputs, without extension), duration (s), text, words (word, start,
    end, confidence), confidence (their mean), losses (start, end, reason), error, seconds (of
    work), model (its checksum), key (of all that the transcript depends on).
    """

    def __init__(self, out: str):
        try:
            import pyarrow.parquet  # noqa: F401 - so that it is missed before work begins
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"the table of a cluster run needs {error.name}",
                "pip install 'blstm-ctc-asr[cluster]'",
            ) from error
        self._out = out
        self._rows: list[dict[str, Any]] = []
        self._written = time.monotonic()

    def add(self, row: dict[str, Any]) -> None:
        """A new row, with the names of columns; those left out are null."""
        self._rows.append(row)
        elapsed = time.monotonic() - self._written
        if elapsed > _PART_SECONDS or len(self._rows) >= _PART_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the rows so far as a part."""
        import pyarrow as pa

        if self._rows:
            part = f"{PARTS}/{time.time_ns():020d}.parquet"
            self._write(part, [pa.Table.from_pylist(self._rows, schema=_schema())])
        self._rows, self._written = [], time.monotonic()

    def begin(self) -> None:
        """Show that what lies in `out` from now on comes from runs with this table."""
        if not self.exists:
            self._write(TABLE, [])

    @property
    def exists(self) -> bool:
        return any(stores.find(stores.join(self._out, TABLE)))

    def done(self) -> Iterator[tuple[str, str]]:
        """Name and key of each recording that is transcribed."""
        for path in (stores.join(self._out, TABLE), *self._parts()):
            for rows in _batches(path, ["name", "key", "error"]):
                names, keys, errors = rows.columns
                for name, key, error in zip(names, keys, errors, strict=True):
                    if not error.is_valid:
                        yield name.as_py(), key.as_py()

    def merge(self) -> None:
        """Put all parts into the table: of each recording its newest row."""
        self.flush()
        parts = list(self._parts())
        if not parts:
            return
        table = stores.join(self._out, TABLE)
        self._write(TABLE, _newest([*reversed(parts), table]))
        for part in parts:
            stores.remove(part)

    def _parts(self) -> Iterator[str]:
        return (found.path for found in stores.find(stores.join(self._out, PARTS)))

    def _write(self, name: str, batches: Any) -> None:
        import pyarrow.parquet as pq

        schema = _schema()
        with (
            stores.writing(stores.join(self._out, name)) as file,
            pq.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            for batch in batches:
                writer.write(batch)


def _newest(paths: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of tables, newest first, without those whose recording has a newer one."""
    import pyarrow as pa

    seen: set[int] = set()  # hashes: names of a million recordings need not be in memory
    for path in paths:
        for rows in _batches(path):
            fresh = []
            for uri in rows.column("uri"):
                fresh.append(hash(uri.as_py()) not in seen)
                seen.add(hash(uri.as_py()))
            yield rows.filter(pa.array(fresh))


def _batches(path: str, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    import pyarrow.parquet as pq

    with stores.reading(path) as source, pq.ParquetFile(source) as file:
        yield from file.iter_batches(_MERGED_ROWS, columns=columns)


def _schema() -> pa.Schema:
    import pyarrow as pa

    word = {"word": pa.string(), "start": pa.float64(), "end": pa.float64()}
    loss = {"start": pa.float64(), "end": pa.float64(), "reason": pa.string()}
    return pa.schema(
        {
            "uri": pa.string(),
            "name": pa.string(),
            "duration": pa.float64(),
            "text": pa.string(),
            "words": pa.list_(pa.struct({**word, "confidence": pa.float64()}.items())),
            "confidence": pa.float64(),
            "losses": pa.list_(pa.struct(loss.items())),
            "error": pa.string(),
            "seconds": pa.float64(),
            "model": pa.string(),
            "key": pa.string(),
        }
    )
