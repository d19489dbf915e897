"""Reading recordings: every container and rate, in blocks, and every way a file can be bad."""

from __future__ import annotations

import io
import os
import threading
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr import audio
from asr.errors import AudioError

SECONDS = 1.5


def chirp(rate: int, seconds: float = SECONDS) -> np.ndarray:
    time = np.arange(round(rate * seconds)) / rate
    return (0.3 * np.sin(2 * np.pi * (300 + 200 * time) * time)).astype(np.float32)


def encode(path: Path, codec: str, rate: int, pieces: list[tuple[float, np.ndarray]]) -> Path:
    """Write mono waveforms, each at its time in seconds, with ffmpeg."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(stream.codec_context.format.name, "mono", rate, 960)
        for start, waveform in pieces:
            frame = av.AudioFrame.from_ndarray(waveform[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, round(start * rate)
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    n = min(len(a), len(b))
    return float(np.corrcoef(a[:n], b[:n])[0, 1])


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_any_rate_and_channel_count(tmp_path: Path, rate: int, channels: int) -> None:
    wave = chirp(rate)
    silent = np.zeros((len(wave), channels - 1), np.float32)
    soundfile.write(tmp_path / "a.wav", np.column_stack([wave, silent]), rate, subtype="FLOAT")
    waveform = audio.read(tmp_path / "a.wav")
    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(SECONDS * 16_000, abs=1)
    expected = chirp(16_000) / channels  # the mean over channels
    assert np.abs(waveform - expected)[200:-200].max() < 2e-3
    info = audio.probe(tmp_path / "a.wav")
    assert (info.sample_rate, info.channels, info.duration) == (rate, channels, SECONDS)


@pytest.mark.parametrize(
    ("name", "subtype", "rate"),
    [
        ("a.flac", "PCM_16", 44_100),
        ("a.flac", "PCM_24", 96_000),
        ("a.ogg", "VORBIS", 44_100),
        ("a.opus", "OPUS", 48_000),
        ("a.mp3", "MPEG_LAYER_III", 44_100),
        ("a.wav", "ULAW", 8_000),
        ("a.aiff", "PCM_16", 22_050),
    ],
)
def test_what_soundfile_reads(tmp_path: Path, name: str, subtype: str, rate: int) -> None:
    kind = "OGG" if name == "a.opus" else None
    soundfile.write(tmp_path / name, chirp(rate), rate, subtype=subtype, format=kind)
    waveform = audio.read(tmp_path / name)
    assert len(waveform) == pytest.approx(SECONDS * 16_000, abs=1)
    assert similarity(waveform, chirp(16_000)) > 0.99


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.m4a", "aac", 44_100),
        ("a.mp4", "aac", 48_000),
        ("a.mov", "alac", 44_100),
        ("a.webm", "libopus", 48_000),
        ("a.mkv", "flac", 44_100),
    ],
)
def test_what_only_ffmpeg_reads(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = encode(tmp_path / name, codec, rate, [(0.0, chirp(rate))])
    waveform = audio.read(path)
    assert len(waveform) == pytest.approx(SECONDS * 16_000, abs=500)
    assert similarity(waveform, chirp(16_000)) > 0.99
    assert audio.probe(path).duration == pytest.approx(SECONDS, abs=0.05)
    part = audio.read(path, start=0.5, duration=0.25)
    assert np.abs(part - waveform[8_000:12_000])[200:-200].max() < 1e-4


def test_lost_packets_become_silence_of_their_length(tmp_path: Path) -> None:
    wave = chirp(48_000, 1.0)
    path = encode(tmp_path / "gap.mkv", "pcm_s16le", 48_000, [(0.0, wave), (3.0, wave)])
    waveform = audio.read(path)
    assert len(waveform) == 4 * 16_000
    assert np.abs(waveform[17_000:47_000]).max() < 1e-6
    assert similarity(waveform[48_100:], waveform[100:16_000]) > 0.999


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audio") / "stereo.flac"
    rng = np.random.default_rng(0)
    soundfile.write(path, rng.uniform(-0.5, 0.5, (44_100 * 3, 2)), 44_100)
    return path


@settings(max_examples=20)
@given(block_seconds=st.floats(0.001, 4.0), rate=st.sampled_from([8_000, 16_000, 44_100]))
def test_block_borders_leave_no_trace(recording: Path, block_seconds: float, rate: int) -> None:
    joined = np.concatenate(list(audio.blocks(recording, rate, block_seconds)))
    np.testing.assert_array_equal(joined, audio.read(recording, rate))
    assert len(joined) == 3 * rate


@settings(max_examples=20)
@given(start=st.floats(0, 2.9), duration=st.floats(0.01, 3.0))
def test_a_part_is_a_slice(recording: Path, start: float, duration: float) -> None:
    whole = audio.read(recording, 44_100)
    part = audio.read(recording, 44_100, start=start, duration=duration)
    first = round(start * 44_100)
    np.testing.assert_array_equal(part, whole[first : first + round(duration * 44_100)])


def test_file_objects_and_pipes(recording: Path) -> None:
    expected = audio.read(recording)
    data = recording.read_bytes()
    np.testing.assert_array_equal(audio.read(io.BytesIO(data)), expected)

    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(data)

    thread = threading.Thread(target=write)
    thread.start()
    with os.fdopen(reader, "rb") as pipe:
        np.testing.assert_array_equal(audio.read(pipe), expected)
    thread.join()


def test_ten_minutes_never_sit_in_memory(tmp_path: Path) -> None:
    with soundfile.SoundFile(tmp_path / "long.flac", "w", 8_000, 1) as file:
        for _ in range(10):
            file.write(np.zeros(60 * 8_000, np.int16))
    tracemalloc.start()
    n = sum(len(block) for block in audio.blocks(tmp_path / "long.flac"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert n == 600 * 16_000
    assert peak < 8e6  # ten minutes are 38 MB


def test_a_small_file_cannot_hold_an_endless_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "long.flac", np.zeros(20 * 8_000, np.int16), 8_000)
    with pytest.raises(AudioError, match=r"long\.flac: longer than 12 s"):
        audio.read(tmp_path / "long.flac", limit=12)


def write_bad_files(folder: Path) -> None:
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("this is no recording\n" * 100)
    (folder / "noise.mp3").write_bytes(np.random.default_rng(1).bytes(5_000))
    (folder / "folder.wav").mkdir()
    soundfile.write(folder / "no-samples.wav", np.zeros(0), 16_000)
    for value in ("nan", "inf"):
        wave = chirp(16_000)
        wave[8_000] = float(value)
        soundfile.write(folder / f"{value}.wav", wave, 16_000, subtype="FLOAT")
    for name, kind, subtype in [
        ("cut.wav", "WAV", "PCM_16"),
        ("cut.flac", "FLAC", "PCM_16"),
        ("cut.opus", "OGG", "OPUS"),
        ("cut.ogg", "OGG", "VORBIS"),
        ("cut.mp3", "MP3", "MPEG_LAYER_III"),
    ]:
        whole = io.BytesIO()
        soundfile.write(whole, chirp(48_000, 6.0), 48_000, format=kind, subtype=subtype)
        (folder / name).write_bytes(whole.getvalue()[: len(whole.getvalue()) * 6 // 10])
    for name in ("cut.m4a", "cut.webm"):
        codec = "aac" if name == "cut.m4a" else "libopus"
        path = encode(folder / name, codec, 48_000, [(0.0, chirp(48_000, 6.0))])
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with av.open(folder / "silent.mp4", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("empty.wav", "empty (0 bytes)"),
        ("text.wav", "not a recording"),
        ("noise.mp3", "not a recording"),
        ("folder.wav", "a directory"),
        ("missing.wav", "no such file"),
        ("no-samples.wav", "holds no samples"),
        ("nan.wav", "at 0.500 s is not a finite number"),
        ("inf.wav", "at 0.500 s is not a finite number"),
        ("cut.wav", "truncated"),
        ("cut.flac", "damaged"),
        ("cut.opus", "truncated"),
        ("cut.ogg", "truncated"),
        ("cut.mp3", "truncated"),
        ("cut.m4a", "not a recording"),
        ("cut.webm", "truncated"),
        ("silent.mp4", "no audio track"),
        ("zero\0byte.wav", "cannot be opened"),
    ],
)
def test_a_bad_file_is_one_clear_error(bad_files: Path, name: str, cause: str) -> None:
    with pytest.raises(AudioError) as caught:
        audio.read(bad_files / name)
    assert cause in caught.value.cause
    assert repr(name)[1:-1] in caught.value.cause
    assert caught.value.remedy


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    write_bad_files(folder)
    return folder


def test_the_error_tells_every_attempt(bad_files: Path) -> None:
    with pytest.raises(AudioError, match=r"soundfile: .*; PyAV: .*"):
        audio.read(bad_files / "text.wav")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission(tmp_path: Path) -> None:
    (tmp_path / "secret.wav").touch(mode=0)
    with pytest.raises(AudioError, match=r"secret\.wav.*Permission denied"):
        audio.read(tmp_path / "secret.wav")


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "private.wav", chirp(16_000), 16_000)
    target = tmp_path / "private.wav"
    (tmp_path / "a.wav").write_text(f"ffconcat version 1.0\nfile {target}\n")
    (tmp_path / "b.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{target}\n#EXT-X-ENDLIST\n")
    for name in ("a.wav", "b.m3u8"):
        with pytest.raises(AudioError, match="not a recording"):
            audio.read(tmp_path / name)


def test_a_part_beyond_the_end(recording: Path) -> None:
    with pytest.raises(AudioError, match=r"3\.00 s long, nothing to read from 7 s on"):
        audio.read(recording, start=7)


def test_an_implausible_rate_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", chirp(16_000), 5)
    with pytest.raises(AudioError, match="claims 5 Hz"):
        audio.read(tmp_path / "a.wav")


def test_a_wav_written_to_a_pipe_is_whole(tmp_path: Path) -> None:
    whole = io.BytesIO()
    soundfile.write(whole, chirp(16_000), 16_000, format="WAV")
    data = bytearray(whole.getvalue())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"  # both sizes unknown, as ffmpeg writes them
    (tmp_path / "piped.wav").write_bytes(data)
    assert len(audio.read(tmp_path / "piped.wav")) == SECONDS * 16_000


def test_real_recordings(shared: Path) -> None:
    paths = sorted((shared / "speech/commonvoice-en/dev").glob("*.opus"))[:10]
    assert len(paths) == 10
    for path in paths:
        info = audio.probe(path)
        waveform = audio.read(path)
        assert info.duration == pytest.approx(len(waveform) / 16_000, abs=1e-3)
        assert 0.001 < np.abs(waveform).max() <= 1.5
