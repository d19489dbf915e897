"""Speech recognition with deep bidirectional LSTMs and CTC.

>>> import asr
>>> recognizer = asr.load()                               # doctest: +SKIP
>>> recognizer.transcribe("talk.mp3").save("talk.srt")    # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from asr.errors import ASRError, AudioError, BundleError, ConfigError, MissingDependencyError
from asr.types import Loss, Segment, StreamEvent, Transcript, Unit, Word

if TYPE_CHECKING:
    from asr.recognizer import Recognizer, load
    from asr.stream import Stream

__version__ = "0.1.0"
__all__ = [
    "ASRError",
    "AudioError",
    "BundleError",
    "ConfigError",
    "Loss",
    "MissingDependencyError",
    "Recognizer",
    "Segment",
    "Stream",
    "StreamEvent",
    "Transcript",
    "Unit",
    "Word",
    "__version__",
    "load",
]
_LAZY = {"Recognizer": "asr.recognizer", "load": "asr.recognizer", "Stream": "asr.stream"}


def __getattr__(name: str) -> Any:
    """Import the recogniser when it is first asked for: `import asr` by itself costs nothing."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'asr' has no attribute {name!r}")
