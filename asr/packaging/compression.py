"""A bundle made smaller: `asr.models.compression` for a model on disk."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

import torch
from torch import Tensor

from asr.data.manifest import read_audio, read_manifest
from asr.errors import ConfigError
from asr.features import FeatureConfig, Features
from asr.models.compression import compress
from asr.packaging.bundle import Bundle
from asr.packaging.package import load_bundle, package_bundle, package_run
from asr.train.checkpoint import MODEL_FILE

MAX_RECORDINGS, MAX_SECONDS = 100, 30.0  # to read


def compress_model(
    model: Path,
    output: Path,
    *,
    cells: int | None = None,
    rank: int | None = None,
    zeros: float = 0.0,
    listen: Path | None = None,
) -> Bundle:
    """Write the bundle `model` into the new folder `output`, with a smaller network.

    Settings are those of `asr.models.compression.compress`, everything but the network is copied.
    `listen` is a manifest of the recordings that `cells` needs: up to 100 of at most 30 s are
    read, evenly spread over it.

    Of the folder of a run a bundle is made first, as `asr export` does without further options.
    Raises ConfigError if nothing is asked for or it cannot be had, BundleError or TrainingError if
    there is no such model.
    """
    if (model / MODEL_FILE).exists():
        with tempfile.TemporaryDirectory() as folder:
            whole = package_run(model, Path(folder, "model"), name=output.name)
            return _compress_bundle(whole, output, cells, rank, zeros, listen)
    return _compress_bundle(Bundle.load(model), output, cells, rank, zeros, listen)


def deflated_size(path: Path) -> int:
    """Bytes of a file in a wheel, a zip or a compressed transfer, where zeros cost little."""
    packer = zlib.compressobj(9)
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        return sum(len(packer.compress(block)) for block in blocks) + len(packer.flush())


def _compress_bundle(
    bundle: Bundle,
    output: Path,
    cells: int | None,
    rank: int | None,
    zeros: float,
    listen: Path | None,
) -> Bundle:
    if cells is None and rank is None and not zeros:
        raise ConfigError("nothing to take away", "--cells, --rank or --zeros")
    if listen is not None and cells is None:
        raise ConfigError(
            f"nothing is to be learnt from {listen}", "it is for --cells: leave it out"
        )
    recordings = _features(bundle.config.features, listen) if listen else []
    model = compress(
        load_bundle(bundle), cells=cells, rank=rank, zeros=zeros, recordings=recordings
    )
    asked = {"cells": cells, "rank": rank, "zeros": zeros}
    told = ", ".join(f"{name} {value}" for name, value in asked.items() if value)
    about = f"## Compressed\n\n{bundle.config.name} with {told}, not trained on.\n"
    return package_bundle(
        bundle,
        output,
        name=output.name,
        model=model,
        training={**bundle.config.training, "compressed": asked},
        card=f"{bundle.card.rstrip()}\n\n{about}",
    )


def _features(config: FeatureConfig, manifest: Path) -> list[Tensor]:
    short = [u for u in read_manifest(manifest) if u.duration <= MAX_SECONDS]
    chosen = short[:: max(1, len(short) // MAX_RECORDINGS)][:MAX_RECORDINGS]
    features = Features(config)
    waveforms = (read_audio(u, config.sample_rate) for u in chosen)
    rows = (torch.from_numpy(features(waveform)) for waveform in waveforms)
    return [r for r in rows if len(r)]
