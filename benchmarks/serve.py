"""How many live streams a server holds, and whether bad clients do it any harm.

    python benchmarks/serve.py --streams 20               hold 20 streams for a minute
    python benchmarks/serve.py --find                     the largest number that can be held
    python benchmarks/serve.py --minutes 20               a soak, among
                                                          clients that stall, lie and flood
    python benchmarks/serve.py --manifest dev.jsonl …     other recordings than the samples

Starts `asr-serve` with one worker and one thread on the first core, and speaks to it from the
others, in real time, by the native protocol. Streams are held when every session ends with the
words that a file would give, and 95 % of the partials come within chunk + look-ahead + 100 ms of
the sound: within 100 ms of the block of sound that made them possible.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from load.misbehaving import misbehave
from load.speaking import Measures, Recording, percentiles, speak
from prometheus_client.parser import text_string_to_metric_families

from asr import audio
from asr.data.manifest import read_audio, read_manifest

ROOT = Path(__file__).parents[1]
SAMPLES = ROOT / "samples" / "manifest.jsonl"
MARGIN_MS = 100.0
CUSHION = 1.0  # seconds of silence behind a recording
FLATNESS = 0.05  # of memory, from the second quarter of a soak to the last
SOAK_FLAGS = ("--idle-seconds", "20", "--send-seconds", "5", "--max-session-seconds", "120")
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Server:
    """Where it listens."""

    http: str

    @property
    def ws(self) -> str:
        return self.http.replace("http", "ws", 1)

    def metrics(self) -> dict[tuple[str, ...], float]:
        """Every number, by its name and labels."""
        with _direct.open(self.http + "/metrics", timeout=30) as answer:
            families = text_string_to_metric_families(answer.read().decode())
        return {(s.name, *s.labels.values()): s.value for f in families for s in f.samples}

    def memory(self) -> float:
        """Resident bytes."""
        return self.metrics()[("process_resident_memory_bytes",)]

    def active(self) -> float:
        """Live streams."""
        found = self.metrics().items()
        return sum(value for key, value in found if key[0] == "asr_serve_streams_active")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=20, help="at a time")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--find", action="store_true", help="the largest number of streams")
    parser.add_argument("--minutes", type=float, help="of a soak with --streams and bad clients")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between bad clients")
    parser.add_argument("--manifest", type=Path, default=SAMPLES)
    parser.add_argument("--limit", type=int, default=40, help="recordings to take of it")
    parser.add_argument("--chunk", type=float, default=0.48, help="of the model, seconds")
    parser.add_argument("--look-ahead", type=float, default=0.48, help="of the model, seconds")
    parser.add_argument("options", nargs="*", help="for asr-serve, after --")
    arguments = parser.parse_args()
    random.seed(0)
    flags = [*arguments.options, *(SOAK_FLAGS if arguments.minutes else ())]
    with running(flags) as server:
        recordings = load(server, arguments.manifest, arguments.limit)
        seconds = sum(recording.duration for recording in recordings)
        print(f"{len(recordings)} recordings, {seconds:.0f} s; {os.cpu_count()} cores")
        bound = 1000 * (arguments.chunk + arguments.look_ahead) + MARGIN_MS
        print(f"bound of partials: {bound:.0f} ms behind the sound")
        if arguments.minutes:
            held = soak(server, recordings, arguments)
        elif arguments.find:
            held = find(server, recordings, arguments)
        else:
            held = measure(server, recordings, arguments.streams, arguments)
    raise SystemExit(not held)


@contextlib.contextmanager
def running(options: Sequence[str]) -> Iterator[Server]:
    """asr-serve on the first core, this process on the others."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "serve", "--port", "0", "--threads", "1"]
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [*command, "--max-connections", "1000", *options], cwd=ROOT, stderr=log
        )
        os.sched_setaffinity(process.pid, cores[:1])
        os.sched_setaffinity(0, cores[1:] or cores)
        try:
            yield Server(until_ready(process, log))
        finally:
            process.terminate()
            print(f"asr-serve ended with status {process.wait(60)}")


def until_ready(process: subprocess.Popen, log) -> str:
    """The address, as soon as the model is loaded."""
    while process.poll() is None:
        log.seek(0)
        events = {e["event"]: e for e in map(json.loads, log.read().splitlines())}
        if "ready" in events:
            return events["listening"]["url"].rstrip("/")
        time.sleep(0.2)
    log.seek(0)
    raise SystemExit(f"asr-serve did not start:\n{log.read()}")


def load(server: Server, manifest: Path, limit: int) -> list[Recording]:
    """Recordings, and the words that the server finds in them as files."""
    from openai import OpenAI

    client = OpenAI(base_url=server.http + "/v1", api_key="any", timeout=300)
    entries = list(read_manifest(manifest))
    random.shuffle(entries)
    recordings = []
    for entry in entries[:limit]:
        waveform = read_audio(entry)
        silence = np.zeros(round(CUSHION * audio.SAMPLE_RATE), np.float32)
        samples = np.concatenate([waveform, silence])
        pcm = np.round(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
        answer = client.audio.transcriptions.create(model="any", file=("speech.wav", wav(pcm)))
        recordings.append(Recording(Path(entry.audio_filepath).name, pcm, answer.text))
    return recordings


def wav(pcm: bytes) -> bytes:
    """The samples as a file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(audio.SAMPLE_RATE)
        out.writeframes(pcm)
    return file.getvalue()


def measure(
    server: Server, recordings: Sequence[Recording], streams: int, arguments: argparse.Namespace
) -> bool:
    """Whether `streams` are held; prints how."""
    before, begin = server.metrics(), time.monotonic()
    measures = asyncio.run(speak(server.ws, recordings, streams, arguments.seconds))
    after, wall = server.metrics(), time.monotonic() - begin
    cpu = after[("process_cpu_seconds_total",)] - before[("process_cpu_seconds_total",)]
    return report(measures, streams, cpu / wall, server.memory())


def report(measures: Measures, streams: int, load: float, memory: float) -> bool:
    response = percentiles(measures.response)
    held = response[1] <= MARGIN_MS and not measures.failed and not measures.wrong
    print(
        f"\n{streams} streams: {'held' if held else 'NOT held'};"
        f" {measures.sessions} sessions, {len(measures.wrong)} with other words than the file,"
        f" {len(measures.failed)} broken off"
    )
    for name, seconds in [
        ("partials behind their sound", measures.response),
        ("words behind their end", measures.word),
        ("finals behind their sound", measures.final),
    ]:
        p50, p95, p99 = percentiles(seconds)
        print(f"  {name:30} p50 {p50:6.0f} ms   p95 {p95:6.0f} ms   p99 {p99:6.0f} ms")
    factor = statistics.mean(measures.factors) if measures.factors else float("nan")
    print(f"  real-time factor of a stream {factor:.3f}, core in use {load:.0%},", end="")
    print(f" memory {memory / 1e6:.0f} MB", flush=True)
    for text in [*measures.failed[:5], *measures.wrong[:5]]:
        print(f"    {text}")
    return held


def find(server: Server, recordings: Sequence[Recording], arguments: argparse.Namespace) -> bool:
    """The largest number of streams that is held, by doubling and halving."""
    least, most = 0, arguments.streams
    while measure(server, recordings, most, arguments):
        least, most = most, most * 2
    while most - least > max(1, least // 20):
        middle = (least + most) // 2
        if measure(server, recordings, middle, arguments):
            least = middle
        else:
            most = middle
    print(f"\nlargest number of streams held: {least}")
    return least > 0


def soak(server: Server, recordings: Sequence[Recording], arguments: argparse.Namespace) -> bool:
    """Good and bad clients together: memory, stuck streams, words."""
    seconds = arguments.minutes * 60

    async def watch() -> list[float]:
        memory = []
        while True:
            await asyncio.sleep(seconds / 120)
            memory.append(await asyncio.to_thread(server.memory))
            if len(memory) >= 120:
                return memory

    async def together():
        return await asyncio.gather(
            speak(server.ws, recordings, arguments.streams, seconds),
            misbehave(server.ws, recordings, seconds, arguments.every),
            watch(),
        )

    before, begin = server.metrics(), time.monotonic()
    measures, (counts, misled), memory = asyncio.run(together())
    cpu = server.metrics()[("process_cpu_seconds_total",)] - before[("process_cpu_seconds_total",)]
    report(measures, arguments.streams, cpu / (time.monotonic() - begin), server.memory())
    deadline = time.monotonic() + 30
    while server.active() and time.monotonic() < deadline:
        time.sleep(0.5)
    early, late = statistics.median(memory[30:60]), statistics.median(memory[90:])
    growth = late / early - 1
    flat = growth <= FLATNESS
    print(f"  bad clients: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}")
    print(f"  what the server did wrong: {'; '.join(misled) or 'nothing'}")
    print(f"  live streams left: {server.active():.0f}")
    print(f"  memory {early / 1e6:.0f} MB, then {late / 1e6:.0f} MB: {growth:+.1%}")
    faults = 0.0
    for key, value in sorted(server.metrics().items()):
        if key[0] in ("asr_serve_rejected_total", "asr_serve_errors_total") and value:
            print(f"  {key[0]} {key[1]}: {value:.0f}")
            faults += value if key[0] == "asr_serve_errors_total" else 0
    words = measures.sessions > 0 and not measures.wrong and not measures.failed
    passed = flat and words and not misled and not faults and not server.active()
    print("passed" if passed else "FAILED")
    return passed


if __name__ == "__main__":
    main()
