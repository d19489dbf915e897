"""Speech recognition with deep bidirectional LSTMs and CTC.

>>> import asr
>>> recognizer = asr.load()                               # doctest: +SKIP
>>> recognizer.transcribe("talk.mp3").save("talk.srt")    # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asr.recognizer import Recognizer, load

__version__ = "0.1.0"
__all__ = ["Recognizer", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import the recogniser when it is first asked for: `import asr` by itself costs nothing."""
    if name in {"Recognizer", "load"}:
        from asr import recognizer

        return getattr(recognizer, name)
    raise AttributeError(f"module 'asr' has no attribute {name!r}")
