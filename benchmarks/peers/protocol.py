"""What each peer's process speaks: paths of WAV files in, one JSON object for each out."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable

from memory import peak_mb


def serve(transcribe: Callable[[str], str], model: str | os.PathLike[str]) -> None:
    """Say where the model lies, now that it is loaded, then answer each path with its text, the
    processor time so far and the peak of the memory.
    """
    _say(model=os.fspath(model))
    for line in sys.stdin:
        text = transcribe(line.strip())
        _say(text=text, cpu=time.process_time(), peak_mb=peak_mb())


def _say(**values: object) -> None:
    print(json.dumps(values), flush=True)
