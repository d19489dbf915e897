"""The one place that opens ONNX Runtime sessions: on the CPU, no warnings, one kind of error."""

from __future__ import annotations

import os

import onnxruntime

from asr.errors import ASRError, BundleError


def open_session(
    path: str | os.PathLike[str],
    problem: str = "not a network",
    *,
    remedy: str = "export it again",
    error: type[ASRError] = BundleError,
    threads: int = 1,
    unpack_weights: bool = True,
) -> onnxruntime.InferenceSession:
    """A session on the CPU for the graph in a file.

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
        return onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as failure:  # ONNX Runtime's exceptions have no common base
        raise error(f"{path}: {problem}: {failure}", remedy) from failure
