"""Work that processes of the cluster import by name, and that ends some of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Make:
    """Doubles numbers. 13 ends its process each time, 7 once; 5 raises."""

    mark: Path

    def __call__(self) -> Callable[[int], int]:
        def double(number: int) -> int:
            if number == 13 or (number == 7 and not self.mark.exists()):
                self.mark.touch()
                os._exit(1)
            if number == 5:
                raise ValueError("five")
            return 2 * number

        return double


def digits(number: int) -> Iterator[int]:
    if number == 999:
        yield 9
        raise OSError("cut off")
    yield from map(int, str(number))
