"""What is measured on a data set of faces: its pictures, its faces, and the scores of detections.

A set registers its class by name ::

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
    """What detections score.

    Attributes:
        scores: By name; nan where undefined.
        per_picture: The same, or some of them, for any weighting of the pictures: for intervals.
        roc: FDDB's curves.
    """

    scores: Mapping[str, float]
    per_picture: ImageScores | None = None
    roc: FddbRoc | None = None


@dataclass
class Protocol(ABC):
    """A data set with its measure.

    Attributes:
        files: Pictures by name.
        problems: A line for each picture that is listed but not there, or there but not annotated.
    """

    files: Mapping[str, Path]
    problems: list[str] = field(default_factory=list)

    settings: ClassVar[tuple[Setting, ...]] = ()
    """Arguments of the class beside the folder of the pictures, and flags of ``llie faces``."""
    title = ""
    headline = ""
    """Name of the score that is plotted."""
    digits = 3
    least_score = 0.0
    """Least confidence of a detection where none is asked for."""
    shown_score = 0.5
    """Detections with more confidence are drawn."""
    reference_kind = "annotated faces"
    refers_to_raw = False
    """Whether the faces to find are those that the raw detector finds in the unchanged pictures."""

    @abstractmethod
    def evaluate(self, names: Collection[str], found: Found) -> Evaluation:
        """Score the detections of these pictures."""

    @abstractmethod
    def faces(self, name: str) -> np.ndarray:
        """``(n, 4)`` x1 y1 x2 y2 of the faces to find in a picture, as they are drawn."""

    @abstractmethod
    def notes(self) -> list[str]:
        """What the scores are, in sentences."""

    def refer_to(self, found: Found) -> None:
        """Take what the raw detector finds in the unchanged pictures as reference, where :attr:`refers_to_raw`."""
        raise NotImplementedError

    @classmethod
    def has_tool(cls) -> bool:
        """Whether the data set has a tool of its own, for which detections can be written."""
        return cls.write_official is not Protocol.write_official

    def write_official(self, folder: Path, found: Found) -> None:
        """Write detections as the data set's own tool takes them.

        Raises:
            ValueError: It has none.
        """
        raise ValueError(f"{self.title} have no tool of their own")


FACE_SETS: SelfRegistered[type[Protocol]] = SelfRegistered(__package__, "set of faces", "face_set")
Class = TypeVar("Class", bound=type[Protocol])


def face_set(name: str) -> Callable[[Class], Class]:
    """Register the class below, whose arguments are the folder of the pictures and its ``settings`` by name.

    Args:
        name: Name of the set on the command line.

    Raises:
        ValueError: There is a set of that name.
    """
    return FACE_SETS.decorator(name, lambda protocol: protocol)
