"""What a run tells: a JSON-lines log, TensorBoard, a progress bar, and curves as a picture."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from asr.data.dataset import Batch


class RunLog:
    """Writes nothing unless `active`, so that only the main process speaks."""

    def __init__(self, folder: Path, active: bool):
        self.active = active
        self._folder = folder
        self._console = Console(stderr=True)
        self._progress: Progress | None = None

    def open(self) -> None:
        """Begin to write into the folder of the run; until then it only speaks."""
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

    def say(self, message: str) -> None:
        if self.active:
            (self._progress.console if self._progress else self._console).print(
                message, highlight=False, soft_wrap=True
            )

    def start_epoch(self, epoch: int, epochs: int, done: int, steps: int) -> None:
        if not self.active:
            return
        self._progress = Progress(
            TextColumn(f"epoch {epoch + 1}/{epochs}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[rate]:,.0f} frames/s  loss {task.fields[loss]:.3f}"),
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
    """Averages between two lines of the log."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._values: list[dict[str, float]] = []
        self._frames, self._failures = 0, 0
        self._waited, self._started = 0.0, time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        before = time.monotonic()
        yield
        self._waited += time.monotonic() - before

    def add(self, values: dict[str, float], batches: Sequence[Batch]) -> None:
        self._values.append(values)
        self._frames += sum(int(batch.lengths.sum()) for batch in batches)
        self._failures += sum(len(batch.failures) for batch in batches)

    def loss(self) -> float:
        return self._values[-1]["loss"]

    def frames_per_second(self) -> float:
        return self._frames / max(time.monotonic() - self._started, 1e-6)

    def flush(self) -> dict[str, float]:
        """Means since the last flush; frames/s and failures are those of this process."""
        n = len(self._values)
        means = {k: sum(v[k] for v in self._values) / n for k in self._values[0]}
        elapsed = max(time.monotonic() - self._started, 1e-6)
        means["frames_per_second"] = self._frames / elapsed
        means["waiting"] = self._waited / elapsed
        means["failures"] = self._failures
        self._reset()
        return means
