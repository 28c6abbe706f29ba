"""MMEngine metrics."""

from .image_quality import ImageQuality

__all__ = ["ImageQuality"]
