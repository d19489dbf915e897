"""Speech for a text, by a synthesiser that is installed: espeak-ng or flite.

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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile

from asr import audio
from asr.errors import MissingDependencyError
from data_prep.corpus import Clip, CorpusError

TIMEOUT = 60.0  # seconds for one line
TEMPO = (0.8, 1.25)  # times the usual speed


@dataclass(frozen=True)
class Engine:
    """A synthesiser: its program, and the voices that are used if none are asked for."""

    program: str
    voices: tuple[str, ...]

    def command(self, voice: str, tempo: float, pitch: float, text: Path, wav: Path) -> list[str]:
        """`pitch` from 0 to 1; the middle is the voice's own."""
        if self.program == "espeak-ng":
            speed, height = str(round(175 * tempo)), str(round(99 * pitch))
            return [self.program, "-v", voice, "-s", speed, "-p", height, "-w", str(wav),
                    "-f", str(text)]  # fmt: skip
        stretch = f"duration_stretch={1 / tempo:.3f}"
        return [self.program, "-voice", voice, "--setf", stretch, "-f", str(text), "-o", str(wav)]


ENGINES = (
    Engine("espeak-ng", ("en-us", "en-us+m3", "en-us+f2", "en-gb", "en-gb+m7", "en-gb+f4")),
    Engine("flite", ("slt", "rms", "awb", "kal")),
)


def choose_engine(name: str | None = None) -> Engine:
    """The engine of that name, or the first that is installed.

    Raises MissingDependencyError if there is none.
    """
    for engine in ENGINES:
        if name in (None, engine.program) and shutil.which(engine.program):
            return engine
    wanted = name or " or ".join(engine.program for engine in ENGINES)
    raise MissingDependencyError(
        f"{wanted} is not installed", f"apt-get install {name or ENGINES[0].program}"
    )


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
    voice, tempo, pitch = rng.choice(list(voices)), rng.uniform(*TEMPO), rng.uniform(0.2, 0.8)
    path = to / f"{name}.flac"
    if not path.exists():
        with tempfile.TemporaryDirectory() as scratch:
            text, wav = Path(scratch, "text"), Path(scratch, "wav")
            text.write_text(line + "\n", encoding="utf-8")
            _run(engine.command(voice, tempo, pitch, text, wav), wav)
            temporary = path.with_suffix(".tmp")
            soundfile.write(temporary, audio.read(wav), audio.SAMPLE_RATE, format="FLAC")
            temporary.replace(path)
    speaker = f"{engine.program}-{voice}"
    return Clip(path, line, speaker, name, extra={"synthetic": engine.program})


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
