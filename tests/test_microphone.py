"""Microphones: which there are, what they send, and what is said when they cannot be used."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

from asr import microphone
from asr.errors import AudioError, MissingDependencyError
from asr.microphone import Device, Microphone, Playback, devices, find_device

RATE = 44_100
DEVICES = [
    {"name": "Speakers", "default_samplerate": 48_000.0, "max_input_channels": 0},
    {"name": "Built-in", "default_samplerate": 48_000.0, "max_input_channels": 2},
    {"name": "USB one", "default_samplerate": 44_100.0, "max_input_channels": 1},
    {"name": "USB two", "default_samplerate": 16_000.0, "max_input_channels": 1},
]


class PortAudioError(Exception):
    pass


class InputStream:
    """Sends blocks from a thread of its own, as PortAudio does."""

    broken = False
    n_blocks = 5

    def __init__(self, *, samplerate: int, blocksize: int, callback: Any, **settings: Any):
        if self.broken:
            raise PortAudioError("device busy")
        assert (settings["channels"], settings["dtype"]) == (1, "float32")
        self._size, self._callback = blocksize, callback

    def start(self) -> None:
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def _send(self) -> None:
        for number in range(self.n_blocks):
            block = np.full((self._size, 1), number, np.float32)
            self._callback(block, self._size, None, None)
            block[:] = np.nan  # the buffer is PortAudio's again

    def stop(self) -> None:
        self._thread.join()

    def close(self) -> None:
        pass


@pytest.fixture
def portaudio(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    module = SimpleNamespace(
        query_devices=lambda: DEVICES,
        default=SimpleNamespace(device=[1, 0]),
        InputStream=type("Stream", (InputStream,), {}),
        PortAudioError=PortAudioError,
    )
    monkeypatch.setitem(sys.modules, "sounddevice", module)
    return module


def test_devices_that_record(portaudio: SimpleNamespace) -> None:
    assert devices() == [
        Device(1, "Built-in", 48_000, True),
        Device(2, "USB one", 44_100, False),
        Device(3, "USB two", 16_000, False),
    ]
    assert find_device().name == "Built-in"
    assert find_device("2").name == "USB one"
    assert find_device("TWO").name == "USB two"
    for wanted, message in (("usb", "2 devices for 'usb'"), ("0", "no device for '0'")):
        with pytest.raises(AudioError, match=rf"{message} \(choose one of: 1: Built-in; 2:"):
            find_device(wanted)
    DEVICES_THAT_PLAY = DEVICES[:1]
    portaudio.query_devices = lambda: DEVICES_THAT_PLAY
    with pytest.raises(AudioError, match="no device that records"):
        find_device()


def test_blocks_come_until_it_is_enough(portaudio: SimpleNamespace) -> None:
    heard: list[np.ndarray] = []
    with Microphone(find_device("2")) as source:
        for block in source.blocks(lambda: len(heard) == 3):
            heard.append(block)
    assert [float(block[0]) for block in heard[:3]] == [0, 1, 2]
    assert all(len(block) == RATE // 10 and block.dtype == np.float32 for block in heard)
    assert source.lost == 0


def test_what_nobody_takes_is_counted(
    portaudio: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(microphone, "MAX_WAITING_SECONDS", 0.2)
    with Microphone(find_device("2")) as source:
        time.sleep(0.05)
    assert source.lost == pytest.approx(0.3)


def test_devices_that_do_not_record(portaudio: SimpleNamespace) -> None:
    portaudio.InputStream.broken = True
    with pytest.raises(AudioError, match="Built-in: does not record: device busy"):
        Microphone(find_device()).__enter__()


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'blstm-ctc-asr\[mic\]'"):
        devices()

    def fail(name: str) -> None:
        raise OSError("PortAudio library not found")

    monkeypatch.setattr("importlib.import_module", fail)
    with pytest.raises(MissingDependencyError, match="apt install libportaudio2"):
        devices()


def test_playback_takes_its_time_or_not(tmp_path: Path) -> None:
    waveform = np.linspace(-0.5, 0.5, RATE // 2, dtype=np.float32)
    soundfile.write(tmp_path / "a.flac", waveform, RATE)
    for fast in (True, False):
        began = time.monotonic()
        with Playback(tmp_path / "a.flac", fast) as source:
            blocks = list(source.blocks(lambda: False))
        assert fast or time.monotonic() - began >= 0.5
        assert source.sample_rate == RATE
        np.testing.assert_allclose(np.concatenate(blocks), waveform, atol=1e-4)
    assert list(Playback(tmp_path / "a.flac").blocks(lambda: True)) == []
