"""Numbers drawn from a range; random numbers come from PyTorch's CPU generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def uniform(interval: Sequence[float]) -> float:
    """A number drawn uniformly from a range.

    >>> uniform((2.0, 2.0))
    2.0
    """
    low, high = interval
    return low + (high - low) * float(torch.rand(()))


def log_uniform(interval: Sequence[float]) -> float:
    """A number above 0 whose logarithm is drawn uniformly from a range's.

    >>> round(log_uniform((2.0, 2.0)), 6)
    2.0
    """
    return math.exp(uniform((math.log(interval[0]), math.log(interval[1]))))
