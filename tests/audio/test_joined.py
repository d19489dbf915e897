"""Recordings put behind each other, lengths that mean something else, tracks: read to the end."""

from __future__ import annotations

import numpy as np
import pytest
from media import RATE, by_ffmpeg, by_soundfile, chirp, likeness, read

from asr import audio
from asr.errors import AudioError

ID3V2 = b"ID3\x04\0\0" + bytes([0, 0, 0x20, 0]) + bytes(4096)
COVER = b"ID3\x03\0\0" + bytes([0, 6, 0x20, 0]) + np.random.default_rng(0).bytes(6 * 16384 + 4096)
ID3V1 = b"TAG" + b"a title".ljust(125, b"\0")


def ape_tag(with_header: bool = True) -> bytes:
    def edge(flags: int) -> bytes:
        numbers = b"".join(n.to_bytes(4, "little") for n in (2000, 32 + 64, 1, flags))
        return b"APETAGEX" + numbers + bytes(8)

    header = edge(0xA000_0000) if with_header else b""
    return header + b"Title".ljust(64, b"x") + edge(0x8000_0000 if with_header else 0)


def mp3(seconds: float, rate: int = RATE, channels: int = 1) -> bytes:
    waveform = np.repeat(chirp(seconds, rate)[:, None], channels, axis=1)
    return by_soundfile(waveform, "MP3", "MPEG_LAYER_III", rate)


@pytest.mark.parametrize(
    "between",
    [b"", ID3V2, COVER, ID3V1, ID3V1 + COVER, ape_tag(), ape_tag(with_header=False) + ID3V1],
    ids=["nothing", "ID3v2", "cover", "ID3v1", "both", "APE", "APE footer"],
)
def test_joined_mp3s_with_tags_between(between: bytes) -> None:
    first, second = mp3(2.0), mp3(3.0)
    waveform, losses = read(ID3V2 + first + between + second + between)
    assert not losses
    # The second part's encoder delay stays, since its header is in the middle of a stream.
    assert len(waveform) / RATE == pytest.approx(5.0, abs=0.2)
    assert likeness(chirp(2.0), waveform) > 0.99
    assert max(likeness(chirp(3.0), waveform, 2 * RATE + n) for n in range(0, 2400, 2)) > 0.99


def test_joined_mp3s_of_other_rates_and_channels() -> None:
    parts = [mp3(2.0, 44_100, 2), mp3(2.0, 22_050), mp3(2.0, 16_000), mp3(2.0, 44_100, 2)]
    waveform, losses = read(b"".join(parts))
    assert not losses
    assert len(waveform) / RATE == pytest.approx(8.0, abs=0.5)
    shapes = {block.shape[1] for block in audio.channel_blocks(b"".join(parts))}
    assert shapes == {2}  # as the first part


@pytest.mark.parametrize(
    "parts",
    [
        [("OPUS", 48_000, 1), ("OPUS", 48_000, 1)],
        [("OPUS", 48_000, 1), ("OPUS", 48_000, 2)],
        [("VORBIS", 22_050, 1), ("VORBIS", 44_100, 2), ("VORBIS", 22_050, 1)],
        [("VORBIS", 16_000, 1), ("OPUS", 16_000, 1)],
    ],
)
def test_chained_ogg(parts: list[tuple[str, int, int]]) -> None:
    data = b""
    for codec, rate, channels in parts:
        wave = np.repeat(chirp(2.0, rate)[:, None], channels, axis=1)
        data += by_soundfile(wave, "OGG", codec, rate)
    waveform, losses = read(data)
    assert not losses
    assert len(waveform) == pytest.approx(2.0 * RATE * len(parts), abs=2)
    for number in range(len(parts)):
        assert likeness(chirp(2.0), waveform, 2 * RATE * number) > 0.99


def test_the_same_ogg_twice() -> None:
    data = by_soundfile(chirp(2.0), "OGG", "OPUS")
    waveform, losses = read(data * 2)
    assert (len(waveform), losses) == (4 * RATE, [])
    assert likeness(waveform[: 2 * RATE], waveform[2 * RATE :]) > 0.99


def test_joined_flac_of_other_rates() -> None:
    parts = [by_soundfile(chirp(2.0, rate), "FLAC", "PCM_16", rate) for rate in (16_000, 44_100)]
    waveform, losses = read(b"".join(parts))
    assert (len(waveform), losses) == (4 * RATE, [])


@pytest.mark.parametrize("is_finished", [True, False])
def test_joined_wavs(is_finished: bool) -> None:
    wave = chirp(2.0)
    first = by_soundfile(wave, "WAV", "PCM_16")
    if not is_finished:  # as what speaks text writes it into a pipe
        first = first[:4] + b"\xff" * 4 + first[8:40] + b"\xff" * 4 + first[44:]
    waveform, losses = read(first + by_soundfile(wave, "WAV", "ULAW", rate=8_000) + first)
    assert not losses
    assert len(waveform) == pytest.approx(4 * len(wave), abs=RATE // 10)
    assert likeness(waveform[-len(wave) :], wave) > 0.99


def test_joined_mp4s() -> None:
    data = by_ffmpeg([chirp(2.0)], "mp4", "aac")
    waveform, losses = read(data * 2)
    assert not losses
    assert len(waveform) == pytest.approx(4 * RATE, abs=RATE // 5)


def test_joined_aac() -> None:
    data = by_ffmpeg([chirp(2.0)], "adts", "aac")
    alone, _ = read(data)
    waveform, losses = read(data * 2)
    assert (len(waveform), losses) == (2 * len(alone), [])


def test_variable_bit_rate_without_a_header_is_whole() -> None:
    """ffmpeg guesses its length from the first frames: silence, and then ten times as many bits."""
    wave = np.concatenate([np.zeros(4 * RATE, np.float32), chirp(4.0), chirp(4.0) * 0.9])
    data = by_ffmpeg([wave], "mp3", "mp3", options={"write_xing": "0"}, bit_rate=0)
    waveform, losses = read(data)
    assert len(waveform) / RATE == pytest.approx(12.0, abs=0.2)
    assert not losses
    assert audio.probe(data).duration is None


@pytest.mark.parametrize(("format", "codec"), [("mp4", "aac"), ("matroska", "libopus")])
@pytest.mark.parametrize("picture", [1.0, 9.0])
def test_a_picture_is_no_measure_of_the_sound(format: str, codec: str, picture: float) -> None:
    data = by_ffmpeg([chirp()], format, codec, picture=picture)
    waveform, losses = read(data)
    assert not losses
    assert likeness(chirp(), waveform) > 0.99


@pytest.mark.parametrize("format", ["mp4", "matroska"])
def test_the_default_track_is_taken_and_others_can_be(format: str) -> None:
    silence, speech = np.zeros_like(chirp()), chirp()
    data = by_ffmpeg([silence, speech], format, "aac", default=1)
    assert likeness(speech, read(data)[0]) > 0.99
    assert np.abs(read(data, track=0)[0]).max() < 1e-3
    assert likeness(speech, read(data, track=1)[0]) > 0.99
    with pytest.raises(AudioError, match=r"no sound track 2.*2, counted from 0"):
        read(data, track=2)


def test_a_recording_without_tracks_has_track_0() -> None:
    data = by_soundfile(chirp(), "WAV", "PCM_16")
    assert len(read(data, track=0)[0]) == 4 * RATE
    with pytest.raises(AudioError, match="no sound track 1"):
        read(data, track=1)


@pytest.mark.parametrize("block_seconds", [0.05, 0.7])
@pytest.mark.parametrize(
    "data",
    [
        by_ffmpeg([chirp(12.0)], "mp3", "mp3"),
        by_ffmpeg([chirp(12.0)], "mp3", "mp3", options={"write_xing": "0"}),
        mp3(12.0),
        by_soundfile(chirp(12.0), "OGG", "VORBIS"),
        by_soundfile(chirp(12.0), "OGG", "OPUS"),
        by_ffmpeg([chirp(12.0)], "mp4", "aac"),
        by_soundfile(chirp(12.0), "WAV", "GSM610"),
    ],
    ids=["mp3", "no Xing", "VBR", "Vorbis", "Opus", "AAC", "GSM"],
)
def test_blocks_and_parts_are_those_of_the_whole(data: bytes, block_seconds: float) -> None:
    whole = audio.read(data)
    joined = np.concatenate(list(audio.blocks(data, block_seconds=block_seconds)))
    np.testing.assert_array_equal(joined, whole)
    channels = np.concatenate(list(audio.channel_blocks(data, block_seconds=block_seconds)))
    np.testing.assert_array_equal(channels[:, 0], whole)
    rate = audio.probe(data).sample_rate
    native = audio.read(data, rate)
    for start, duration in [(0.3, 0.2), (3.21, 2.5), (10.6, 9.0)]:
        part = audio.read(data, rate, start=start, duration=duration)
        first = round(start * rate)
        np.testing.assert_array_equal(part, native[first : first + round(duration * rate)])


def test_channels_stay_apart() -> None:
    wave = np.stack([chirp(rate=44_100), np.zeros(4 * 44_100, np.float32)], axis=1)
    data = by_soundfile(wave, "FLAC", "PCM_16", 44_100)
    channels = np.concatenate(list(audio.channel_blocks(data)))
    assert channels.shape == (4 * RATE, 2)
    assert np.abs(channels[:, 1]).max() == 0
    np.testing.assert_allclose(channels.mean(axis=1), audio.read(data), atol=1e-6)
