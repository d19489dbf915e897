"""Everything a run needs to resume exactly, in one safetensors file: no pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from asr.errors import TrainingError
from asr.files import replacing

LAST, BEST = "last.safetensors", "best.safetensors"  # in a run's folder
MODEL_FILE = "model.json"  # beside them: what an export needs besides the weights


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write whole or not at all: a full disk or a kill leaves the previous file as it was.

    Raises TrainingError if it cannot be written.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with replacing(path) as temporary:
            save_file(contiguous, temporary, {"metadata": json.dumps(metadata)})
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}",
            "make room on the disk; the same command resumes from the checkpoint before",
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata; TrainingError if the file is damaged or something else."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {})["metadata"])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"{path}: not a checkpoint ({error})") from error


def load_metadata(path: Path) -> dict[str, Any]:
    """The metadata alone, without reading the tensors. Raises as `load`."""
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["metadata"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise TrainingError(f"{path}: not a checkpoint ({error})") from error


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of any safetensors file, of a checkpoint its averaged weights.

    Raises TrainingError if it is no such file.
    """
    try:
        tensors = load_file(path)
        return select(tensors, "ema.") or tensors
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"{path}: no weights in this file ({error})") from error


def pack_optimizer(optimizer: Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors named `optimizer.<parameter>.<quantity>`."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{name}": torch.as_tensor(value)
        for index, quantities in state.items()
        for name, value in quantities.items()
        if value is not None
    }


def unpack_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in select(tensors, "optimizer.").items():
        index, quantity = name.split(".", 1)
        state.setdefault(int(index), {})[quantity] = tensor
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under `prefix`, without it."""
    start = len(prefix)
    return {name[start:]: t for name, t in tensors.items() if name.startswith(prefix)}


def average(paths: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights in several files, computed in float64."""
    total: dict[str, Tensor] = {}
    for path in paths:
        for name, tensor in load_weights(path).items():
            total[name] = total.get(name, 0) + tensor.double() / len(paths)
    return {name: tensor.float() for name, tensor in total.items()}
