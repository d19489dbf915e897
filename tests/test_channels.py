"""Several channels: the mean where it helps, else the channels that speak."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tone_speech import tones

from asr import audio
from asr.channels import Mixer, find_channel_speech, parse_choice
from asr.errors import AudioError, ConfigError
from asr.packaging.bundle import Bundle
from asr.recognizer import Recognizer
from asr.vad import VadConfig

RATE = 16_000
SAMPLES = Path(__file__).parents[1] / "samples"
ENERGY = VadConfig(detector="energy")

Wave = np.ndarray
MakeChannels = Callable[[Wave], list[Wave]]


@pytest.fixture(scope="module")
def speech() -> Wave:
    return audio.read(SAMPLES / "the-old-observatory.opus")


def noise(like: Wave, level: float = 0.1, seed: int = 0) -> Wave:
    values = np.random.default_rng(seed).standard_normal(len(like))
    return (level * values).astype(np.float32)


def music(like: Wave) -> Wave:
    """Chords of decaying harmonics, two a second."""
    rng = np.random.default_rng(3)
    time = np.arange(RATE // 2) / RATE
    chords = []
    for _ in range(len(like) // len(time) + 1):
        pitches = 110 * 2 ** (rng.choice(24, 3, replace=False) / 12)
        harmonics = [np.sin(2 * np.pi * f * k * time) / k for f in pitches for k in (1, 2, 3, 4)]
        chords.append(0.1 * np.sum(harmonics, axis=0) * np.exp(-4 * time))
    return np.concatenate(chords)[: len(like)].astype(np.float32)


def mixed(channels: list[Wave], size: int = 10 * RATE) -> tuple[Wave, Mixer]:
    samples = np.stack(channels, axis=1)
    mixer = Mixer(len(channels))
    parts = [mixer.feed(samples[i : i + size]) for i in range(0, len(samples), size)]
    return np.concatenate([*parts, mixer.finish()]), mixer


CHOSEN: dict[str, tuple[MakeChannels, int | None]] = {
    "noise on the right": (lambda v: [v, noise(v)], 0),
    "noise on the left": (lambda v: [noise(v, 0.3), v], 1),
    "music on one side": (lambda v: [music(v), v], 1),
    "a tone on one side": (
        lambda v: [v, (0.2 * np.sin(np.arange(len(v)) / 3)).astype(np.float32)],
        0,
    ),
    "a noisy copy": (lambda v: [v, v + noise(v)], 0),
    "silence": (lambda v: [0 * v, v], 1),
    "dither": (lambda v: [v, (noise(v) > 0).astype(np.float32) / 32768], 0),
    "three channels": (lambda v: [noise(v), v, noise(v, 0.2, seed=1)], 1),
    "5.1": (
        lambda v: [music(v), music(v), v, noise(v, 0.05, 1), noise(v, 0.03, 2), noise(v, 0.03, 3)],
        2,
    ),
    "5.1, only the centre": (lambda v: [0 * v, 0 * v, v, 0 * v, 0 * v, 0 * v], 2),
    "inverted": (lambda v: [v, -v], None),
    "one of three inverted": (lambda v: [v, -v, v], None),
}


@pytest.mark.parametrize("case", CHOSEN)
def test_the_speech_comes_through(speech: Wave, case: str) -> None:
    make, channel = CHOSEN[case]
    result, mixer = mixed(make(speech))
    np.testing.assert_allclose(result, speech, atol=1e-6)
    assert mixer.channel_in(0, len(speech)) == channel
    is_told = "silence" not in case and case != "dither" and "only" not in case
    assert len(mixer.notices()) == is_told
    if case == "5.1":
        assert mixer.notices()[0].startswith("channels 0, 1, 3, 4 and 5 of 6, counted from 0, left")


@pytest.mark.parametrize("gain", [0.03, 0.5, 0.95, 3.0])
@pytest.mark.parametrize("level", [0.0, 0.01])
def test_inverted_with_another_gain(speech: Wave, gain: float, level: float) -> None:
    left, right = speech + noise(speech, level, 1), -gain * speech + noise(speech, gain * level, 2)
    result, mixer = mixed([left, right])
    np.testing.assert_allclose(np.abs(result), np.abs(left - right) / 2, atol=1e-6)
    assert "inverted" in " ".join(mixer.notices())


ORDINARY: dict[str, MakeChannels] = {
    "identical": lambda v: [v, v],
    "gains": lambda v: [0.8 * v, 0.2 * v],
    "apart": lambda v: [v, np.roll(v, 12)],
    "a little noise in both": lambda v: [v + noise(v, 0.003, 1), v + noise(v, 0.003, 2)],
    "much noise in both": lambda v: [v + noise(v, 0.05, 1), v + noise(v, 0.05, 2)],
    "a call": lambda v: [
        np.concatenate([v, noise(v, 0.0005)]),
        np.concatenate([noise(v, 0.0005), v]),
    ],
    "nobody speaks": lambda v: [noise(v, 0.1, 1), noise(v, 0.1, 2)],
    "nothing": lambda v: [0 * v, 0 * v],
    "shorter than a window": lambda v: [v[:300], noise(v[:300])],
}


@pytest.mark.parametrize("case", ORDINARY)
def test_ordinary_stereo_is_the_mean(speech: Wave, case: str) -> None:
    channels = [np.asarray(channel, np.float32) for channel in ORDINARY[case](speech)]
    result, mixer = mixed(channels)
    np.testing.assert_array_equal(result, np.stack(channels, 1).mean(axis=1, dtype=np.float32))
    assert mixer.notices() == []
    assert mixer.channel_in(0, len(speech)) is None


@pytest.mark.parametrize("size", [700, 16_000, 50_001])
def test_the_choice_does_not_depend_on_blocks(speech: Wave, size: int) -> None:
    silence = np.zeros(3 * RATE, np.float32)
    left = np.concatenate([silence, speech, noise(speech), -speech])
    right = np.concatenate([noise(silence), noise(speech), speech, speech])
    expected, one = mixed([left, right], len(left))
    result, other = mixed([left, right], size)
    np.testing.assert_array_equal(result, expected)
    assert len(result) == len(left)
    assert one.notices() == other.notices()


def test_who_speaks_later_is_heard(speech: Wave) -> None:
    """Noise from the beginning on the left; the right one is silent for long, then speaks."""
    before = np.zeros(30 * RATE, np.float32)
    left = noise(np.concatenate([before, speech]))
    result, mixer = mixed([left, np.concatenate([before, speech])])
    np.testing.assert_allclose(result[-len(speech) :], speech, atol=1e-6)
    assert mixer.channel_in(len(before) + RATE, len(result)) == 1


def test_speakers_in_turn_beside_noise(speech: Wave) -> None:
    """The noise is louder than speech, and always where nobody speaks."""
    left, right = (
        np.concatenate(parts)
        for parts in ([speech, noise(speech)] * 2, [noise(speech), speech] * 2)
    )
    result, _ = mixed([left, right])
    error = result - np.tile(speech, 4)
    turn = len(speech)
    for begin in range(0, 4 * turn, turn):  # but for some two seconds where turns change
        part = error[begin + 2 * RATE : begin + turn - 2 * RATE]
        assert np.abs(part).max() < 1e-6


def test_memory_is_bounded(speech: Wave) -> None:
    mixer = Mixer(2)
    block = np.stack([speech, noise(speech)], axis=1)
    for _ in range(20):
        mixer.feed(block)
        assert len(mixer._samples) < len(block) + 4 * RATE
        assert len(mixer._spans) < 3


def blocks(*channels: Wave) -> list[Wave]:
    samples = np.stack(channels, axis=1)
    return [samples[i : i + 5_000] for i in range(0, len(samples), 5_000)]


def test_each_channel_by_itself_in_order_of_start() -> None:
    silence = np.zeros(2 * RATE, np.float32)
    word = tones("cab")
    left = np.concatenate([word, silence, silence, word, silence, word])
    right = np.concatenate([silence, word, word, silence, silence, word])
    found = list(find_channel_speech(blocks(left, right), "each", ENERGY))
    assert [speech.channel for speech in found] in ([0, 1, 0, 0, 1], [0, 1, 0, 1, 0])
    assert all(a.start <= b.start for a, b in pairwise(found))
    for channel, whole in enumerate((left, right)):
        alone = list(find_channel_speech(blocks(whole), 0, ENERGY))
        own = [speech for speech in found if speech.channel == channel]
        assert [(s.start, s.end) for s in own] == [(s.start, s.end) for s in alone]


def test_a_channel_that_is_not_there_is_refused() -> None:
    stereo = blocks(tones("cab"), tones("cab"))
    with pytest.raises(
        AudioError, match=r"no channel 2: the recording has 2 channels .* last is 1"
    ):
        list(find_channel_speech(stereo, 2))
    with pytest.raises(AudioError, match="the recording has one channel"):
        list(find_channel_speech(blocks(tones("cab")), 1))
    for wrong in (-1, True, "left", 1.0, None):
        with pytest.raises(ConfigError, match="auto, mix, each, or a number"):
            list(find_channel_speech(stereo, wrong))  # type: ignore[arg-type]


def test_choices_are_read() -> None:
    assert [parse_choice(text) for text in ("auto", "mix", "each", "12")] == [
        *("auto", "mix", "each"),
        12,
    ]
    for wrong in ("", "-1", "left", "0,1", "1.0", "²"):
        with pytest.raises(ConfigError, match="channels: "):
            parse_choice(wrong)


def test_channels_of_a_transcript(tone_bundle: Bundle) -> None:
    recognizer = Recognizer(tone_bundle, decoder="greedy", vad=ENERGY, threads=1)
    silence = np.zeros(2 * RATE, np.float32)
    left = np.concatenate([tones("bad"), silence, tones("cab")])
    right = np.concatenate([0 * tones("bad"), silence[RATE:], tones("mama"), silence])[: len(left)]
    call = np.stack([left, np.pad(right, (0, len(left) - len(right)))], axis=1)
    each = recognizer.transcribe(call, RATE, channels="each")
    assert [(s.channel, s.text) for s in each.segments] == [(0, "bad"), (1, "mama"), (0, "cab")]
    assert each.by_channel
    assert each.duration == len(call) / RATE
    one = recognizer.transcribe(call, RATE, channels=1)
    assert [(s.channel, s.text) for s in one.segments] == [(1, "mama")]
    assert not one.by_channel
    both = recognizer.transcribe(call, RATE, channels="mix")
    assert [(s.channel, s.text) for s in both.segments] == [(None, "bad"), (None, "mamacab")]


def test_notices_of_a_transcript(bundled_model: Bundle, speech: Wave) -> None:
    recognizer = Recognizer(bundled_model, decoder="greedy")
    plain = recognizer.transcribe(speech, RATE)
    chosen = recognizer.transcribe(np.stack([noise(speech), speech], 1), RATE)
    assert chosen.text == plain.text
    assert [segment.channel for segment in chosen.segments] == [1]
    assert len(chosen.notices) == 1
    assert "channel 0 of 2, counted from 0, left out for 6.5 s" in chosen.notices[0]
    assert plain.notices == ()
