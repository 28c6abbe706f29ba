"""Data sets of faces with their measures. Each has a module, in which it registers itself."""

from .base import FACE_SETS, Evaluation, Found, Protocol, face_set

__all__ = ["FACE_SETS", "Evaluation", "Found", "Protocol", "face_set"]
