"""The content tells what a file is: not its name, and not a header that was never finished."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media import RATE, by_ffmpeg, by_soundfile, chirp, likeness, read

from asr import audio
from asr.audio.containers import Patch, View
from asr.errors import AudioError

WAVE = chirp(4.0)
LIST = b"LIST" + struct.pack("<I", 10) + b"INFOxxxxxx"


def patched(data: bytes, new: bytes, *places: int) -> bytes:
    result = bytearray(data)
    for place in places:
        result[place : place + len(new)] = new
    return bytes(result)


@pytest.mark.parametrize("size", [bytes(4), b"\xff" * 4, b"\0\0\xff\x7f", b"\0\0\0\x80"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ALAW", "GSM610", "IMA_ADPCM"])
def test_a_wav_header_that_was_never_finished(subtype: str, size: bytes) -> None:
    data = by_soundfile(WAVE, "WAV", subtype)
    expected, _ = read(data)
    sizes = 4, data.index(b"data") + 4
    for places in (sizes, sizes[1:]):
        waveform, losses = read(patched(data, size, *places))
        assert not losses
        np.testing.assert_array_equal(waveform, expected)


def test_big_endian_and_64_bit_headers_that_were_never_finished() -> None:
    data = by_soundfile(WAVE, "WAV", "PCM_16", endian="BIG")
    wide = by_soundfile(WAVE, "RF64", "PCM_16")
    sony = by_soundfile(WAVE, "W64", "PCM_16")
    apple = by_soundfile(WAVE, "AIFF", "PCM_16")
    sun = by_soundfile(WAVE, "AU", "PCM_16")
    ds64 = wide.index(b"ds64") + 8
    sound = apple.index(b"SSND") + 4
    for unfinished in (
        patched(data, bytes(4), 4, data.index(b"data") + 4),
        patched(wide, bytes(24), ds64),
        patched(wide, b"\xff" * 24, ds64),
        patched(sony, bytes(8), 16, sony.index(b"data") + 16),
        patched(apple, bytes(4), 4, sound, apple.index(b"COMM") + 10),
        patched(apple, b"\xff" * 4, 4, sound),
        patched(sun, bytes(4), 8),
        patched(sun, b"\xff" * 4, 8),
    ):
        waveform, losses = read(unfinished)
        assert (len(waveform), losses) == (4 * RATE, [])
        assert likeness(WAVE, waveform) > 0.999


def test_chunks_before_and_behind_the_samples() -> None:
    data = by_soundfile(WAVE, "WAV", "PCM_16")
    odd = b"LIST\x09\0\0\0INFOxxxxx"
    for changed in (
        data[:12] + LIST + data[12:],
        data[:12] + odd + b"\0" + data[12:],
        data[:12] + odd + data[12:],  # without the byte that makes the length even
        data + LIST,
        data + LIST[:4] + struct.pack("<I", 100) + b"INFO",  # cut there: no sound is missing
        data + b"some text behind",
        data[:-1],
    ):
        waveform, losses = read(changed)
        assert abs(len(waveform) - 4 * RATE) <= 1
        assert not losses


def test_an_empty_wav_holds_no_samples() -> None:
    data = by_soundfile(np.zeros(0), "WAV", "PCM_16")
    with pytest.raises(AudioError, match="holds no samples"):
        read(data)


def test_a_flac_that_does_not_know_its_length() -> None:
    data = bytearray(by_soundfile(WAVE, "FLAC", "PCM_16"))
    data[21] &= 0xF0
    data[22:42] = bytes(20)  # the number of samples and their MD5
    waveform, losses = read(bytes(data))
    np.testing.assert_array_equal(waveform, read(by_soundfile(WAVE, "FLAC", "PCM_16"))[0])
    assert not losses


@pytest.mark.parametrize("tag", [b"ID3\x04\0\0\0\0\x02\0" + bytes(256)])
def test_a_tag_in_front_of_flac(tag: bytes) -> None:
    waveform, losses = read(tag + by_soundfile(WAVE, "FLAC", "PCM_16"))
    assert (len(waveform), losses) == (4 * RATE, [])


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        ("WAV", "GSM610"),
        ("WAV", "G721_32"),
        ("WAV", "NMS_ADPCM_16"),
        ("WAV", "NMS_ADPCM_32"),
        ("AU", "G721_32"),
        ("AU", "G723_24"),
        ("AIFF", "DWVW_16"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "MS_ADPCM"),
        ("WAV", "PCM_U8"),
        ("WAV", "DOUBLE"),
        ("CAF", "ALAC_16"),
        ("VOC", "ULAW"),
        ("NIST", "PCM_16"),
    ],
)
def test_codecs_that_cannot_seek_and_rare_ones(format: str, subtype: str) -> None:
    waveform, losses = read(by_soundfile(WAVE, format, subtype))
    assert len(waveform) / RATE == pytest.approx(4.0, abs=0.06)
    assert not losses
    # NMS ADPCM and GSM are made for the telephone's rate.
    assert likeness(WAVE, waveform) > 0.9
    part = audio.read(by_soundfile(WAVE, format, subtype), start=1.0, duration=0.5)
    np.testing.assert_array_equal(part, waveform[RATE : RATE + RATE // 2])


@pytest.mark.parametrize("extension", ["raw", "pcm", "gsm", "vox", "sln", "mp3", "txt", "htk", ""])
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a", "ogg"])
def test_the_name_means_nothing(tmp_path: Path, kind: str, extension: str) -> None:
    data = {
        "wav": lambda: by_soundfile(WAVE, "WAV", "PCM_16"),
        "flac": lambda: by_soundfile(WAVE, "FLAC", "PCM_16"),
        "ogg": lambda: by_soundfile(WAVE, "OGG", "VORBIS"),
        "mp3": lambda: by_ffmpeg([WAVE], "mp3", "mp3"),
        "m4a": lambda: by_ffmpeg([WAVE], "mp4", "aac"),
    }[kind]()
    path = tmp_path / f"recording.{extension}"
    path.write_bytes(data)
    assert likeness(WAVE, audio.read(path)) > 0.99


@pytest.mark.parametrize(
    ("codec", "extension", "rate"),
    [("g722", "g722", 16_000), ("pcm_mulaw", "ulaw", 8_000), ("pcm_alaw", "ALAW", 8_000)],
)
def test_the_name_tells_where_there_is_no_header(
    tmp_path: Path, codec: str, extension: str, rate: int
) -> None:
    path = tmp_path / f"call.{extension}"
    data = by_ffmpeg([chirp(4.0, rate)], codec.removeprefix("pcm_"), codec, rate=rate)
    path.write_bytes(data)
    waveform = audio.read(path)
    assert len(waveform) / RATE == pytest.approx(4.0, abs=0.06)
    assert max(likeness(WAVE, waveform, shift) for shift in range(40)) > 0.9


@given(
    data=st.binary(max_size=200),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    patches=st.lists(st.tuples(st.integers(0, 220), st.binary(min_size=1, max_size=9)), max_size=3),
    reads=st.lists(st.tuples(st.integers(0, 220), st.integers(0, 60)), max_size=6),
)
def test_a_view_is_the_file_that_it_shows(data, cuts, patches, reads) -> None:
    import io

    edges = sorted(min(cut, len(data)) for cut in cuts)
    stretches = list(zip(edges[::2], edges[1::2], strict=False))
    expected = bytearray(b"".join(data[a:b] for a, b in stretches))
    for place, new in patches:
        expected[place : place + len(new)] = new[: max(0, len(expected) - place)]
    view = View(io.BytesIO(data), stretches, [Patch(place, new) for place, new in patches])
    assert view.size == len(expected)
    for place, size in reads:
        view.seek(place)
        assert view.read(size) == bytes(expected[place : place + size])
