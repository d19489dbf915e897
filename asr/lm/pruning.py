"""Entropy pruning: leave out the n-grams that the model hardly misses.

Stolcke, "Entropy-based Pruning of Backoff Language Models", 1998. Kneser-Ney's lower orders are no
good estimates of how often a history occurs (Chelba et al., "Study on Interaction between Entropy
Pruning and Kneser-Ney Smoothing", 2010), so histories are weighted by their relative frequency in
the training text wherever the model still knows it.
"""

from __future__ import annotations

import math

import numpy as np

from asr.lm.backoff import BackoffModel
from asr.text.vocabulary import END_ID, START_ID


def prune(model: BackoffModel, threshold: float) -> BackoffModel:
    """Leave out every n-gram whose loss raises the perplexity by less than this relative amount.

    Single words stay. Useful thresholds are 1e-9 to 1e-6.
    """
    history = _history_probabilities(model)
    kept = np.ones(len(model), bool)
    for order in range(model.order, 1, -1):
        level = model.level(order)
        followed = np.zeros(len(model), bool)
        followed[model.parent[1:][kept[1:]]] = True
        loss = _losses(model, order) * history[model.parent[level]]
        kept[level] = followed[level] | (loss >= math.log1p(threshold))
    return model.subset(kept).normalized()


def _losses(model: BackoffModel, order: int) -> np.ndarray:
    """Relative entropy between the distributions after a history, with and without each n-gram."""
    level = model.level(order)
    parent = model.parent[level] - model.level(order - 1).start
    log_prob = model.log_prob[level].astype(float)
    lower = model.lower_log_probs(level)
    left, lower_left = (side[parent] for side in model.left_over(order))
    backoff = np.log(left / lower_left)
    new_backoff = np.log((left + np.exp(log_prob)) / (lower_left + np.exp(lower)))
    return -np.exp(log_prob) * (lower + new_backoff - log_prob) - left * (new_backoff - backoff)


def _history_probabilities(model: BackoffModel) -> np.ndarray:
    if model.frequency is not None:
        return model.frequency
    log_prob = np.zeros(len(model))
    for order in range(1, model.order):
        level = model.level(order)
        log_prob[level] = log_prob[model.parent[level]] + model.log_prob[level]
        if order == 1:
            log_prob[1 + START_ID] = log_prob[1 + END_ID]  # as often as it ends, a text begins
    return np.exp(log_prob)
