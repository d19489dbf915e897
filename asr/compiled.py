"""Functions that numba compiles on their first call, and finds compiled on the next start.

Where nothing may be written, neither beside the package nor in the home of who runs it, they are
compiled anew on every start, instead of not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function, which then holds no GIL."""
    return _compile(function)


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that allocates nothing.

    Without counting the references to every array that it touches, it compiles and runs in half
    the time.
    """
    return _compile(function, _nrt=False)


def inlined(function: Callable[..., Any]) -> Any:
    """A kernel that becomes part of its callers: less is passed around."""
    return _compile(function, _nrt=False, forceinline=True)


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # no place for a cache
        return njit(nogil=True, **options)(function)
