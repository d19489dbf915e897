"""What each peer's process speaks: paths of WAV files in, one JSON object for each out."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable


def serve(transcribe: Callable[[str], str]) -> None:
    """Say that the model is loaded, then answer each path with its text and the processor time."""
    _say(cpu=time.process_time())
    for line in sys.stdin:
        text = transcribe(line.strip())
        _say(text=text, cpu=time.process_time())
    _say(peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _say(**values: object) -> None:
    print(json.dumps(values), flush=True)
