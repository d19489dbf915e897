"""How long `asr transcribe` takes for a short recording, from the start of the process to its end.

    python benchmarks/transcribe.py                     10 s, the bundled model
    python benchmarks/transcribe.py --seconds 3600      an hour; also its memory

The recording is made of the samples, one after the other, and written as FLAC. The first run of an
installation compiles the decoder and is shown by itself.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from asr import audio

SAMPLES = Path(__file__).parents[1] / "samples"
RATE = 16_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="length of the recording")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("options", nargs="*", help="for asr transcribe, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recording = Path(folder, "recording.flac")
        write_recording(recording, arguments.seconds)
        print(f"{arguments.seconds:g} s of audio, {os.cpu_count()} cores")
        for run in range(arguments.runs + 1):
            wall, cpu, memory = measure([str(recording), *arguments.options])
            name = f"run {run}" if run else "first"
            print(
                f"{name:8}{wall:8.2f} s{cpu:8.2f} s of CPU{memory / 1e6:8.0f} MB"
                f"{arguments.seconds / wall:8.1f}x real time"
            )


def write_recording(path: Path, seconds: float) -> None:
    pause = np.zeros(RATE // 2, np.float32)
    spoken = [audio.read(p) for p in sorted(SAMPLES.iterdir()) if p.suffix in {".flac", ".opus"}]
    left = round(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        for waveform in itertools.cycle([part for s in spoken for part in (s, pause)]):
            file.write(waveform[:left])
            left -= len(waveform)
            if left <= 0:
                return


def measure(arguments: list[str]) -> tuple[float, float, int]:
    """Seconds on the clock, seconds of CPU, and the most memory (bytes) of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "asr", "transcribe", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, after.ru_maxrss * 1024  # of the largest child so far: all do the same


if __name__ == "__main__":
    main()
