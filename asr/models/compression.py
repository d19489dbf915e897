"""Smaller networks out of trained ones."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def zero_smallest(weight: Tensor, share: float) -> None:
    """Make the `share` of the entries that are smallest in magnitude zero, in place.

    >>> weight = torch.tensor([[0.1, -0.5], [0.3, -0.2]])
    >>> zero_smallest(weight, 0.5)
    >>> weight.tolist()
    [[0.0, -0.5], [0.30000001192092896, 0.0]]
    """
    count = int(share * weight.numel())
    if count:
        sizes = weight.abs()
        weight.masked_fill_(sizes <= sizes.flatten().kthvalue(count).values, 0)
