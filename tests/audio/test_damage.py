"""Damage and cuts lose only themselves, and are told."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from media import RATE, by_ffmpeg, by_soundfile, chirp, likeness, overwritten, read

from asr import audio
from asr.errors import AudioError
from asr.types import Loss

SECONDS = 12.0
# Noise, so that codecs need many bytes and pages for it.
WAVE = chirp(SECONDS) + np.random.default_rng(0).normal(0, 0.1, 192_000).astype(np.float32)
MAKE = {
    "flac": lambda: by_soundfile(WAVE, "FLAC", "PCM_16"),
    "opus": lambda: by_soundfile(WAVE, "OGG", "OPUS"),
    "vorbis": lambda: by_soundfile(WAVE, "OGG", "VORBIS"),
    "mp3": lambda: by_ffmpeg([WAVE], "mp3", "mp3"),
    "aac": lambda: by_ffmpeg([WAVE], "adts", "aac"),
    "m4a": lambda: by_ffmpeg([WAVE], "mp4", "aac"),
    "alac": lambda: by_ffmpeg([WAVE], "ipod", "alac"),
    "mkv": lambda: by_ffmpeg([WAVE], "matroska", "flac", options={"cluster_time_limit": "1000"}),
    "webm": lambda: by_ffmpeg([WAVE], "webm", "libopus", options={"cluster_time_limit": "1000"}),
}


NO_CHECKSUMS = {"aac", "mp3", "m4a", "alac"}


@pytest.fixture(scope="module")
def whole() -> dict[str, bytes]:
    return {name: make() for name, make in MAKE.items()}


@pytest.mark.parametrize("name", MAKE)
def test_what_is_intact_has_no_loss(whole: dict[str, bytes], name: str) -> None:
    waveform, losses = read(whole[name])
    assert not losses
    assert len(waveform) / RATE == pytest.approx(SECONDS, abs=0.1)


@pytest.mark.parametrize("size", [200, 3_000])
@pytest.mark.parametrize("name", MAKE)
def test_damage_in_the_middle(whole: dict[str, bytes], name: str, size: int) -> None:
    clean, _ = read(whole[name])
    waveform, losses = read(overwritten(whole[name], 0.5, size))
    assert losses or name in NO_CHECKSUMS  # there it may sound strange only
    missing = sum(loss.end - loss.start for loss in losses if loss.end is not None)
    assert missing < 5.0
    for loss in losses:
        assert 3.0 < loss.start < 9.0
        assert loss.end is not None
        assert "damaged" in loss.reason
    # What is before and behind is there, and at its time where the container tells time.
    assert likeness(clean[: 3 * RATE], waveform[: 3 * RATE]) > 0.99
    # A bare stream has no clock, and that of Matroska ticks in milliseconds.
    shift = {"aac": 8_000, "mp3": 8_000, "mkv": 16, "webm": 16}.get(name, 0)
    end = len(clean) - RATE
    tail = clean[end - RATE : end]
    place = np.correlate(waveform[end - RATE - shift : end + shift], tail, "valid").argmax()
    assert likeness(tail, waveform[: end + shift], end - RATE - shift + int(place)) > 0.99


@pytest.mark.parametrize("name", ["flac", "opus", "vorbis", "mp3", "mkv", "webm"])
def test_the_end_is_missing(whole: dict[str, bytes], name: str) -> None:
    clean, _ = read(whole[name])
    waveform, losses = read(whole[name][: len(whole[name]) * 3 // 4])
    assert 6.0 < len(waveform) / RATE < 10.5
    assert likeness(clean[: 6 * RATE], waveform[: 6 * RATE]) > 0.99
    assert losses
    assert losses[-1].start == pytest.approx(len(waveform) / RATE, abs=0.2)
    assert "truncated" in losses[-1].reason
    assert losses[-1].end is None or losses[-1].end == pytest.approx(SECONDS, abs=0.2)


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "GSM610"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "MS_ADPCM"),
        ("WAVEX", "PCM_24"),
        ("RF64", "PCM_16"),
        ("W64", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("AU", "ULAW"),
        ("NIST", "PCM_16"),
    ],
)
def test_samples_cut_off_are_counted(format: str, subtype: str) -> None:
    data = by_soundfile(WAVE, format, subtype)
    waveform, [loss] = read(data[: len(data) * 2 // 3])
    assert len(waveform) / RATE == pytest.approx(8.0, abs=0.1)
    assert loss.start == pytest.approx(len(waveform) / RATE, abs=1e-3)
    assert loss.end == pytest.approx(SECONDS, abs=0.1)
    assert "truncated" in loss.reason


@pytest.mark.parametrize("codec", ["adpcm_ms", "adpcm_ima_wav", "adpcm_g722", "mp3"])
def test_what_only_ffmpeg_reads_of_wav_is_cut_where_its_header_says(codec: str, tmp_path) -> None:
    data = by_ffmpeg([WAVE], "wav", codec, path=tmp_path / "a.wav")
    waveform, losses = read(data)
    assert not losses
    waveform, [loss] = read(data[: len(data) * 2 // 3])
    assert loss.start == pytest.approx(len(waveform) / RATE, abs=0.01)
    assert loss.start == pytest.approx(8.0, abs=0.3)
    assert loss.end == pytest.approx(SECONDS, abs=0.3)


@pytest.mark.parametrize(("format", "codec"), [("flac", "flac"), ("tta", "tta"), ("wv", "wavpack")])
@pytest.mark.parametrize("place", [0.3, 0.5])
def test_a_single_bad_frame_is_told(format: str, codec: str, place: float, tmp_path) -> None:
    data = by_ffmpeg([WAVE], format, codec, path=tmp_path / "a")
    assert not read(data)[1]
    waveform, losses = read(overwritten(data, place, 20))
    assert losses
    assert likeness(waveform[-RATE:], WAVE[-RATE:]) > 0.99


@pytest.mark.parametrize(("shift", "size"), [(-4, 8), (-204, 400), (-4, 9_000)])
def test_a_lost_fragment_of_an_mp4_is_all_that_is_lost(shift: int, size: int) -> None:
    options = {"movflags": "frag_keyframe+empty_moov", "frag_duration": "1000000"}
    data = by_ffmpeg([WAVE], "mp4", "aac", options=options)
    begin = data.index(b"moof", len(data) // 2) + shift
    clean, _ = read(data)
    waveform, losses = read(overwritten(data, begin / len(data), size))
    assert losses
    assert sum(loss.end - loss.start for loss in losses if loss.end is not None) < 4.0
    assert len(waveform) == pytest.approx(len(clean), abs=RATE // 10)
    assert likeness(waveform[-2 * RATE :], clean[-2 * RATE :]) > 0.95


def test_an_mp4_cut_before_its_index_names_the_remedy(whole: dict[str, bytes]) -> None:
    with pytest.raises(AudioError, match="an MP4 whose index is missing"):
        read(whole["m4a"][:-4_000])


def test_an_mp4_with_its_index_in_front_is_read_to_the_cut(tmp_path: Path) -> None:
    data = by_ffmpeg(
        [WAVE], "mp4", "aac", path=tmp_path / "a.mp4", options={"movflags": "faststart"}
    )
    waveform, losses = read(data[: len(data) * 3 // 4])
    assert 8.0 < len(waveform) / RATE < 10.0
    assert losses[-1].end == pytest.approx(SECONDS, abs=0.1)


def test_without_a_listener_the_first_loss_is_an_error(whole: dict[str, bytes]) -> None:
    with pytest.raises(AudioError, match=r"damaged at [56]\.\d\d s; damaged"):
        audio.read(overwritten(whole["flac"], 0.5, 200))
    with pytest.raises(AudioError, match="truncated"):
        audio.read(whole["flac"][:-1_000])


def test_damage_outside_of_the_part_is_nothing(whole: dict[str, bytes]) -> None:
    data = overwritten(whole["flac"], 0.5, 200)
    clean = audio.read(whole["flac"])
    for start, duration in [(0.0, 3.0), (9.0, 2.0)]:
        part = audio.read(data, start=start, duration=duration)
        first = round(start * RATE)
        np.testing.assert_array_equal(part, clean[first : first + round(duration * RATE)])


def test_values_that_are_no_numbers_are_silence() -> None:
    wave = WAVE.copy()
    wave[RATE : RATE + 8] = np.nan
    waveform, [loss] = read(by_soundfile(wave, "WAV", "FLOAT"))
    assert (loss.start, loss.end) == (1.0, 1.0 + 8 / RATE)
    assert not waveform[RATE : RATE + 8].any()
    np.testing.assert_array_equal(waveform[2 * RATE :], WAVE[2 * RATE :])


def test_a_disk_that_fails_ends_the_recording() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 200_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    losses: list[Loss] = []
    data = by_soundfile(WAVE, "WAV", "PCM_16")
    waveform = audio.read(Failing(data), on_loss=losses.append)
    assert 3.0 < len(waveform) / RATE < 8.0
    assert "Input/output error" in losses[0].reason


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfb\x90\xc4" * 5_000,
        b"OggS" * 5_000,
        b"fLaC" + bytes(20_000),
        b"RIFF\0\0\0\0WAVE" + bytes(20_000),
        b"ID3\x04\0\0\0\0\0\0" + bytes(20_000),
        b"\x1aE\xdf\xa3" + bytes(20_000),
        np.random.default_rng(1).bytes(100_000),
        by_soundfile(WAVE, "WAV", "FLOAT")[:58] + b"\xff" * 4_000,
    ],
)
def test_garbage_is_an_error_not_an_empty_recording(data: bytes, capfd) -> None:
    with pytest.raises(AudioError) as caught:
        read(data)
    assert caught.value.remedy
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", MAKE)
def test_no_library_writes_to_standard_error(whole: dict[str, bytes], name: str, capfd) -> None:
    data = whole[name]
    for hurt in (data, overwritten(data, 0.5, 3_000), data[: len(data) // 2], b"junk" * 99 + data):
        try:
            read(hurt)
        except AudioError:
            continue
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_any_damage_ends_in_samples_or_one_error(whole: dict[str, bytes], name: str) -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole[name])
        for place in rng.integers(0, len(data), rng.integers(1, 40)):
            data[place if rng.random() < 0.7 else place % 400] = rng.integers(256)
        with contextlib.suppress(AudioError):
            waveform, _ = read(bytes(data))
            assert len(waveform)
            assert np.isfinite(waveform).all()
