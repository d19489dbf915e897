"""The process above several workers: it accepts connections and hands each to the least busy one.

Workers that accept from a shared socket by themselves do not share: whoever is awake takes all. So
the parent accepts, counts who has how many connections, and passes the socket on. A worker whose
model is loaded comes before one that still loads; one that dies is replaced.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import selectors
import signal
import socket
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

from prometheus_client.multiprocess import mark_process_dead

from asr.errors import ASRError
from serve import logs
from serve.metrics import MULTIPROCESS
from serve.settings import ServeSettings

HTTP, WYOMING = b"h", b"w"  # what a connection that is handed over speaks
_MIN_LIFE_SECONDS = 5.0  # a worker that dies sooner is not replaced at once
_RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.2  # between two looks at whether the workers live
_BATCH = 64  # connections that are accepted in a row


class Inlet:
    """A worker's end: connections come in, and counts go back."""

    def __init__(self, connection: socket.socket, counts: Any):
        self._connection, self._counts = connection, counts

    def fileno(self) -> int:
        """For an event loop to wait on."""
        return self._connection.fileno()

    def take(self) -> tuple[bytes, socket.socket] | None:
        """The next connection and what it speaks; None: the parent has gone.

        Raises BlockingIOError if there is none.
        """
        self._connection.setblocking(False)
        kind, descriptors, _, _ = socket.recv_fds(self._connection, 1, 1)
        if not kind or not descriptors:
            return None
        self._counts[0] += 1
        return kind, socket.socket(fileno=descriptors[0])

    def report(self, n_open: int, ready: bool) -> None:
        """Tell how many connections are open, and whether the model is loaded."""
        self._counts[1], self._counts[2] = n_open, ready


@dataclass
class _Worker:
    process: Any
    outlet: socket.socket
    counts: Any  # connections taken, connections open, is ready
    begun: float
    handed: int = 0

    @property
    def load(self) -> int:
        """Connections that are open, and those on their way."""
        return int(self.counts[1]) + self.handed - int(self.counts[0])


class Workers:
    """Processes behind an address.

    Args:
        sockets: listening: that of HTTP, and that of Wyoming if there is one.
        work: what a worker does, given the settings and its `Inlet`.
    """

    def __init__(
        self,
        settings: ServeSettings,
        sockets: list[socket.socket],
        work: Callable[[ServeSettings, Inlet], None],
    ):
        if not hasattr(socket, "send_fds"):
            raise ASRError("several workers need Unix", "use --workers 1, or several ports")
        self._settings, self._work = settings, work
        self._listening = dict(zip(sockets, (HTTP, WYOMING), strict=False))
        self._context: Any = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._stopping = False

    def run(self) -> int:
        """Until a signal; returns the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        with tempfile.TemporaryDirectory(prefix="asr-serve-") as folder:
            os.environ[MULTIPROCESS] = folder
            self._workers = [self._start() for _ in range(self._settings.workers)]
            with selectors.DefaultSelector() as selector:
                for listening, kind in self._listening.items():
                    listening.setblocking(False)
                    selector.register(listening, selectors.EVENT_READ, kind)
                while not self._stopping:
                    for key, _ in selector.select(_LOOK_SECONDS):
                        self._accept(key.fileobj, key.data)
                    self._replace_dead()
            for listening in self._listening:
                listening.close()
            for worker in self._workers:
                if worker.process.is_alive():
                    worker.process.terminate()
            for worker in self._workers:
                worker.process.join()
        return max(abs(worker.process.exitcode or 0) for worker in self._workers)

    def _accept(self, listening: Any, kind: bytes) -> None:
        for _ in range(_BATCH):
            try:
                connection, _ = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:  # too many open files, or a client that has left
                logs.event("accept_failed", logging.WARNING, error=str(error))
                time.sleep(0.01)
                return
            with connection:
                self._hand_over(connection, kind)

    def _hand_over(self, connection: socket.socket, kind: bytes) -> None:
        """To the least busy worker that takes it; if none does, it is closed."""
        alive = [worker for worker in self._workers if worker.process.is_alive()]
        for worker in sorted(alive, key=lambda w: (not w.counts[2], w.load, w.handed)):
            try:
                socket.send_fds(worker.outlet, [kind], [connection.fileno()])
            except OSError:  # it is about to die, or has too many waiting
                continue
            worker.handed += 1
            return

    def _replace_dead(self) -> None:
        for i, worker in enumerate(self._workers):
            if worker.process.is_alive() or self._stopping:
                continue
            lived = time.monotonic() - worker.begun
            if worker.process.pid is not None:
                mark_process_dead(worker.process.pid)
                logs.event(
                    "worker_died",
                    logging.ERROR,
                    worker=worker.process.pid,
                    status=worker.process.exitcode,
                )
            worker.outlet.close()
            if lived < _MIN_LIFE_SECONDS:
                time.sleep(_RESTART_SECONDS)
            self._workers[i] = self._start()

    def _start(self) -> _Worker:
        outlet, inlet = socket.socketpair()
        outlet.setblocking(False)
        counts = self._context.RawArray("q", 3)
        with contextlib.closing(inlet):
            process = self._context.Process(
                target=self._work,
                args=(self._settings, Inlet(inlet, counts)),
                name="asr-serve",
            )
            process.start()
        logs.event("worker_started", worker=process.pid)
        return _Worker(process, outlet, counts, time.monotonic())

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True
