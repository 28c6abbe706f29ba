"""Loss terms, one file each."""

from .total_variation import log_total_variation

__all__ = ["log_total_variation"]
