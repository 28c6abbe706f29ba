"""Lists of exposure sequences: which pictures show one scene, at what exposure, and which of them is the reference.

A list is a JSON file such as ``{"scenes": [{"reference": "5.jpg", "exposures": {"3.jpg": -1.3, "6.jpg": 1.2}}]}``. A
scene has the name of its well-exposed picture, and the names of its other pictures with their exposures in EV from the
reference; a negative number is darker. Names are paths within the folder of the pictures.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from llie_preproc.coco_json import is_number, kind_of, read_json, require_inside

_KEYS = {"reference", "exposures"}


@dataclass(frozen=True)
class ExposedPicture:
    """A picture of a sequence.

    Attributes:
        name: Name of the picture.
        reference: Name of the picture that it is compared with.
        stops: Exposure in EV from the reference; 0 for the reference itself.
    """

    name: str
    reference: str
    stops: float


@dataclass(frozen=True)
class ExposureSequence:
    """Pictures of one scene that differ in exposure alone.

    Attributes:
        reference: Name of the well-exposed picture.
        exposures: Exposure in EV from the reference, by name, of each other picture; none rounds to 0.
    """

    reference: str
    exposures: Mapping[str, float]

    def pictures(self) -> list[ExposedPicture]:
        """List the pictures, the reference first.

        Examples:
            >>> [picture.name for picture in ExposureSequence("b.jpg", {"a.jpg": -2.1}).pictures()]
            ['b.jpg', 'a.jpg']
        """
        stops = {self.reference: 0.0, **self.exposures}
        return [ExposedPicture(name, self.reference, each) for name, each in stops.items()]


def whole_step(stops: float) -> int:
    """Round an exposure to whole EV; halves go away from 0.

    Examples:
        >>> [whole_step(stops) for stops in (-1.5, -1.4, 0.4, 0.5)]
        [-2, -1, 0, 1]
    """
    return int(math.copysign(math.floor(abs(stops) + 0.5), stops))


def read_sequences(paths: Iterable[str | os.PathLike[str]]) -> list[ExposureSequence]:
    """Read lists of exposure sequences.

    Args:
        paths: JSON files of the form that this module describes.

    Returns:
        Scenes of all files, in their order.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is not such a list, has no scene, or has a name that leads out of the folder; an exposure is
            no number beyond 0.5 EV from the reference; or a picture occurs twice. The message names file and scene.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "scenes.json"
        >>> _ = path.write_text('{"scenes": [{"reference": "b.jpg", "exposures": {"a.jpg": -2.1}}]}')
        >>> read_sequences([path])
        [ExposureSequence(reference='b.jpg', exposures={'a.jpg': -2.1})]
    """
    found: list[ExposureSequence] = []
    # Two spellings of a path, such as ./a.jpg and a.jpg, are one picture.
    places: dict[PurePosixPath, str] = {}
    for path in paths:
        for number, entry in enumerate(_entries(path), start=1):
            place = f"{os.fspath(path)}: scene {number}"
            found.append(_sequence(entry, place))
            for name in (found[-1].reference, *found[-1].exposures):
                path_of = PurePosixPath(name)
                if path_of in places:
                    raise ValueError(f"{place}: {name} is also in {places[path_of]}; expected each picture once")
                places[path_of] = place
    return found


def _entries(path: str | os.PathLike[str]) -> Sequence[Any]:
    content = read_json(path)
    entries = content.get("scenes") if isinstance(content, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f'{os.fspath(path)}: not a list of exposure sequences; expected {{"scenes": [...]}}')
    return entries


def _sequence(entry: Any, place: str) -> ExposureSequence:
    if not isinstance(entry, dict) or set(entry) != _KEYS:
        keys = ", ".join(sorted(map(str, entry))) if isinstance(entry, dict) else kind_of(entry)
        raise ValueError(f"{place}: expected the keys reference and exposures, got {keys or 'none'}")
    reference, exposures = entry["reference"], entry["exposures"]
    if not isinstance(reference, str) or not reference:
        raise ValueError(f"{place}: reference: expected the name of a picture, got {reference!r}")
    if not isinstance(exposures, dict) or not exposures:
        raise ValueError(f"{place}: exposures: expected at least one name with its EV, got {exposures!r}")
    for name in (reference, *exposures):
        require_inside(name, f"{place}:")
    for name, stops in exposures.items():
        if not is_number(stops) or not math.isfinite(stops) or whole_step(stops) == 0:
            raise ValueError(f"{place}: {name}: expected an exposure of at least 0.5 EV up or down, got {stops!r}")
    return ExposureSequence(reference, {name: float(stops) for name, stops in exposures.items()})
