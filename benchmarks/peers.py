"""Word errors and speed of this recogniser beside others, on the same recordings in the same run.

    python benchmarks/peers.py --manifest dev.jsonl [--manifest …] [--peer pocketsphinx …]

Each program runs in an environment of its own (made on first use under benchmarks/.envs) as one
process pinned to one core: it loads its model once, and hears the recordings one after the other
as 16 kHz WAV files. Real-time factor is processor time over audio time, loading left out; start is
the wall-clock time to import and load; memory is the peak resident size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import soundfile
from environments import HERE, PROJECT, Peer, interpreter

from asr import audio
from asr.data.manifest import read_manifest
from asr.metrics import compare, total
from asr.text.english import normalize
from asr.types import Utterance

PEERS = {
    "ours": Peer(("--editable", str(PROJECT)), "ours.py"),
    "pocketsphinx": Peer(("pocketsphinx>=5",), "pocketsphinx_peer.py"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", action="append", required=True)
    parser.add_argument("--peer", action="append", choices=list(PEERS))
    parser.add_argument("--limit", type=int, help="only the first recordings of each manifest")
    parser.add_argument("--core", type=int, default=0)
    options = parser.parse_args()
    print(f"{'':24}{'WER %':>8}{'CER %':>8}{'RTF':>8}{'start s':>9}{'MB':>7}")
    for manifest in options.manifest:
        utterances = read_manifest(manifest)[: options.limit]
        with tempfile.TemporaryDirectory() as folder:
            paths = _as_wav(utterances, Path(folder))
            print(manifest)
            for name in options.peer or PEERS:
                print(f"  {name:22}" + _measure(PEERS[name], name, utterances, paths, options.core))


def _as_wav(utterances: Sequence[Utterance], folder: Path) -> list[Path]:
    paths = []
    for number, utterance in enumerate(utterances):
        path = folder / f"{number}.wav"
        soundfile.write(path, audio.read(utterance.audio_filepath), audio.SAMPLE_RATE)
        paths.append(path)
    return paths


def _measure(
    peer: Peer, name: str, utterances: Sequence[Utterance], paths: Sequence[Path], core: int
) -> str:
    python = interpreter(name, peer)
    if python is None:
        return "could not be installed"
    began = time.monotonic()
    process = subprocess.Popen(
        [python, HERE / "peers" / peer.script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    assert process.stdin
    assert process.stdout
    loaded = json.loads(process.stdout.readline())
    start = time.monotonic() - began
    results = []
    for path in paths:
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        results.append(json.loads(process.stdout.readline()))
    process.stdin.close()
    memory = json.loads(process.stdout.readline())["peak_mb"]
    process.wait()
    pairs = [
        compare(normalize(u.text), normalize(r["text"]))
        for u, r in zip(utterances, results, strict=True)
    ]
    words, characters = total(p.words for p in pairs), total(p.characters for p in pairs)
    seconds = (results[-1]["cpu"] - loaded["cpu"]) / sum(u.duration for u in utterances)
    rates = f"{100 * words.rate:8.1f}{100 * characters.rate:8.1f}{seconds:8.4f}"
    return f"{rates}{start:9.2f}{memory:7.0f}"


if __name__ == "__main__":
    main()
