"""What the commands that need the training extra share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from asr import packages
from asr.errors import MissingDependencyError

TRAINING_PACKAGES = {"torch", "torchaudio", "hydra", "omegaconf", "jiwer", "safetensors", "onnx"}
TRAINING_PACKAGES |= {"librosa", "tensorboard", "matplotlib", "optuna", "fsspec"}


PRECISIONS = {
    "int8": "Keep weights in 8 bits.  [default]",
    "fp16": "Keep weights in 16 bits: half of the size; computed with in 32.",
    "fp32": "Keep weights in 32 bits, as they were trained.",
}


def precision_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that choose `precision`: how an exported network keeps its weights."""

    def choose(context: click.Context, parameter: click.Parameter, value: str | None) -> str:
        return value or next(iter(PRECISIONS))

    for name, explained in reversed(PRECISIONS.items()):
        function = click.option(
            f"--{name}", "precision", flag_value=name, help=explained, callback=choose
        )(function)
    return function


def needs_training_extra(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the failed import of a package of the training extra into an error with its remedy.

    Where torch or torchaudio is installed and its library does not load, the remedy names the pair
    that works.
    """

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
        except (ImportError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of a file; a library that does not load has no number
            packages.load("torch")
            packages.load("torchaudio")
            raise

    return wrapped
