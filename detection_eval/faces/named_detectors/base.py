"""The table of face detectors by name, and the interface of its entries."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from llie_preproc.faces import FaceDetector

from ...self_registration import SelfRegistered


class NamedDetector(ABC):
    """Face detector that a command line names.

    Attributes:
        takes_checkpoint: Whether the detector takes the weights of ``--detector-checkpoint``, which are refused
            otherwise.

    Examples:
        >>> issubclass(FACE_DETECTORS["mtcnn"], NamedDetector)
        True
    """

    takes_checkpoint = False

    @abstractmethod
    def made_with(self, checkpoint: str | None) -> dict[str, Any]:
        """Return everything that the detections depend on, besides the pictures and the checkpoint, as values for JSON.

        The results keep these values, and ``--resume`` refuses results that were made with others.

        Args:
            checkpoint: File of the weights that the command line names; None if it names none.

        Raises:
            MissingExtraError: A package of the detector is not installed.
            ValueError: The detector needs a checkpoint, and none is given.
        """

    @abstractmethod
    def build(self, checkpoint: str | None, device: str) -> FaceDetector:
        """Build the detector.

        Args:
            checkpoint: File of the weights that the command line names; None if it names none.
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
