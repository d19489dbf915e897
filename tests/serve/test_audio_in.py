"""Bytes to samples: any codec, any cut, and never more than allowed."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, encode, pieces, s16

from asr.audio import read
from asr.errors import AudioError
from serve.audio_in import BLOCK_SECONDS, AudioFormat, AudioInput, open_input
from serve.limits import Refused

SINE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "100000"}
CONTAINERS = {
    "webm, opus": lambda x: encode(x, "webm", "libopus", 48_000, live="1"),
    "ogg, opus": lambda x: encode(x, "ogg", "libopus", 48_000),
    "mp4, aac": lambda x: encode(x, "mp4", "aac", 44_100, **FRAGMENTS),
    "wav": lambda x: encode(x, "wav", "pcm_s16le", 22_050),
    "flac": lambda x: encode(x, "flac", "flac", 16_000),
    "wav, mu-law": lambda x: encode(x, "wav", "pcm_mulaw", 8_000),
}


def heard(source: AudioInput, parts: list[bytes]) -> np.ndarray:
    blocks = [block for part in parts for block in source.feed(part)]
    blocks += source.finish()
    assert all(len(block) <= BLOCK_SECONDS * source.sample_rate + 1 for block in blocks)
    return np.concatenate([np.zeros(0, np.float32), *blocks])


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_that_arrive_in_pieces_are_the_recordings(name):
    import io

    data = CONTAINERS[name](SINE)
    source = open_input(AudioFormat("container"), limit=10)
    live = heard(source, list(pieces(data, 700)))
    whole = read(io.BytesIO(data))
    assert abs(len(live) - len(whole)) < 0.05 * RATE
    middle = slice(RATE // 2, RATE)  # codecs fade in and out
    spectrum = np.abs(np.fft.rfft(live[middle]))
    assert np.argmax(spectrum) * RATE / (RATE // 2) == pytest.approx(440, abs=4)
    assert np.std(live[middle]) == pytest.approx(np.std(SINE), rel=0.1)


def test_opus_comes_without_delay():
    """Each piece gives its sound at once: what a browser sends is heard while it speaks."""
    data = encode(SINE, "webm", "libopus", 48_000, live="1")
    source = open_input(AudioFormat("container"), limit=10)
    n_heard, lags = 0, []
    for number, part in enumerate(pieces(data, len(data) // 20), start=1):
        n_heard += sum(map(len, source.feed(part)))
        lags.append(number / 20 * 2 - n_heard / RATE)
    source.close()
    assert max(lags[3:]) < 0.25  # seconds


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 4000), max_size=12), channels=st.integers(1, 3))
def test_raw_samples_do_not_depend_on_the_cuts(cuts, channels):
    data = s16(SINE[:3000])
    parts = [data[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True)]
    whole = heard(open_input(AudioFormat("s16le", RATE, channels), 10), [data])
    np.testing.assert_array_equal(
        heard(open_input(AudioFormat("s16le", RATE, channels), 10), parts), whole
    )
    expected = np.frombuffer(data, "<i2")[: len(data) // 2 // channels * channels]
    np.testing.assert_allclose(
        whole, expected.reshape(-1, channels).mean(axis=1) / 32768, atol=1e-6
    )


@pytest.mark.parametrize(("encoding", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_telephone_codecs_are_ffmpegs(encoding, codec):
    data = encode(SINE, codec.removeprefix("pcm_"), codec, 8_000)  # a file without a header
    samples = heard(open_input(AudioFormat(encoding, 8_000), 10), [data])
    low = s16(SINE, 8_000)
    np.testing.assert_allclose(samples, np.frombuffer(low, "<i2") / 32768, atol=0.02)


def test_floats_are_checked():
    source = open_input(AudioFormat("f32le", RATE), 10)
    np.testing.assert_array_equal(heard(source, [SINE.tobytes()]), SINE)
    with pytest.raises(AudioError, match="not finite"):
        heard(source, [np.array([0, np.nan], "<f4").tobytes()])


@pytest.mark.parametrize(
    ("encoding", "rate", "channels"),
    [("s24le", RATE, 1), ("s16le", 0, 1), ("s16le", 10**9, 1), ("s16le", RATE, 0)],
)
def test_what_cannot_be_is_refused(encoding, rate, channels):
    with pytest.raises(Refused):
        AudioFormat(encoding, rate, channels)


def test_decoded_seconds_are_bounded_while_decoding():
    """An hour of silence is 20 kB of Opus: it must not become an hour of samples first."""
    bomb = encode(np.zeros(120 * RATE, np.float32), "ogg", "libopus", 48_000, b="6000")
    assert len(bomb) < 100_000
    source = open_input(AudioFormat("container"), limit=3)
    n_heard = 0
    with pytest.raises(Refused, match="longer than 3 s"):  # noqa: PT012
        for block in source.feed(bomb):
            n_heard += len(block)
    assert n_heard <= 3 * RATE


def test_raw_seconds_are_bounded():
    with pytest.raises(Refused, match="longer than 1 s"):
        heard(open_input(AudioFormat("s16le", RATE), limit=1), [bytes(4 * RATE)])


@pytest.mark.parametrize(
    "data", [b"garbage" * 5000, b"", b"#EXTM3U\nfile:///etc/passwd\n" * 500], ids=len
)
def test_garbage_is_told_and_leaves_no_thread(data):
    source = open_input(AudioFormat("container"), limit=10)
    with pytest.raises(AudioError, match="cannot be read"):
        heard(source, [data])
    source.close()
    assert not [t for t in threading.enumerate() if t.name == "container" and t.is_alive()]


def test_a_stream_that_is_left_leaves_no_thread():
    source = open_input(AudioFormat("container"), limit=10)
    data = encode(SINE, "webm", "libopus", 48_000, live="1")
    blocks = source.feed(data[: len(data) // 2])
    next(blocks)
    source.close()
    for thread in threading.enumerate():
        if thread.name == "container":
            thread.join(5)
            assert not thread.is_alive()
