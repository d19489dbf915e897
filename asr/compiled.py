"""Functions that numba compiles on their first call, and finds compiled on the next start.

Where nothing may be written, neither beside the package nor in the home of who runs it, they are
compiled on every start instead of not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit
from numba.core import event
from numba.extending import register_jitable


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function, which then holds no GIL."""
    return _compile(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that allocates nothing.

    Without counting the references to every array that it touches, it compiles and runs in half
    the time.
    """
    return _compile(function, _nrt=False, no_cfunc_wrapper=True)


def inner(function: Callable[..., Any]) -> Any:
    """Make a function part of the kernels that call it, and of their cache; no kernel by itself.

    Every set of argument types makes another copy, which takes time and memory: where one caller
    has an int32 of a record and another an int64, cast it.
    """
    return register_jitable(nogil=True, _nrt=False, no_cfunc_wrapper=True)(function)


def is_cached(function: Any) -> bool:
    """Whether an earlier start has left a compiled function on the disk."""
    folder = function.stats.cache_path
    return folder is not None and any(Path(folder).glob(f"*.{function.__name__}-*.nbi"))


def on_compiling(tell: Callable[[], object]) -> None:
    """Call `tell`, once, when something is compiled that no earlier start has left compiled."""
    event.register("numba:compile", _Once(tell))


class _Once(event.Listener):
    def __init__(self, tell: Callable[[], object]):
        self._tell: Callable[[], object] | None = tell

    def on_start(self, event: object) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            tell()

    def on_end(self, event: object) -> None:
        pass


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # no place for a cache
        return njit(nogil=True, **options)(function)
