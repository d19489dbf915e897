"""Recordings in: any container, rate and channel count; out: blocks of float32 samples.

libsndfile (`soundfile`) reads WAV, FLAC, Ogg and their like; ffmpeg (`av`) reads the rest: MP3,
M4A, MP4, WebM and so on. Both come in wheels with their codecs inside. Everything is read block by
block, so the length of a recording never shows in memory, and resampled by a filter that carries
its state from block to block, so block borders never show in the samples.

Damage costs only the damaged part: `on_loss` gets what is missing, and reading continues.
Without `on_loss`, the first loss is an AudioError.
"""

from asr.audio.reading import (
    BLOCK_SECONDS,
    MAX_READ_SECONDS,
    AudioInfo,
    AudioSource,
    OnLoss,
    Part,
    blocks,
    channel_blocks,
    probe,
    read,
)
from asr.audio.resampling import (
    MAX_AMPLITUDE,
    PLAUSIBLE_RATES,
    SAMPLE_RATE,
    Channels,
    Resampler,
    Waveform,
    array_blocks,
)

__all__ = [
    "BLOCK_SECONDS",
    "MAX_AMPLITUDE",
    "MAX_READ_SECONDS",
    "PLAUSIBLE_RATES",
    "SAMPLE_RATE",
    "AudioInfo",
    "AudioSource",
    "Channels",
    "OnLoss",
    "Part",
    "Resampler",
    "Waveform",
    "array_blocks",
    "blocks",
    "channel_blocks",
    "probe",
    "read",
]
