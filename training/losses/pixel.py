"""Pixel losses: the mean over all values of one batch."""

from __future__ import annotations

from torch import nn

from llie_preproc.registry import MODELS


@MODELS.register_module()
class L1Loss(nn.L1Loss):
    """Mean absolute difference: Semi-LLIE's fidelity term, CollaBA's Eq. 8."""


@MODELS.register_module()
class MSELoss(nn.MSELoss):
    """Mean squared difference: the pixel term of IAML's Eq. 10."""
