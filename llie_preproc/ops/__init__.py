"""Operators that several networks share."""

from .scan import ScanBackend, scan_backends, selective_scan, selective_scan_2d
from .tone import inverse_gamma

__all__ = ["ScanBackend", "inverse_gamma", "scan_backends", "selective_scan", "selective_scan_2d"]
