"""Bytes to samples: any codec, any cut, and never more than allowed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sounds import RATE, encode, pieces, s16

import serve.containers
import serve.decoder
from asr.audio import read
from asr.errors import AudioError
from serve.audio_in import BLOCK_SECONDS, AudioFormat, AudioInput, RawInput, open_input
from serve.containers import Decoders
from serve.limits import Refused
from serve.tables import check_tables

SINE = (0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)
IN_FRAGMENTS = {
    "movflags": "frag_keyframe+empty_moov+default_base_moof",
    "frag_duration": "100000",
}
HONEST = encode(SINE[:4000], "mp4", "aac", 44_100)
CONTAINERS = {
    "webm, opus": lambda x: encode(x, "webm", "libopus", 48_000, live="1"),
    "ogg, opus": lambda x: encode(x, "ogg", "libopus", 48_000),
    "mp4, aac": lambda x: encode(x, "mp4", "aac", 44_100, **IN_FRAGMENTS),
    "wav": lambda x: encode(x, "wav", "pcm_s16le", 22_050),
    "flac": lambda x: encode(x, "flac", "flac", 16_000),
    "wav, mu-law": lambda x: encode(x, "wav", "pcm_mulaw", 8_000),
}


@pytest.fixture(scope="module")
def decoders():
    found = Decoders()
    yield found
    found.close()


def heard(source: AudioInput, parts: list[bytes]) -> np.ndarray:
    """All samples that come of the parts."""

    async def run() -> list[np.ndarray]:
        try:
            blocks = [block for part in parts async for block in source.feed(part)]
            return blocks + [block async for block in source.finish()]
        finally:
            source.close()

    blocks = asyncio.run(run())
    assert all(len(block) <= BLOCK_SECONDS * source.sample_rate + 1 for block in blocks)
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def raw(encoding: str, rate: int = RATE, channels: int = 1, limit: float = 10) -> AudioInput:
    return RawInput(encoding, rate, channels, limit)


@pytest.mark.parametrize("name", CONTAINERS)
def test_containers_that_arrive_in_pieces_are_the_recordings(name, decoders):
    import io

    data = CONTAINERS[name](SINE)
    source = open_input(AudioFormat("container"), 10, decoders)
    live = heard(source, list(pieces(data, 700)))
    whole = read(io.BytesIO(data))
    assert abs(len(live) - len(whole)) < 0.05 * RATE
    middle = slice(RATE // 2, RATE)  # codecs fade in and out
    spectrum = np.abs(np.fft.rfft(live[middle]))
    assert np.argmax(spectrum) * RATE / (RATE // 2) == pytest.approx(440, abs=4)
    assert np.std(live[middle]) == pytest.approx(np.std(SINE), rel=0.1)


def test_opus_comes_without_delay(decoders):
    """Each piece gives its sound at once: what a browser sends is heard while it speaks."""
    data = encode(SINE, "webm", "libopus", 48_000, live="1")
    source = open_input(AudioFormat("container"), 10, decoders)

    async def run():
        n_heard, lags = 0, []
        for number, part in enumerate(pieces(data, len(data) // 20), start=1):
            async for block in source.feed(part):
                n_heard += len(block)
            lags.append(number / 20 * 2 - n_heard / RATE)
        source.close()
        return lags

    assert max(asyncio.run(run())[3:]) < 0.25  # seconds


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 4000), max_size=12), channels=st.integers(1, 3))
def test_raw_samples_do_not_depend_on_the_cuts(cuts, channels):
    data = s16(SINE[:3000])
    parts = [data[a:b] for a, b in zip([0, *sorted(cuts)], [*sorted(cuts), None], strict=True)]
    whole = heard(raw("s16le", channels=channels), [data])
    np.testing.assert_array_equal(heard(raw("s16le", channels=channels), parts), whole)
    expected = np.frombuffer(data, "<i2")[: len(data) // 2 // channels * channels]
    np.testing.assert_allclose(
        whole, expected.reshape(-1, channels).mean(axis=1) / 32768, atol=1e-6
    )


@pytest.mark.parametrize(("encoding", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_telephone_codecs_are_ffmpegs(encoding, codec):
    data = encode(SINE, codec.removeprefix("pcm_"), codec, 8_000)  # a file without a header
    samples = heard(raw(encoding, 8_000), [data])
    low = s16(SINE, 8_000)
    np.testing.assert_allclose(samples, np.frombuffer(low, "<i2") / 32768, atol=0.02)


def test_floats_are_checked():
    source = raw("f32le")
    np.testing.assert_array_equal(heard(source, [SINE.tobytes()]), SINE)
    with pytest.raises(AudioError, match="not finite"):
        heard(source, [np.array([0, np.nan], "<f4").tobytes()])


@pytest.mark.parametrize(
    ("encoding", "rate", "channels"),
    [("s40le", RATE, 1), ("s16le", 0, 1), ("s16le", 10**9, 1), ("s16le", RATE, 0)],
)
def test_what_cannot_be_is_refused(encoding, rate, channels):
    with pytest.raises(Refused):
        AudioFormat(encoding, rate, channels)


def test_decoded_seconds_are_bounded_while_decoding(decoders):
    """An hour of silence is 20 kB of Opus: it must not become an hour of samples first."""
    bomb = encode(np.zeros(120 * RATE, np.float32), "ogg", "libopus", 48_000, b="6000")
    assert len(bomb) < 100_000
    source = open_input(AudioFormat("container"), 3, decoders)
    n_heard = 0

    async def run():
        nonlocal n_heard
        async for block in source.feed(bomb):
            n_heard += len(block)

    with pytest.raises(Refused, match="longer than 3 s"):
        asyncio.run(run())
    assert n_heard <= 3 * RATE


def test_raw_seconds_are_bounded():
    with pytest.raises(Refused, match="longer than 1 s"):
        heard(raw("s16le", limit=1), [bytes(4 * RATE)])


def children() -> set[int]:
    """The processes that decode: those of the process that they are forked from."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if b"forkserver" in (Path("/proc") / str(parent) / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def none_left(before: set[int], seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while children() - before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


linux = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux's /proc")


@linux
@pytest.mark.parametrize(
    "data", [b"garbage" * 5000, b"", b"#EXTM3U\nfile:///etc/passwd\n" * 500], ids=len
)
def test_garbage_is_told_and_leaves_no_process(data, decoders):
    before = children()
    with pytest.raises(AudioError, match="cannot be read"):
        heard(open_input(AudioFormat("container"), 10, decoders), [data])
    assert none_left(before)


@linux
def test_a_stream_that_is_left_leaves_no_process(decoders):
    before = children()
    data = encode(SINE, "webm", "libopus", 48_000, live="1")

    async def run():
        source = open_input(AudioFormat("container"), 10, decoders)
        await anext(aiter(source.feed(data[: len(data) // 2])))
        assert children() - before
        source.close()

    asyncio.run(run())
    assert none_left(before)


# What strangers write.


def box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full(kind: bytes, flags: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", flags), *parts)


MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def mp4(*tables: bytes, rest: bytes = b"", extends: bytes = b"") -> bytes:
    """A sound track of mu-law with these tables."""
    entry = struct.pack(">6xH8xHHHHI", 1, 1, 16, 0, 0, 8000 << 16)
    table = box(b"stbl", full(b"stsd", 0, struct.pack(">I", 1), box(b"ulaw", entry)), *tables)
    place = box(b"dinf", full(b"dref", 0, struct.pack(">I", 1), full(b"url ", 1)))
    handler = full(b"hdlr", 0, struct.pack(">I4s", 0, b"soun"), bytes(12), b"x\0")
    clock = full(b"mdhd", 0, struct.pack(">IIIIHH", 0, 0, 8000, 8000, 0x55C4, 0))
    media = box(b"mdia", clock, handler, box(b"minf", full(b"smhd", 0, bytes(4)), place, table))
    times = struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, 1000, 0, 0, 0x100, 0)
    track = box(b"trak", full(b"tkhd", 7, times, MATRIX, struct.pack(">II", 0, 0)), media)
    header = struct.pack(">IIIIIH10x", 0, 0, 1000, 1000, 0x10000, 0x100)
    head = full(b"mvhd", 0, header, MATRIX, bytes(24), struct.pack(">I", 2))
    brand = box(b"ftyp", b"isom", struct.pack(">I", 0), b"isom")
    return brand + box(b"moov", head, track, extends) + rest + box(b"mdat", bytes(64))


def table(kind: bytes, *values: int) -> bytes:
    return full(kind, 0, struct.pack(f">{len(values)}I", *values))


MANY = 40_000_000
EMPTY = (table(b"stts", 0), table(b"stsc", 0), table(b"stsz", 0, 0), table(b"stco", 0))
FRAGMENTS = box(b"mvex", full(b"trex", 0, struct.pack(">5I", 1, 1, 1, 1, 0)))
RUN = box(
    b"moof",
    full(b"mfhd", 0, struct.pack(">I", 1)),
    box(b"traf", full(b"tfhd", 0, struct.pack(">I", 1)), full(b"trun", 0, struct.pack(">I", MANY))),
)
BOMBS = {
    "one size": mp4(
        table(b"stts", 1, MANY, 1024),
        table(b"stsc", 1, 1, MANY, 1),
        table(b"stsz", 1, MANY),
        table(b"stco", 1, 32),
    ),
    "sizes": mp4(
        table(b"stts", 1, MANY, 1024),
        table(b"stsc", 1, 1, MANY, 1),
        table(b"stsz", 0, MANY),
        table(b"stco", 1, 32),
    ),
    "times": mp4(
        table(b"stts", 3, 2**32 - 1, 1, 2**32 - 1, 2, 2**32 - 1, 3),
        table(b"stsc", 1, 1, 1, 1),
        table(b"stsz", 1, 10),
        table(b"stco", 1, 32),
    ),
    "chunks": mp4(table(b"stts", 1, 1, 1), table(b"stsc", MANY), table(b"stsz", 1, 1)),
    "places": mp4(table(b"stts", 1, 1, 1), table(b"stsz", 1, 1), table(b"stco", MANY)),
    "fragments": mp4(*EMPTY, extends=FRAGMENTS, rest=RUN),
}


@linux
@pytest.mark.parametrize("name", BOMBS)
def test_tables_larger_than_the_file_cost_nothing(name, decoders):
    """Neither of a recording nor of a live stream: at most what a decoder may take."""
    data = BOMBS[name]
    assert len(data) < 1000
    with watched() as top, pytest.raises(AudioError, match="more samples than the file has bytes"):
        list(decoders.recording(memoryview(data), "x.mp4", 100, pytest.fail))
    assert top() < 120
    with watched() as top, contextlib.suppress(AudioError):
        heard(open_input(AudioFormat("container"), 10, decoders), [data])
    assert top() < 120


@contextlib.contextmanager
def watched() -> Iterator[Callable[[], float]]:
    """The most megabytes that processes took which were begun meanwhile."""
    before, most, stop = children(), [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.005):
            for number in children() - before:
                with contextlib.suppress(OSError):
                    pages = int(Path(f"/proc/{number}/statm").read_text().split()[1])
                    most[0] = max(most[0], pages * 4096 / 1e6)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: most[0]
    finally:
        stop.set()
        thread.join()


def test_honest_tables_pass(decoders):
    for options in ({}, IN_FRAGMENTS):
        data = encode(SINE, "mp4", "aac", 44_100, **options)
        check_tables(data, "honest.mp4")
    sound = np.concatenate(list(decoders.recording(memoryview(data), "a.mp4", 10, pytest.fail)))
    assert len(sound) == pytest.approx(2 * RATE, rel=0.05)
    mulaw = encode(SINE, "mov", "pcm_mulaw", 8_000)  # a sample a byte
    check_tables(mulaw, "honest.mov")


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_tables_never_fail_otherwise(data):
    """Whatever byte of a file is wrong, the check says yes or no."""
    source = bytearray(data.draw(st.sampled_from([*BOMBS.values(), HONEST])))
    for place in data.draw(st.lists(st.integers(0, len(source) - 1), max_size=8)):
        source[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(AudioError):
        check_tables(source[: data.draw(st.integers(0, len(source)))], "x")


def test_what_decodes_may_not_take_more_than_its_share(decoders, monkeypatch):
    """Memory, time, and answers: it ends, and the others never notice."""
    monkeypatch.setattr(serve.containers, "PATIENCE_SECONDS", 1.0)
    for hostile in (_hog, _crash, _sleep):
        monkeypatch.setattr(serve.decoder, "run", hostile)
        with pytest.raises(AudioError, match=r"takes (more memory or time|too long)"):
            list(decoders.recording(memoryview(b"abc"), "x.mp3", 100, pytest.fail))


def _hog(connection, job):
    serve.decoder._limit_resources(100 << 20, 0)
    try:
        bytearray(500 << 20)
    except MemoryError:
        return
    connection.recv(1)  # it got it: wait for ever


def _crash(connection, job):
    os.abort()


def _sleep(connection, job):
    time.sleep(100)


def test_two_streams_do_not_wait_for_each_other(decoders):
    """Nor do streams for recordings: each has its process."""

    async def run():
        sources = [open_input(AudioFormat("container"), 10, decoders) for _ in range(6)]
        data = encode(SINE, "ogg", "libopus", 48_000)
        for source in sources:  # each stays in the middle of its container
            _ = [block async for block in source.feed(data[:2000])]
        for source in sources:
            _ = [block async for block in source.feed(data[2000:])]
            rest = [block async for block in source.finish()]
            assert rest
            source.close()

    asyncio.run(run())
