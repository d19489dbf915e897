"""What a damaged recording has lost, told once on standard error."""

from __future__ import annotations

from collections.abc import Sequence

from asr.cli import complain
from asr.types import Loss

MAX_NAMED = 5  # places that are named; the others are counted


def warn_of_losses(recording: str, losses: Sequence[Loss]) -> None:
    """One line that names the places and the seconds that are missing; none if nothing is."""
    if losses:
        complain(f"{recording}: {describe(losses)}; the rest is transcribed")


def describe(losses: Sequence[Loss]) -> str:
    """
    >>> describe([Loss(3.5, 4.0, "damaged: no header"), Loss(9.0, None, "truncated")])
    'at least 0.50 s are missing: 3.50-4.00 s (damaged: no header), from 9.00 s on (truncated)'
    """
    known = sum(loss.end - loss.start for loss in losses if loss.end is not None)
    least = "at least " if any(loss.end is None for loss in losses) else ""
    amount = f"{least}{known:.2f} s are missing" if known else "its end is missing"
    places = [_place(loss) for loss in losses[:MAX_NAMED]]
    if len(losses) > MAX_NAMED:
        places.append(f"and {len(losses) - MAX_NAMED} more places")
    return f"{amount}: {', '.join(places)}"


def _place(loss: Loss) -> str:
    if loss.end is None:
        return f"from {loss.start:.2f} s on ({loss.reason})"
    return f"{loss.start:.2f}-{loss.end:.2f} s ({loss.reason})"
