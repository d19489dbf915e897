"""Scalar quantisation of weights to one byte."""

from __future__ import annotations

import numpy as np

CODES = 256
_TICKS = 1024  # weights closer than 1/1024 are not separated by a codebook of 256
_ITERATIONS = 40


def codebook(values: np.ndarray) -> np.ndarray:
    """(256,) float32 ascending codes of small mean squared error (Lloyd's algorithm, 1957).

    Exact for the smallest and the largest value (a probability of zero must not be averaged with
    others), and for all of them if there are no more than 256.
    """
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= CODES:
        return _padded(distinct if len(distinct) else np.zeros(1))
    ticks = np.round(distinct.astype(float) * _TICKS)
    points, inverse = np.unique(ticks, return_inverse=True)
    points, weights = points / _TICKS, np.bincount(inverse, counts)
    mass, moment = _cumulative(weights), _cumulative(weights * points)
    # Start from codes of equal mass, then alternate: nearest code, mean of the nearest points.
    bounds = np.searchsorted(mass, np.linspace(0, mass[-1], CODES - 1))
    codes = np.empty(0)
    for _ in range(_ITERATIONS):
        inside = mass[bounds[1:]] - mass[bounds[:-1]]
        codes = (moment[bounds[1:]] - moment[bounds[:-1]])[inside > 0] / inside[inside > 0]
        middles = (codes[1:] + codes[:-1]) / 2
        bounds = np.concatenate([[0], np.searchsorted(points, middles), [len(points)]])
    return _padded(np.concatenate([distinct[:1], codes, distinct[-1:]]))


def nearest(codes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index (values,) uint8 of the code nearest to each value."""
    middles = (codes[1:].astype(float) + codes[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.uint8)


def _cumulative(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0.0], np.cumsum(values)])


def _padded(codes: np.ndarray) -> np.ndarray:
    """Fewer codes than 256 are filled up with the last one."""
    return np.pad(codes, (0, CODES - len(codes)), mode="edge").astype(np.float32)
