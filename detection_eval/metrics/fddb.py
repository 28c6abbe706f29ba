"""FDDB's discrete and continuous ROC curves, which agree with FDDB's own program to the pixel.

1. Faces and detections are filled on masks of the picture's size, so that parts beyond the frame do not count. Corners
   of rectangles are rounded (halves to even), and both belong to the rectangle. For ellipses, centres are rounded,
   radii are truncated, the angle is in whole degrees, and OpenCV fills the shape.
2. Overlap is intersection over union in pixels.
3. For each distinct score of a picture, the detections of that score or more are matched one to one with the faces so
   that the sum of the overlaps is as large as possible; shapes that do not overlap are not matched.
4. A pair with an overlap above 0.5 is a true positive and adds 1 to the discrete score. Each pair adds its overlap to
   the continuous score. Detections that are not true positives are the false positives of both scores.
5. The pictures are added up at each score that any of them has. Rates are per annotated face.

Source: V. Jain, E. Learned-Miller, "FDDB: A benchmark for face detection in unconstrained settings", UM-CS-2010-009,
Section 6, and the program that comes with the benchmark.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from llie_preproc.errors import needs
from llie_preproc.files import write_texts

from ..datasets.fddb import FddbDetections, FddbTruth, from_faces
from ..datasets.labels import Size
from .hints import fddb_hints
from .matches import ImageScores

# The extra with MMDetection also installs SciPy.
with needs("FDDB's matching"):
    from scipy.optimize import linear_sum_assignment


__all__ = ["KINDS", "FddbRoc", "FddbScores", "fddb_roc", "from_faces", "mean_curve", "mean_rate_at", "ten_fold"]

KINDS = ("discrete", "continuous")
_FOUND = 0.5
# No picture of FDDB has a longer side.
_LONGEST = 450
# The program's threshold for a picture without detection is the largest double.
_NEVER = np.finfo(np.float64).max
# OpenCV's filled ellipses are a little larger than the ellipse.
_MARGIN = 3
# OpenCV draws in 64-bit numbers with 16 fractional bits, which are far from overflowing up to this value.
_LARGEST = 1 << 20
_SHOWN = 3


@dataclass(frozen=True)
class FddbRoc:
    """Both ROC curves, with a point for each distinct score, by rising threshold.

    If a picture has no detection, FDDB's program adds a last point, and so does this class: the threshold is the
    largest double, and nothing is found.

    Attributes:
        thresholds: Scores, ``(k,)``; a point counts the detections of this score or more.
        true_positives: Numbers of faces that are found with an overlap above 0.5, ``(k,)`` int64.
        overlap: Sums of the overlaps of all matched pairs, ``(k,)``.
        false_positives: Numbers of detections that are not true positives, ``(k,)`` int64.
        faces: Number of annotated faces.
        pictures: Number of pictures.
        without_size: Number of pictures that were clipped at 450x450 because their size was not given.
        hints: Sentences on what looks wrong with the annotations or the detections.
    """

    thresholds: np.ndarray
    true_positives: np.ndarray
    overlap: np.ndarray
    false_positives: np.ndarray
    faces: int
    pictures: int
    without_size: int
    hints: tuple[str, ...] = ()

    @property
    def discrete(self) -> np.ndarray:
        """The true positive rates ``(k,)`` in which a face counts 1 if its overlap is above 0.5."""
        return self.true_positives / self.faces

    @property
    def continuous(self) -> np.ndarray:
        """The true positive rates ``(k,)`` in which a face counts its overlap."""
        return self.overlap / self.faces

    @property
    def clipped_to(self) -> str:
        """The frames at which faces and detections were clipped: ``'frames'``, ``'450'``, or ``'frames and 450'``."""
        if self.without_size in (0, self.pictures):
            return "450" if self.without_size else "frames"
        return "frames and 450"

    @property
    def caution(self) -> str:
        """A sentence on the errors that unknown sizes cause; empty if all sizes were known.

        Its figures were measured with MTCNN's published boxes on all of FDDB. One in 100 of these leaves its frame.
        """
        if not self.without_size:
            return ""
        return (
            f"{self.without_size} of {self.pictures} pictures have no known size and were clipped at "
            f"{_LONGEST}x{_LONGEST}: with all of FDDB's sizes unknown, a published detector's discrete rates were off "
            "by at most 0.0005, its continuous rates by 0.001, and its false positives by 3; a detector whose boxes "
            "leave the frame more often has larger errors"
        )

    def rate_at(self, false_positives: int, kind: str = "discrete") -> float:
        """The largest true positive rate with at most ``false_positives``; 0 if every point has more of them.

        Raises:
            ValueError: ``kind`` is unknown, or ``false_positives`` is negative.
        """
        return float(self.rates_at([false_positives], kind)[0])

    def rates_at(self, false_positives: Sequence[int] | np.ndarray, kind: str = "discrete") -> np.ndarray:
        """The rates of :meth:`rate_at` for ``(m,)`` numbers of false positives."""
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        at = np.asarray(false_positives)
        if (at < 0).any():
            raise ValueError(f"false_positives must not be negative, got {at.min()}")
        # The rates may fall when detections are added, because the matching maximises the sum of the overlaps.
        order = np.argsort(self.false_positives, kind="stable")
        rates = self.discrete if kind == "discrete" else self.continuous
        best = np.append(0.0, np.maximum.accumulate(rates[order]))
        return best[np.searchsorted(self.false_positives[order], at, side="right")]

    def write(self, discrete: str | os.PathLike[str], continuous: str | os.PathLike[str]) -> None:
        """Write the program's two files, both or none.

        Lines of the discrete curve are ``rate false_positives threshold``, those of the continuous curve are ``rate
        false_positives``.

        Raises:
            OSError: A file cannot be written; the message names it.
        """
        write_texts(self.texts(discrete, continuous))

    def texts(self, discrete: str | os.PathLike[str], continuous: str | os.PathLike[str]) -> dict[Path, str]:
        """The texts that :meth:`write` writes, by path."""
        rows = list(zip(self.discrete, self.continuous, self.false_positives, self.thresholds, strict=True))
        return {
            Path(discrete).expanduser(): "".join(f"{rate:g} {false} {least:g}\n" for rate, _, false, least in rows),
            Path(continuous).expanduser(): "".join(f"{rate:g} {false}\n" for _, rate, false, _ in rows),
        }


def fddb_roc(
    truth: FddbTruth,
    detections: Mapping[str, FddbDetections],
    sizes: Mapping[str, Size] | None = None,
    folds: Sequence[int] | None = None,
    progress: bool = False,
) -> FddbRoc:
    """Both ROC curves over all pictures, or over the pictures of some folds.

    >>> truth = FddbTruth({"a": np.array([[30.0, 20.0, 1.57, 60.0, 50.0]])}, {"a": 1})
    >>> found = {"a": FddbDetections([[42, 24, 36, 52]], [0.9])}
    >>> roc = fddb_roc(truth, found, sizes={"a": (120, 100)})
    >>> roc.rate_at(false_positives=0), bool(0.5 < roc.rate_at(0, "continuous") < 1)
    (1.0, True)

    Args:
        truth: Annotated faces.
        detections: Detections of every evaluated picture, by name; a picture in which nothing was found has an empty
            entry. Detections of other folds are left out.
        sizes: ``(width, height)`` of the pictures by name. A picture without an entry is clipped at 450x450, and
            ``caution`` says so.
        folds: Folds of the truth to evaluate; by default all.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: A picture has no entry in ``detections``, an entry has no picture, no face is annotated, a size is
            below 1, a face has no pixel in its frame (the sizes then belong to other pictures), or a detection is too
            large to be drawn.
    """
    chosen = truth if folds is None else truth.only(folds)
    _check_names(truth, chosen, detections)
    return _roc(chosen, detections, sizes or {}, _events(chosen, detections, sizes or {}, progress))


class FddbScores(ImageScores):
    """True positive rates at given numbers of false positives, for any weighting of the pictures.

    >>> truth = FddbTruth({"a": np.array([[30.0, 20.0, 1.57, 60.0, 50.0]])}, {"a": 1})
    >>> found = {"a": FddbDetections([[42, 24, 36, 52]], [0.9])}
    >>> FddbScores(truth, found, {"a": (120, 100)}, {"discrete at 10": ("discrete", 10)}).values()
    {'discrete at 10': 1.0}

    Args:
        truth: Annotated faces.
        detections: Detections of every picture, as in :func:`fddb_roc`.
        sizes: ``(width, height)`` of the pictures, as in :func:`fddb_roc`.
        points: Kind and number of false positives of each score, by its name (:meth:`FddbRoc.rate_at`).

    Attributes:
        roc: Curves in which each picture counts once.

    Raises:
        ValueError: :func:`fddb_roc` or :meth:`FddbRoc.rate_at` refuses the arguments.
    """

    def __init__(
        self,
        truth: FddbTruth,
        detections: Mapping[str, FddbDetections],
        sizes: Mapping[str, Size] | None,
        points: Mapping[str, tuple[str, int]],
    ) -> None:
        super().__init__(list(truth.ellipses))
        self.names = tuple(points)
        self._points = tuple(points.values())
        _check_names(truth, truth, detections)
        of_pictures = _events(truth, detections, sizes or {}, progress=False)
        self.roc = _roc(truth, detections, sizes or {}, of_pictures)
        for kind, number in self._points:
            self.roc.rate_at(number, kind)
        self._faces = np.array([len(each) for each in truth.ellipses.values()], dtype=np.int64)
        events, picture = _joined(list(itertools.chain(*of_pictures))), _picture_of(of_pictures)
        order = np.argsort(-events.threshold, kind="stable")
        self._events, self._picture = _Events(*(each[order] for each in events)), picture[order]
        # A point comes after all events of its score.
        self._ends = np.flatnonzero(np.diff(self._events.threshold, append=-np.inf))

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        copies = weights[:, self._picture]
        valid, found, overlap = (
            np.cumsum(copies * change, axis=1)[:, self._ends]
            for change in (self._events.valid, self._events.found, self._events.overlap)
        )
        of_kind = dict(zip(KINDS, (found, overlap), strict=True))
        faces = weights @ self._faces
        rates = [
            np.where(valid - found <= number, of_kind[kind], 0).max(axis=1, initial=0) / np.maximum(faces, 1)
            for kind, number in self._points
        ]
        return np.where(faces > 0, rates, np.nan)


def ten_fold(
    truth: FddbTruth,
    detections: Mapping[str, FddbDetections],
    sizes: Mapping[str, Size] | None = None,
    folds: Sequence[int] | None = None,
) -> list[FddbRoc]:
    """The curves of each fold alone, by rising fold, as in the benchmark's ten-fold experiment.

    Arguments and errors are those of :func:`fddb_roc`.
    """
    chosen = sorted(set(truth.folds.values()) if folds is None else set(folds))
    return [fddb_roc(truth, detections, sizes, [fold]) for fold in chosen]


def mean_rate_at(rocs: Sequence[FddbRoc], false_positives: int, kind: str = "discrete") -> float:
    """The mean of the folds' rates, where each fold has at most ``false_positives`` of its own.

    Raises:
        ValueError: There is no curve, or :meth:`FddbRoc.rate_at` refuses the arguments.
    """
    return float(mean_curve(rocs, kind, [false_positives])[1][0])


def mean_curve(
    rocs: Sequence[FddbRoc], kind: str = "discrete", false_positives: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The average of the folds' curves, at equal numbers of false positives in each fold.

    Args:
        rocs: Curves of the folds.
        kind: One of :data:`KINDS`.
        false_positives: Numbers of false positives at which to average; by default those that any curve has.

    Returns:
        The numbers of false positives of a fold, ``(m,)``, rising by default, and the mean rates, ``(m,)``.

    Raises:
        ValueError: There is no curve, or :meth:`FddbRoc.rate_at` refuses the arguments.
    """
    if not rocs:
        raise ValueError("no curves to average")
    at = (
        np.unique(np.concatenate([roc.false_positives for roc in rocs])) if false_positives is None else false_positives
    )
    return np.asarray(at), np.mean([roc.rates_at(at, kind) for roc in rocs], axis=0)


class _Events(NamedTuple):
    """What changes when the threshold falls to each of ``(m,)`` scores. Changes at the same score add up."""

    threshold: np.ndarray
    valid: np.ndarray
    found: np.ndarray
    overlap: np.ndarray


_NOTHING = _Events(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class _Region(NamedTuple):
    """The pixels of a shape: a window of the frame (left, top, right, bottom), the mask in it, and its area."""

    window: tuple[int, int, int, int]
    mask: np.ndarray
    area: int


def _events(
    truth: FddbTruth, detections: Mapping[str, FddbDetections], sizes: Mapping[str, Size], progress: bool
) -> list[list[_Events]]:
    """The events of each picture."""
    bar = tqdm(truth.ellipses.items(), desc="FDDB", unit="picture", disable=not progress)
    return [list(_picture_events(name, ellipses, detections[name], sizes.get(name))) for name, ellipses in bar]


def _roc(
    truth: FddbTruth,
    detections: Mapping[str, FddbDetections],
    sizes: Mapping[str, Size],
    of_pictures: Sequence[Sequence[_Events]],
) -> FddbRoc:
    return FddbRoc(
        *_added_up(
            _joined(list(itertools.chain(*of_pictures))), any(not len(detections[name]) for name in truth.ellipses)
        ),
        faces=truth.faces,
        pictures=len(truth),
        without_size=sum(name not in sizes for name in truth.ellipses),
        hints=tuple(fddb_hints(truth, detections, sizes)),
    )


def _joined(events: Sequence[_Events]) -> _Events:
    return _Events(*(np.concatenate(each) for each in zip(_NOTHING, *events, strict=True)))


def _picture_of(of_pictures: Sequence[Sequence[_Events]]) -> np.ndarray:
    """The index of the picture of each of the joined events, ``(m,)``."""
    counts = [sum(len(each.threshold) for each in events) for events in of_pictures]
    return np.repeat(np.arange(len(of_pictures)), counts)


def _check_names(truth: FddbTruth, chosen: FddbTruth, detections: Mapping[str, FddbDetections]) -> None:
    unknown = [name for name in detections if name not in truth.ellipses]
    if unknown:
        raise ValueError(f"detections of pictures that are not in the annotations: {_some(unknown)}")
    absent = [name for name in chosen.ellipses if name not in detections]
    if absent:
        raise ValueError(
            f"no entry in the detections for pictures of the annotations: {_some(absent)}; a picture in which nothing "
            "was found needs an entry without detections"
        )
    if not chosen.faces:
        raise ValueError(f"the {len(chosen)} pictures have no annotated face, so there is no rate")


def _picture_events(name: str, ellipses: np.ndarray, found: FddbDetections, size: Size | None) -> Iterator[_Events]:
    count = len(found)
    yield _Events(found.scores, np.ones(count, np.int64), np.zeros(count, np.int64), np.zeros(count))
    try:
        iou = _overlaps(ellipses, found, _frame(size))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if iou.size:
        yield from _matched(iou, found.scores)


def _overlaps(ellipses: np.ndarray, found: FddbDetections, frame: Size) -> np.ndarray:
    faces = [_ellipse(each, frame) for each in ellipses]
    unseen = next((at for at, face in enumerate(faces) if not face.area), None)
    if unseen is not None:
        raise ValueError(
            f"the face {ellipses[unseen].tolist()} has no pixel in a frame of {frame[0]}x{frame[1]}: is that the size "
            "of the picture that was annotated?"
        )
    return (_elliptic_overlaps if found.elliptic else _rectangular_overlaps)(faces, found.shapes, frame)


def _frame(size: Size | None) -> Size:
    if size is None:
        return _LONGEST, _LONGEST
    width, height = size
    if not (width >= 1 and height >= 1 and width == int(width) and height == int(height)):
        raise ValueError(f"width and height must be whole and at least 1, got {width} and {height}")
    return int(width), int(height)


def _ellipse(ellipse: np.ndarray, frame: Size) -> _Region:
    """The region of an ellipse (major radius, minor radius, angle, centre), drawn only in its own part of the frame."""
    if np.abs(ellipse).max() > _LARGEST:
        raise ValueError(f"ellipse {ellipse.tolist()}: values must be within +-{_LARGEST}")
    axes = int(ellipse[0]), int(ellipse[1])
    x, y = np.rint(ellipse[3:]).astype(int).tolist()
    reach = max(axes) + _MARGIN
    left, right = (min(max(at, 0), frame[0]) for at in (x - reach, x + reach + 1))
    top, bottom = (min(max(at, 0), frame[1]) for at in (y - reach, y + reach + 1))
    mask = np.zeros((bottom - top, right - left), np.uint8)
    if mask.size:
        degrees = 180 - (np.pi - float(ellipse[2])) * 180 / np.pi
        cv2.ellipse(mask, (x - left, y - top), axes, degrees, 0, 360, 1, -1)
    return _Region((left, top, right, bottom), mask, cv2.countNonZero(mask) if mask.size else 0)


def _rectangular_overlaps(faces: Sequence[_Region], shapes: np.ndarray, frame: Size) -> np.ndarray:
    """The overlaps ``(faces, detections)`` with rectangles, from running sums over the mask of each face."""
    corners = np.rint(np.concatenate([shapes[:, :2], shapes[:, :2] + shapes[:, 2:]], axis=1))
    corners[:, 2:] += 1
    corners = corners.clip(0, [*frame, *frame]).astype(np.int64)
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    iou = np.empty((len(faces), len(shapes)))
    for row, face in zip(iou, faces, strict=True):
        left, top, right, bottom = face.window
        inside = corners.clip((left, top, left, top), (right, bottom, right, bottom)) - (left, top, left, top)
        x1, y1, x2, y2 = inside.T
        sums = cv2.integral(face.mask)
        both = sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]
        row[:] = both / (face.area + areas - both)
    return iou


def _elliptic_overlaps(faces: Sequence[_Region], shapes: np.ndarray, frame: Size) -> np.ndarray:
    """The overlaps ``(faces, detections)`` with ellipses."""
    iou = np.zeros((len(faces), len(shapes)))
    for column, shape in enumerate(shapes):
        found = _ellipse(shape, frame)
        for row, face in enumerate(faces):
            both = _common(face, found)
            iou[row, column] = both / (face.area + found.area - both)
    return iou


def _common(one: _Region, other: _Region) -> int:
    left, top = (max(one.window[at], other.window[at]) for at in (0, 1))
    right, bottom = (min(one.window[at], other.window[at]) for at in (2, 3))
    if left >= right or top >= bottom:
        return 0
    parts = [
        each.mask[top - each.window[1] : bottom - each.window[1], left - each.window[0] : right - each.window[0]]
        for each in (one, other)
    ]
    return int(np.count_nonzero(parts[0] & parts[1]))


def _matched(iou: np.ndarray, scores: np.ndarray) -> Iterator[_Events]:
    """The changes of the best matching from score to score.

    Faces are matched together only if detections link them, directly or through other faces.
    """
    touching = iou > 0
    group_of = _groups(touching)
    for group in np.unique(group_of):
        faces = group_of == group
        found = touching[faces].any(axis=0)
        part, sure = iou[np.ix_(faces, found)], scores[found]
        yield from _only_face(part[0], sure) if len(part) == 1 else _several_faces(part, sure)


def _groups(touching: np.ndarray) -> np.ndarray:
    """The group of each face, ``(faces,)``, as the index of the first face in it.

    A detection that overlaps two faces puts them into one group. ``touching`` says which faces and detections overlap,
    ``(faces, detections)``.
    """
    linked = (touching @ touching.T) | np.eye(len(touching), dtype=bool)
    while not np.array_equal(further := linked @ linked, linked):
        linked = further
    return linked.argmax(axis=1)


def _only_face(iou: np.ndarray, scores: np.ndarray) -> Iterator[_Events]:
    """The changes for a single face, which is matched to the best of the detections so far."""
    if len(iou):
        order = np.argsort(-scores, kind="stable")
        best = np.maximum.accumulate(iou[order])
        yield _changes(scores[order], best > _FOUND, best)


def _several_faces(iou: np.ndarray, scores: np.ndarray) -> Iterator[_Events]:
    """The changes for several faces, from an assignment for each distinct score."""
    if not len(scores):
        return
    thresholds = np.unique(scores)[::-1]
    pairs = [_assigned(iou[:, scores >= threshold]) for threshold in thresholds]
    found = np.array([np.count_nonzero(each > _FOUND) for each in pairs])
    yield _changes(thresholds, found, np.array([each.sum() for each in pairs]))


def _assigned(iou: np.ndarray) -> np.ndarray:
    """The overlaps of the pairs of the assignment with the largest sum."""
    if iou.shape[1] == 1:
        return iou.max(axis=0)
    return iou[linear_sum_assignment(iou, maximize=True)]


def _changes(thresholds: np.ndarray, found: np.ndarray, overlap: np.ndarray) -> _Events:
    none = np.zeros(len(thresholds), np.int64)
    return _Events(thresholds, none, _steps(found.astype(np.int64)), _steps(overlap))


def _steps(totals: np.ndarray) -> np.ndarray:
    steps = totals.copy()
    steps[1:] -= totals[:-1]
    return steps


def _added_up(events: _Events, some_without: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The thresholds, true positives, overlaps and false positives of all pictures, by rising threshold."""
    scores, *changes = events
    thresholds, at = np.unique(scores, return_inverse=True)
    totals = []
    for change in changes:
        step = np.zeros(len(thresholds), change.dtype)
        np.add.at(step, at, change)
        totals.append(step[::-1].cumsum()[::-1])
    if some_without:
        thresholds = np.append(thresholds, _NEVER)
        totals = [np.append(total, np.zeros(1, total.dtype)) for total in totals]
    valid, found, overlap = totals
    return thresholds, found, overlap, valid - found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
