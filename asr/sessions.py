"""The one place that opens ONNX Runtime sessions: on the CPU, no warnings, one kind of error."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime

from asr.errors import ASRError, BundleError
from asr.files import open_binary

# Where weights that lie outside the graph's own file would be looked for.
_WEIGHTS_ELSEWHERE = "session.model_external_initializers_file_folder_path"


class Session(onnxruntime.InferenceSession):
    """A graph; `run` raises `error` where the graph does not do what it promises."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        options: onnxruntime.SessionOptions,
        error: type[ASRError],
        remedy: str,
    ) -> None:
        # Nobody vouches for another file that the graph may name: below a file there is none.
        options.add_session_config_entry(_WEIGHTS_ELSEWHERE, os.fspath(path))
        with open_binary(path) as file:
            super().__init__(file.read(), options, providers=["CPUExecutionProvider"])
        self._failed = os.fspath(path), error, remedy

    def run(
        self, outputs: Sequence[str] | None, inputs: Mapping[str, Any], run_options: Any = None
    ) -> list[Any]:
        """The outputs of these names for the inputs."""
        try:
            return super().run(outputs, inputs, run_options)
        except Exception as failure:  # ONNX Runtime's exceptions have no common base
            path, error, remedy = self._failed
            raise error(f"{path}: the network fails: {_reason(failure)}", remedy) from failure


def open_session(
    path: str | os.PathLike[str],
    problem: str = "not a network",
    *,
    remedy: str = "export it again",
    error: type[ASRError] = BundleError,
    threads: int = 1,
    unpack_weights: bool = True,
) -> Session:
    """A session on the CPU for the graph in a file, which must hold all of its weights.

    `unpack_weights`: turn 8-bit weights into floats once, when the file is loaded, not at every
    call; leave it off for graphs that compute in 8 bits. Raises `error`, with `remedy`, if the file
    is no graph; `problem` says what it is not.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors only; they come as exceptions
    if unpack_weights:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        return Session(path, options, error, remedy)
    except Exception as failure:
        raise error(f"{path}: {problem}: {_reason(failure)}", remedy) from failure


def _reason(failure: Exception) -> str:
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    return " ".join(str(failure).split())[:300]
