"""The interface of a data set of faces: its pictures, its faces, and the scores of detections.

A set registers its class by name::

    @face_set("darkface")
    class DarkFace(BoxedFaces):
        settings = (Setting("annotations", "folder of the texts", needed=True, type=Path, metavar="PATH"),)

        def __init__(self, images, annotations): ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import numpy as np

from llie_preproc.faces import Faces

from ...metrics.matches import ImageScores
from ...self_registration import SelfRegistered, Setting

if TYPE_CHECKING:
    from ...metrics.fddb import FddbRoc

Found = Mapping[str, Faces]


@dataclass(frozen=True)
class Evaluation:
    """Scores of detections.

    Attributes:
        scores: Scores by name; an undefined score is NaN.
        per_picture: Object that computes these scores, or some of them, for any weighting of the pictures. Intervals
            are made with it. None if there are no intervals.
        roc: Curves of FDDB; None for other sets.

    Examples:
        >>> Evaluation({"faces": 12.0}).per_picture is None
        True
    """

    scores: Mapping[str, float]
    per_picture: ImageScores | None = None
    roc: FddbRoc | None = None


@dataclass
class Protocol(ABC):
    """A data set of faces, with the rules that score detections in it.

    Attributes:
        files: Picture files by name.
        problems: Message for each picture that is annotated but missing, or present but not annotated.
    """

    files: Mapping[str, Path]
    problems: list[str] = field(default_factory=list)

    settings: ClassVar[tuple[Setting, ...]] = ()
    """Arguments of the class after the folder of the pictures; they are also flags of ``llie faces``."""
    title = ""
    """Name of the set in tables and messages."""
    headline = ""
    """Name of the score that is plotted."""
    digits = 3
    """Number of digits after the point in tables."""
    least_score = 0.0
    """Default of the least confidence of a detection."""
    shown_score = 0.5
    """Confidence above which detections are drawn."""
    reference_kind = "annotated faces"
    """Noun for the faces to find."""
    refers_to_raw = False
    """Whether the faces to find are those that the raw detector finds in the unchanged pictures."""

    @abstractmethod
    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        """Score detections.

        Args:
            names: Names of the pictures to measure.
            found: Detections by the picture's name.
        """

    @abstractmethod
    def faces(self, name: str) -> np.ndarray:
        """Return the faces to find in a picture, as they are drawn: ``(n, 4)`` x1 y1 x2 y2."""

    @abstractmethod
    def notes(self) -> list[str]:
        """Explain the scores, in sentences."""

    def refer_to(self, found: Found) -> None:
        """Set the faces to find: those of the raw detector in the unchanged pictures. For sets that refer to raw."""
        raise NotImplementedError

    @classmethod
    def has_tool(cls) -> bool:
        """Say whether detections can be written in the format of the data set's own tool."""
        return cls.write_official is not Protocol.write_official

    def write_official(self, folder: Path, found: Found) -> None:
        """Write detections in the format of the data set's own tool.

        Args:
            folder: Folder to write into.
            found: Detections by the picture's name.

        Raises:
            ValueError: The data set has no tool.
        """
        raise ValueError(f"{self.title} have no tool of their own")


FACE_SETS: SelfRegistered[type[Protocol]] = SelfRegistered(__package__, "set of faces", "face_set")
Class = TypeVar("Class", bound=type[Protocol])


def face_set(name: str) -> Callable[[Class], Class]:
    """Register the decorated class, whose arguments are the folder of the pictures and its ``settings`` by name.

    Args:
        name: Name of the set on the command line.

    Raises:
        ValueError: The name is taken.

    Examples:
        >>> {"darkface", "fddb", "folder", "wider"} <= set(FACE_SETS)
        True
    """
    return FACE_SETS.decorator(name, lambda protocol: protocol)
