"""Operators that several networks share."""

from .gradient import central_differences, gradient_map
from .scan import ScanBackend, scan_backends, selective_scan, selective_scan_2d
from .tone import inverse_gamma

__all__ = [
    "ScanBackend",
    "central_differences",
    "gradient_map",
    "inverse_gamma",
    "scan_backends",
    "selective_scan",
    "selective_scan_2d",
]
