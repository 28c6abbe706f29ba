"""The table of face detectors by name, and the interface of its entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from llie_preproc.faces import FaceDetector

from ...self_registration import SelfRegistered


class NamedDetector(ABC):
    """Face detector that a command line names.

    Examples:
        >>> issubclass(FACE_DETECTORS["mtcnn"], NamedDetector)
        True
    """

    @abstractmethod
    def made_with(self, checkpoint: str | None) -> dict[str, Any]:
        """Return everything that the detections depend on, besides the pictures, as values for JSON.

        Args:
            checkpoint: Weights that the command line names.

        Raises:
            MissingExtraError: A package of the detector is not installed.
            FileNotFoundError: There is no such checkpoint.
            ValueError: The detector takes no checkpoint and one is given, or it needs one and none is given.
        """

    @abstractmethod
    def build(self, checkpoint: str | None, device: str) -> FaceDetector:
        """Build the detector.

        Args:
            checkpoint: Weights that the command line names.
            device: Device that the detector runs on.
        """


FACE_DETECTORS: SelfRegistered[type[NamedDetector]] = SelfRegistered(__package__, "face detector", "face_detector")
Class = TypeVar("Class", bound=type[NamedDetector])


def face_detector(name: str) -> Callable[[Class], Class]:
    """Register the decorated class, which is made without arguments.

    Args:
        name: Name of the detector on the command line.

    Raises:
        ValueError: The name is taken.

    Examples:
        >>> "mtcnn" in FACE_DETECTORS
        True
    """
    return FACE_DETECTORS.decorator(name, lambda kind: kind)
