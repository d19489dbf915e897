"""Sound as it comes: from a microphone, or from a recording played in its own time."""

from __future__ import annotations

import importlib
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from asr import audio
from asr.audio import AudioSource, Waveform
from asr.errors import AudioError, MissingDependencyError

BLOCK_SECONDS = 0.1
MAX_WAITING_SECONDS = 60.0  # of sound that nobody has taken: later sound is lost


@dataclass(frozen=True, slots=True)
class Device:
    """A device that records, at `sample_rate` Hz unless asked otherwise."""

    number: int
    name: str
    sample_rate: int
    is_default: bool


def devices() -> list[Device]:
    """Every device that can record.

    Raises MissingDependencyError if sounddevice or PortAudio is not installed.
    """
    sounddevice = _sounddevice()
    default = sounddevice.default.device[0]
    return [
        Device(number, info["name"], round(info["default_samplerate"]), number == default)
        for number, info in enumerate(sounddevice.query_devices())
        if info["max_input_channels"] > 0
    ]


def find_device(wanted: str | None = None) -> Device:
    """The device with this number, or whose name holds these words; None: the usual one.

    Raises AudioError if there is none or more than one, MissingDependencyError as `devices` does.
    """
    known = devices()
    listed = "; ".join(f"{device.number}: {device.name}" for device in known)
    if not known:
        raise AudioError("no device that records", "plug a microphone in, or give --file")
    if wanted is None:
        return next((device for device in known if device.is_default), known[0])
    if wanted.isdecimal():
        found = [device for device in known if device.number == int(wanted)]
    else:
        found = [device for device in known if wanted.casefold() in device.name.casefold()]
    if len(found) != 1:
        problem = "no device" if not found else f"{len(found)} devices"
        raise AudioError(f"{problem} for {wanted!r}", f"choose one of: {listed}")
    return found[0]


class Microphone:
    """A device, recording while the context is open.

    `lost` is how many seconds were lost because they were not taken in time.
    """

    def __init__(self, device: Device):
        self.device, self.sample_rate = device, device.sample_rate
        self.lost = 0.0
        size = round(MAX_WAITING_SECONDS / BLOCK_SECONDS)
        self._waiting: queue.Queue[Waveform] = queue.Queue(size)
        self._stream: Any = None

    def __enter__(self) -> Microphone:
        sounddevice = _sounddevice()
        try:
            self._stream = sounddevice.InputStream(
                device=self.device.number,
                samplerate=self.sample_rate,
                channels=1,
                dtype="float32",
                blocksize=round(BLOCK_SECONDS * self.sample_rate),
                callback=self._take,
            )
            self._stream.start()
        except sounddevice.PortAudioError as error:
            raise AudioError(
                f"{self.device.name}: does not record: {error}",
                "close other programs that use it, check permissions, or choose another --device",
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.stop()
        self._stream.close()

    def blocks(self, stopped: Callable[[], bool]) -> Iterator[Waveform]:
        """Samples `(n,)` as they come, until `stopped` says so; then what was recorded by then.

        Raises AudioError if the device falls silent altogether: it was unplugged.
        """
        while not stopped():
            for _ in range(50):
                try:
                    yield self._waiting.get(timeout=0.1)
                    break
                except queue.Empty:
                    if stopped():
                        return
            else:
                raise AudioError(f"{self.device.name}: sends no sound any more", "plug it in again")
        while not self._waiting.empty():
            yield self._waiting.get_nowait()

    def _take(self, samples: np.ndarray, frames: int, clock: Any, status: Any) -> None:
        """Called by PortAudio from its own thread."""
        try:
            self._waiting.put_nowait(samples[:, 0].copy())
        except queue.Full:
            self.lost += frames / self.sample_rate


class Playback:
    """A recording, as slowly as it was recorded; `fast` does not wait."""

    lost = 0.0

    def __init__(self, source: AudioSource, fast: bool = False):
        self.sample_rate = audio.probe(source).sample_rate
        self._source, self._fast = source, fast

    def __enter__(self) -> Playback:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def blocks(self, stopped: Callable[[], bool]) -> Iterator[Waveform]:
        """Samples `(n,)`, each block when it would have been recorded, until `stopped` says so.

        Raises AudioError as `asr.audio.blocks` does.
        """
        began, played = time.monotonic(), 0
        size = max(1, round(BLOCK_SECONDS * self.sample_rate))
        for long in audio.blocks(self._source, self.sample_rate):
            for begin in range(0, len(long), size):
                block = long[begin : begin + size]
                played += len(block)
                while not (self._fast or stopped()):
                    left = began + played / self.sample_rate - time.monotonic()
                    if left <= 0:
                        break
                    time.sleep(min(left, 0.1))
                if stopped():
                    return
                yield block


def _sounddevice() -> ModuleType:
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise MissingDependencyError(
            "sounddevice, which reads microphones, is not installed",
            "pip install 'blstm-ctc-asr[mic]'; --file needs no microphone",
        ) from error
    except OSError as error:  # it loads PortAudio as it is imported
        raise MissingDependencyError(
            f"sounddevice cannot be used: {error}",
            "install PortAudio: apt install libportaudio2, or dnf install portaudio;"
            " --file needs no microphone",
        ) from error
