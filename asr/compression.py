"""A bundle made smaller: `asr.models.compression` for a model on disk."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

from asr.bundle import Bundle
from asr.errors import ConfigError
from asr.models.compression import compress
from asr.packaging import load_bundle, package_bundle, package_run
from asr.train.checkpoint import MODEL_FILE


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
    asked = {"cells": cells, "rank": rank, "zeros": zeros}
    told = ", ".join(f"{name} {value}" for name, value in asked.items() if value)
    about = f"## Compressed\n\n{bundle.config.name} with {told}, not trained on.\n"
    return package_bundle(
        bundle,
        output,
        name=output.name,
        model=compress(load_bundle(bundle), cells=cells, rank=rank, zeros=zeros),
        training={**bundle.config.training, "compressed": asked},
        card=f"{bundle.card.rstrip()}\n\n{about}",
    )
