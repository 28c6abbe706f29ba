"""Operators that several networks share."""

from .tone import inverse_gamma

__all__ = ["inverse_gamma"]
