"""Join recordings of single digits into strings of four, to train and plot attention.

    python benchmarks/digit_strings.py runs/plain/train.jsonl runs/strings/train

Writes OUTPUT/*.flac and the manifest OUTPUT.jsonl.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import SAMPLE_RATE
from asr.data.manifest import read_audio, read_manifest, write_manifest
from asr.types import Utterance

LENGTH = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path, help="recordings; only those of digits are used")
    parser.add_argument("output", type=Path, help="a new folder")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    digits = [u for u in read_manifest(options.manifest) if "digits" in u.audio_filepath]
    random.Random(1).shuffle(digits)
    strings = []
    for start in range(0, len(digits) - LENGTH + 1, LENGTH):
        chosen = digits[start : start + LENGTH]
        waveform = np.concatenate([read_audio(u, SAMPLE_RATE) for u in chosen])
        path = options.output.resolve() / f"{start}.flac"
        soundfile.write(path, waveform, SAMPLE_RATE)
        text = " ".join(u.text for u in chosen)
        strings.append(Utterance(str(path), len(waveform) / SAMPLE_RATE, text))
    write_manifest(f"{options.output}.jsonl", strings)


if __name__ == "__main__":
    main()
