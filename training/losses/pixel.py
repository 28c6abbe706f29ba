"""Pixel losses: means over all values of a batch."""

from __future__ import annotations

from torch import nn

from llie_preproc.registry import MODELS


@MODELS.register_module()
class L1Loss(nn.L1Loss):
    """Mean absolute difference: Semi-LLIE's fidelity term and CollaBA's Eq. 8.

    >>> import torch
    >>> L1Loss()(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)).item()
    0.5
    """


@MODELS.register_module()
class MSELoss(nn.MSELoss):
    """Mean squared difference: the pixel term of IAML's Eq. 10.

    >>> import torch
    >>> MSELoss()(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5)).item()
    0.25
    """
