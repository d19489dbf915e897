"""Partial and final text while audio arrives:

python examples/live_captions.py samples/the-upper-house.wav

Replace `blocks` by those of your microphone or telephone line.
"""

import sys
from collections.abc import Iterator

import numpy as np
import soundfile

import asr

SAMPLE_RATE = 16_000


def blocks(path: str) -> Iterator[np.ndarray]:
    """Float32 samples, 100 ms at a time."""
    with soundfile.SoundFile(path) as file:
        assert file.samplerate == SAMPLE_RATE
        yield from file.blocks(SAMPLE_RATE // 10, dtype="float32")


with asr.load().stream(sample_rate=SAMPLE_RATE) as stream:
    for block in blocks(sys.argv[1]):
        for event in stream.feed(block):
            print(f"{event.kind:7}  {event.text}")
    for event in stream.finish():
        print(f"{event.kind:7}  {event.text}")
