"""A language of pure tones, one for each symbol: what a model should hear is known exactly."""

from __future__ import annotations

import numpy as np

TONES = dict(zip(" abcdefghijklm", range(18, 74, 4), strict=True))  # the mel band of each symbol
TONE_SECONDS = 0.12
PAUSE_SECONDS = 0.12  # after each tone: parts equal letters that follow each other


def tones(text: str) -> np.ndarray:
    """A waveform that the `tone_bundle` hears as `text`: a pure tone for each symbol."""
    edges_mel = np.linspace(*(1127 * np.log(1 + np.array([20, 8000]) / 700)), 82)
    centres = 700 * (np.exp(edges_mel[1:-1] / 1127) - 1)
    time = np.arange(round(TONE_SECONDS * 16_000)) / 16_000
    ramp = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)
    pause = np.zeros(round(PAUSE_SECONDS * 16_000))
    parts = [
        np.concatenate([0.3 * ramp * np.sin(2 * np.pi * centres[TONES[symbol]] * time), pause])
        for symbol in text
    ]
    return np.concatenate(parts).astype(np.float32)
