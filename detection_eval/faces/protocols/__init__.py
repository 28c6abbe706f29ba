"""Data sets of faces, and how each scores detections. Each set has a module, in which it registers itself."""

from .base import FACE_SETS, Evaluation, Found, Protocol, face_set

__all__ = ["FACE_SETS", "Evaluation", "Found", "Protocol", "face_set"]
