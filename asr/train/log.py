"""What a run tells: a JSON-lines log, TensorBoard, a progress bar, and curves as a picture."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Writes nothing unless `active`, so that only the main process speaks."""

    def __init__(self, folder: Path, active: bool):
        self.active = active
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        if active:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "log.jsonl").open("a", encoding="utf-8")
            self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, kind: str, step: int, **values: Any) -> None:
        if not self.active:
            return
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

    def advance(self, rate: float, loss: float) -> None:
        if self._progress:
            self._progress.update(self._task, advance=1, rate=rate, loss=loss)

    def end_epoch(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def close(self) -> None:
        self.end_epoch()
        if self.active:
            self._file.close()
            self._board.close()
