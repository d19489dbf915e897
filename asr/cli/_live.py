"""Live results on a terminal: a changing line below the finished utterances."""

from __future__ import annotations

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from asr.types import StreamEvent

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

QUIETEST_DB = -60.0
_BARS = " ▁▂▃▄▅▆▇█"
_METER = 10  # the newest levels that are shown
_REFRESH_SECONDS = 0.08


def level(block: np.ndarray) -> float:
    """Loudness of samples `(n,)`: decibels below full scale, QUIETEST_DB at least.

    >>> round(level(np.array([0.5, -0.5])), 1)
    -6.0
    """
    power = float(np.mean(np.square(block, dtype=np.float64))) if len(block) else 0.0
    return max(QUIETEST_DB, 10 * math.log10(power + 1e-12))


class LiveLine:
    """Finals on standard output; below them, on a terminal only, a meter and what is partial.

    What is stable of a partial stands out, the rest may still change.
    """

    def __init__(self, console: Console | None = None):
        self._console = console
        self._text, self._stable = "", ""
        self._levels = [QUIETEST_DB] * _METER
        self._shown = 0.0
        if console is None and sys.stdout.isatty():
            from rich.console import Console

            self._console = Console()
        self._live = None
        if self._console is not None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveLine:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def meter(self, block: np.ndarray) -> None:
        """Show how loud samples `(n,)` are."""
        self._levels = [*self._levels[1:], level(block)]
        self._refresh()

    def show(self, event: StreamEvent) -> None:
        """Show what was understood; empty finals leave no line."""
        if not event.is_final:
            self._text, self._stable = event.text, event.stable
        elif event.text:
            self._text = self._stable = ""
            if self._console is None:
                print(event.text, flush=True)
            else:
                self._console.print(event.text, markup=False, highlight=False)
        self._refresh(now=event.is_final)

    def _refresh(self, now: bool = False) -> None:
        if self._live and (now or time.monotonic() - self._shown > _REFRESH_SECONDS):
            self._live.update(self._line(), refresh=True)
            self._shown = time.monotonic()

    def _line(self) -> Text:
        from rich.text import Text

        assert self._console is not None
        steps = len(_BARS) - 1
        shares = [1 - loudness / QUIETEST_DB for loudness in self._levels]
        meter = "".join(_BARS[round(steps * min(1.0, share))] for share in shares)
        room = max(8, self._console.width - _METER - 2)
        hidden = max(0, len(self._text) - room)  # the newest words count
        line = Text(no_wrap=True, overflow="crop").append(f"{meter} ", "green")
        line.append(self._text[hidden : len(self._stable)], "bold")
        line.append(self._text[max(hidden, len(self._stable)) :], "dim")
        return line
