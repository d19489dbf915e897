"""A progress bar on standard error, where someone is looking at it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asr.cli import warn
from asr.program import OUTPUT

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


REFRESH_SECONDS = 0.1
HOURLY = 600  # times real time from which speed is shown in hours a minute
_ERASE_LINE = "\r\x1b[2K"


class Progress:
    """Recordings done, how much faster than the sound itself, and how long it will take.

    Shows nothing, and costs nothing, if standard error is no terminal.
    """

    def __init__(self, n_recordings: int, shown: bool | None = None):
        self.shown = OUTPUT.progress if shown is None else shown
        self._bar = _make_bar() if self.shown else None
        self._task = self._bar.add_task("", total=n_recordings, speed="") if self._bar else None
        self._began = time.monotonic()
        self._drawn = 0.0
        self._done, self._seconds, self._expected = 0, 0.0, n_recordings

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def expect(self, n_recordings: int) -> None:
        """There are this many more recordings."""
        self._expected += n_recordings
        if self._bar and self._task is not None:
            self._bar.update(self._task, total=self._expected)

    def within(self, name: str, seconds: float, duration: float | None) -> None:
        """`seconds` of the recording `name` are done, of `duration` if that is known."""
        share = min(1.0, seconds / duration) if duration else 0.0
        self._show(name, self._done + share, self._seconds + seconds)

    def finish(self, name: str, duration: float) -> None:
        """The recording `name` of `duration` seconds is done, or failed after that long."""
        self._done += 1
        self._seconds += duration
        self._show(name, self._done, self._seconds)
        if OUTPUT.verbose:
            speed = self._speed(self._seconds)
            with self.hidden():
                warn(f"{name}: {duration:.1f} s ({self._done} of {self._expected}, {speed})")

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Make room for lines of text. The bar is one line, which comes back with the next step."""
        if self._bar:
            self._bar.console.file.write(_ERASE_LINE)
            self._bar.console.file.flush()
        yield

    def _show(self, name: str, completed: float, seconds: float) -> None:
        if self._bar and self._task is not None:
            speed = self._speed(seconds)
            self._bar.update(self._task, description=name, completed=completed, speed=speed)
            now = time.monotonic()
            if now - self._drawn > REFRESH_SECONDS:
                self._bar.refresh()
                self._drawn = now

    def _speed(self, seconds: float) -> str:
        speed = seconds / max(1e-3, time.monotonic() - self._began)
        return f"{speed:.0f}x real time" if speed < HOURLY else f"{speed / 60:.0f} h a minute"


def _make_bar() -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    one_line = Column(no_wrap=True, overflow="ellipsis", ratio=1)
    return Bar(
        TextColumn("{task.description}", markup=False, table_column=one_line),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,  # a thread of its own would draw between lines of text
        redirect_stdout=False,  # it would end up in standard error
    )
