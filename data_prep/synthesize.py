"""Speech for a text, by a synthesiser that is installed: hibari-tts, espeak-ng or flite.

Such voices are no people, but they say words that no recording at hand says: something to add to
real speech. Voice, tempo and pitch vary from line to line.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import soundfile
import soxr

from asr import audio
from asr.errors import MissingDependencyError
from asr.files import replacing
from data_prep.corpus import Clip, CorpusError

TIMEOUT = 60.0  # seconds for one line
TEMPO = (0.8, 1.25)  # times the usual speed


class Engine(ABC):
    """A synthesiser: its name, and the voices that are used if none are asked for."""

    name: str
    voices: tuple[str, ...]

    @abstractmethod
    def is_installed(self) -> bool: ...

    @abstractmethod
    def speak(self, text: str, voice: str, rng: random.Random) -> np.ndarray:
        """A waveform (samples,) float32 of 16 kHz; `rng` draws what varies from line to line.

        Raises CorpusError if the engine fails, as it does for an unknown voice.
        """


class Program(Engine):
    """espeak-ng or flite, with another tempo and pitch for each line."""

    def __init__(self, name: str, voices: tuple[str, ...]):
        self.name, self.voices = name, voices

    def is_installed(self) -> bool:
        return shutil.which(self.name) is not None

    def speak(self, text: str, voice: str, rng: random.Random) -> np.ndarray:
        tempo, pitch = rng.uniform(*TEMPO), rng.uniform(0.2, 0.8)
        with tempfile.TemporaryDirectory() as scratch:
            path, wav = Path(scratch, "text"), Path(scratch, "wav")
            path.write_text(text + "\n", encoding="utf-8")
            _run(self._command(voice, tempo, pitch, path, wav), wav)
            return audio.read(wav)

    def _command(self, voice: str, tempo: float, pitch: float, text: Path, wav: Path) -> list[str]:
        """`pitch` from 0 to 1; the middle is the voice's own."""
        if self.name == "espeak-ng":
            speed, height = str(round(175 * tempo)), str(round(99 * pitch))
            return [self.name, "-v", voice, "-s", speed, "-p", height, "-w", str(wav),
                    "-f", str(text)]  # fmt: skip
        stretch = f"duration_stretch={1 / tempo:.3f}"
        return [self.name, "-voice", voice, "--setf", stretch, "-f", str(text), "-o", str(wav)]


@dataclass(frozen=True)
class Speaker:
    """How a pseudo-speaker differs from the voice that is bent.

    pitch, formants: factors of the fundamental frequency and of the formants. tilt: nepers that the
    spectrum rises by up to 12 kHz.
    """

    pitch: float
    formants: float
    tilt: float


class Hibari(Engine):
    """The neural voice of hibari-tts, a woman's, bent into any number of pseudo-speakers.

    Their voices are called woman-1, man-7 or child-12: each number has its own fundamental
    frequency, formants and tilt of the spectrum.
    """

    name = "hibari"
    voices = tuple(f"{kind}-{n}" for kind in ("woman", "man", "child") for n in range(1, 51))
    # Factors of the fundamental frequency and of the formants.
    _RANGES: ClassVar = {
        "woman": ((0.85, 1.12), (0.94, 1.06)),
        "man": ((0.5, 0.65), (0.8, 0.9)),
        "child": ((1.3, 1.5), (1.1, 1.2)),
    }

    def __init__(self) -> None:
        self._lock = Lock()
        self._loaded: Any = None

    def is_installed(self) -> bool:
        return find_spec("hibari") is not None

    def speak(self, text: str, voice: str, rng: random.Random) -> np.ndarray:
        speaker = self.speaker(voice)
        tempo, noise = rng.uniform(*TEMPO), np.random.default_rng(rng.getrandbits(32))
        with self._lock:  # the front end is not made for threads
            if self._loaded is None:
                self._loaded = import_module("hibari").Hibari()
            phonemes = self._loaded.phonemize(text)
        parts = [self._part(part, tempo, speaker, noise) for part in phonemes]
        if not parts:
            raise CorpusError(f"hibari has no sound for {text!r}", "leave the line out")
        return soxr.resample(np.concatenate(parts), self._loaded.sample_rate, audio.SAMPLE_RATE)

    def speaker(self, voice: str) -> Speaker:
        """The same for the same name. Raises CorpusError for one that does not exist."""
        kind, _, number = voice.partition("-")
        if kind not in self._RANGES or not number.isdecimal():
            raise CorpusError(f"hibari has no voice {voice!r}", "one like woman-1, man-7, child-12")
        rng = random.Random(voice)
        pitch, formants = self._RANGES[kind]
        return Speaker(rng.uniform(*pitch), rng.uniform(*formants), rng.uniform(-0.7, 0.7))

    def _part(
        self, phonemes: str, tempo: float, speaker: Speaker, noise: np.random.Generator
    ) -> np.ndarray:
        inputs = {
            "ids": np.asarray([self._loaded.ids(phonemes)], np.int64),
            "speed": np.asarray([tempo], np.float32),
        }
        # Log magnitudes (bins, frames) of the harmonics, noise and rest, and their phases.
        harmonics, phase, hiss, rest, rest_phase, pitch = (
            output[0] for output in self._loaded.sess.run(None, inputs)
        )
        n_bins = len(harmonics)
        bins = np.minimum(np.arange(n_bins) / speaker.formants, n_bins - 1)
        tilt = np.linspace(0, speaker.tilt, n_bins, dtype=np.float32)[:, None]
        nearest = bins.round().astype(int)
        below, share = bins.astype(int), (bins % 1).astype(np.float32)[:, None]
        above = np.minimum(below + 1, n_bins - 1)
        warped = (x[below] * (1 - share) + x[above] * share + tilt for x in (harmonics, hiss, rest))
        harmonics, hiss, rest = warped
        synthesis = import_module("hibari.dsp").synth
        made: np.ndarray = synthesis(
            harmonics, phase[nearest], hiss, rest, rest_phase[nearest], pitch * speaker.pitch, noise
        )
        return made


ENGINES: tuple[Engine, ...] = (
    Hibari(),
    Program("espeak-ng", ("en-us", "en-us+m3", "en-us+f2", "en-gb", "en-gb+m7", "en-gb+f4")),
    Program("flite", ("slt", "rms", "awb", "kal")),
)


def choose_engine(name: str | None = None) -> Engine:
    """The engine of that name, or the first that is installed.

    Raises MissingDependencyError if there is none.
    """
    for engine in ENGINES:
        if name in (None, engine.name) and engine.is_installed():
            return engine
    if name in (None, Hibari.name):
        remedy = "pip install 'blstm-ctc-asr[data]'"
        raise MissingDependencyError(f"{name or 'a synthesiser'} is not installed", remedy)
    raise MissingDependencyError(f"{name} is not installed", f"apt-get install {name}")


def synthesize(
    lines: Iterable[str], to: Path, engine: Engine, voices: Sequence[str] = (), seed: int = 0
) -> Iterator[Clip]:
    """One recording for each line that is not empty, as FLAC in `to`.

    A line is said in the same way whenever it is given with the same seed; what is there already is
    not made again. Raises CorpusError if the engine fails, as it does for an unknown voice.
    """
    to.mkdir(parents=True, exist_ok=True)

    def say(line: str) -> Clip:
        return _say(line, to, engine, voices or engine.voices, seed)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(say, (line.strip() for line in lines if line.strip()))


def _say(line: str, to: Path, engine: Engine, voices: Sequence[str], seed: int) -> Clip:
    name = hashlib.sha256(f"{seed}\n{line}".encode()).hexdigest()[:16]
    rng = random.Random(name)
    voice, path = rng.choice(list(voices)), to / f"{name}.flac"
    if not path.exists():
        waveform = engine.speak(line, voice, rng)
        with replacing(path) as temporary, temporary.open("wb") as file:  # names need no encoding
            soundfile.write(file, waveform, audio.SAMPLE_RATE, format="FLAC")
    return Clip(path, line, f"{engine.name}-{voice}", name, extra={"synthetic": engine.name})


def _run(command: list[str], wav: Path) -> None:
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CorpusError(f"{command[0]} failed: {error}") from error
    if done.returncode or not wav.exists() or not wav.stat().st_size:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise CorpusError(
            f"{command[0]} made no sound ({' '.join(said) or f'status {done.returncode}'})",
            "check the voice: `espeak-ng --voices`, `flite -lv`",
        )
