"""What the commands that need the training extra share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from asr.errors import MissingDependencyError

TRAINING_PACKAGES = {"torch", "torchaudio", "hydra", "omegaconf", "jiwer", "safetensors", "onnx"}
TRAINING_PACKAGES |= {"librosa", "tensorboard", "matplotlib", "optuna", "fsspec"}


def needs_training_extra(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the failed import of a package of the training extra into an error with its remedy."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in TRAINING_PACKAGES:
                raise
            raise MissingDependencyError(
                f"this command needs {error.name}", "pip install 'blstm-ctc-asr[train]'"
            ) from error

    return wrapped
