"""Selective scan (Mamba-1), one- and two-dimensional, with several backends."""

from .backends import ScanBackend, scan_backends
from .functional import selective_scan, selective_scan_2d

__all__ = ["ScanBackend", "scan_backends", "selective_scan", "selective_scan_2d"]
