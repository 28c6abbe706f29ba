"""Operators that several networks share."""

from .gradient import central_differences, gradient_map
from .scan import ScanBackend, scan_backends, selective_scan, selective_scan_2d
from .stochastic_depth import StochasticDepth
from .tone import inverse_gamma, power

__all__ = [
    "ScanBackend",
    "StochasticDepth",
    "central_differences",
    "gradient_map",
    "inverse_gamma",
    "power",
    "scan_backends",
    "selective_scan",
    "selective_scan_2d",
]
