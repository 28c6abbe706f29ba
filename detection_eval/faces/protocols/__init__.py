"""The data sets of faces with their measures, a module each, which registers itself."""

from .base import FACE_SETS, Evaluation, Found, Protocol, face_set

__all__ = ["FACE_SETS", "Evaluation", "Found", "Protocol", "face_set"]
