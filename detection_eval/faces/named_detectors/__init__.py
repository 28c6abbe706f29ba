"""Face detectors that ``llie faces --detector`` takes by name. Each has a module, in which it registers itself."""

from .base import FACE_DETECTORS, NamedDetector, face_detector

__all__ = ["FACE_DETECTORS", "NamedDetector", "face_detector"]
