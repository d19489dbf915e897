"""A bundle made smaller: `asr.models.compression` for a model on disk."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from asr.bundle import CARD, CHECKSUMS, CONFIG, VOCABULARY, Bundle
from asr.errors import BundleError, ConfigError
from asr.models.compression import compress
from asr.packaging import load_bundle, network_description, network_files, package_run
from asr.train.checkpoint import MODEL_FILE

_WRITTEN = {CONFIG, VOCABULARY, CARD, CHECKSUMS}  # by whoever makes a bundle


def compress_model(
    model: Path,
    output: Path,
    *,
    cells: int | None = None,
    rank: int | None = None,
    zeros: float = 0.0,
) -> Bundle:
    """Write the bundle `model` into the new folder `output`, with a smaller network.

    Settings are those of `asr.models.compression.compress`; everything but the network is copied.
    Of the folder of a run a bundle is made first, as `asr export` does without further options.
    Raises ConfigError if nothing is asked for or it cannot be had, BundleError or TrainingError if
    there is no such model.
    """
    if (model / MODEL_FILE).exists():
        with tempfile.TemporaryDirectory() as folder:
            whole = package_run(model, Path(folder, "model"), name=output.name)
            return _compress_bundle(whole, output, cells, rank, zeros)
    return _compress_bundle(Bundle.load(model), output, cells, rank, zeros)


def deflated_size(path: Path) -> int:
    """Bytes of a file in a wheel, a zip or a compressed transfer, where zeros cost little."""
    packer = zlib.compressobj(9)
    with path.open("rb") as file:
        blocks = iter(lambda: file.read(1 << 20), b"")
        return sum(len(packer.compress(block)) for block in blocks) + len(packer.flush())


def _compress_bundle(
    bundle: Bundle, output: Path, cells: int | None, rank: int | None, zeros: float
) -> Bundle:
    if cells is None and rank is None and not zeros:
        raise ConfigError("nothing to take away", "--cells, --rank or --zeros")
    config = bundle.config
    model = compress(load_bundle(bundle), cells=cells, rank=rank, zeros=zeros)
    second, int8 = _second(bundle), config.model["weights"] == "int8"
    asked = {"cells": cells, "rank": rank, "zeros": zeros}
    copied = {name: bundle.folder / name for name in bundle.files if name not in _WRITTEN}
    told = ", ".join(f"{name} {value}" for name, value in asked.items() if value)
    return Bundle.create(
        output,
        replace(
            config,
            name=output.name,
            model=network_description(model, second, int8=int8),
            training={**config.training, "compressed": asked},
        ),
        bundle.vocabulary,
        {**copied, **network_files(model, second, int8=int8)},
        f"{bundle.card.rstrip()}\n\n## Compressed\n\n{config.name} with {told}, not trained on.\n",
    )


def _second(bundle: Bundle) -> str | None:
    """The name of the head that helps to rank, which bundles from before it was noted lack."""
    vocabulary = bundle.second_vocabulary
    if vocabulary is None:
        return None
    heads: Mapping[str, Any] = bundle.config.model["heads"]
    fitting = [name for name, h in list(heads.items())[1:] if h["classes"] == len(vocabulary)]
    noted = bundle.config.model.get("second")
    if noted is None and len(fitting) != 1:
        raise BundleError(f"{bundle.folder} does not tell its second head", "export it again")
    return noted or fitting[0]
