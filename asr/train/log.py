"""The log of a run: messages, JSON lines, TensorBoard, a progress bar."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from asr.program import OUTPUT


class RunLog:
    """Log file, TensorBoard and messages; silent unless `active`, as in the main process alone."""

    def __init__(self, folder: Path, active: bool):
        self.active = active
        self._folder = folder
        self._console = Console(stderr=True, quiet=OUTPUT.quiet)
        self._progress: Progress | None = None

    def open(self) -> None:
        """Begin to write into the folder of the run; before that there are messages only."""
        if self.active:
            self._file = (self._folder / "log.jsonl").open("a", encoding="utf-8")
            self._board = SummaryWriter(str(self._folder / "tensorboard"))

    def write(self, kind: str, step: int, **values: Any) -> None:
        if not self.active:
            return
        values = {name: value for name, value in values.items() if value == value}  # no NaN
        record = {"kind": kind, "step": step, "time": round(time.time(), 1), **values}
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()
        for name, value in values.items():
            if isinstance(value, int | float):
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def info(self, message: str) -> None:
        if self.active:
            (self._progress.console if self._progress else self._console).print(
                message, highlight=False, soft_wrap=True
            )

    def start_epoch(self, epoch: int, done: int, steps: int, unit: str) -> None:
        if not self.active:
            return
        self._progress = Progress(
            TextColumn(f"epoch {epoch + 1}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn(f"{{task.fields[rate]:,.0f}} {unit}s/s  loss {{task.fields[loss]:.3f}}"),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=steps, completed=done, rate=0.0, loss=0.0)
        self._progress.start()

    def advance(self, n_batches: int, rate: float, loss: float) -> None:
        if self._progress:
            self._progress.update(self._task, advance=n_batches, rate=rate, loss=loss)

    def end_epoch(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def close(self) -> None:
        self.end_epoch()
        if self.active:
            self._file.close()
            self._board.close()


class Meter:
    """Averages between two lines of the log. `unit`: what speed is counted in."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._reset()

    def _reset(self) -> None:
        self._values: list[dict[str, float]] = []
        self._units, self._failures = 0, 0
        self._waited, self._started = 0.0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self._waited += time.monotonic() - before

    def add(self, values: dict[str, float], units: int, failures: int) -> None:
        """The figures of one update, and what this process has read for it."""
        self._values.append(values)
        self._units += units
        self._failures += failures

    def loss(self) -> float:
        return self._values[-1]["loss"]

    def units_per_second(self) -> float:
        return self._units / max(time.monotonic() - self._started, 1e-6)

    def flush(self) -> dict[str, float]:
        """Means since the last flush; speed and failures are those of this process."""
        n = len(self._values)
        means = {k: sum(v[k] for v in self._values) / n for k in self._values[0]}
        means[f"{self._unit}s_per_second"] = self.units_per_second()
        means["waiting"] = self._waited / max(time.monotonic() - self._started, 1e-6)
        means["failures"] = self._failures
        self._reset()
        return means
