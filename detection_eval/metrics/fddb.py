"""FDDB's discrete and continuous ROC, pixel for pixel as its own program has them.

1. Faces and detections are filled on masks of the picture's size: what leaves the frame does not count. Corners of
   rectangles are rounded (halves to even) and both included; centres of ellipses are rounded, radii truncated, the
   angle is in whole degrees, and OpenCV fills.
2. Overlap is intersection over union in pixels.
3. For each distinct score of a picture, the detections of that score or more are matched one to one with the faces, so
   that the sum of the overlaps is the largest there is; pairs that do not overlap are no pairs.
4. A pair with an overlap above 0.5 is a true positive of the discrete score, and adds 1; each pair adds its overlap to
   the continuous one. Detections that are no such true positive are the false positives of both.
5. The pictures are added up at each score of any of them; rates are per annotated face.

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

# MMDetection needs it too.
with needs("FDDB's matching"):
    from scipy.optimize import linear_sum_assignment


__all__ = ["KINDS", "FddbRoc", "FddbScores", "fddb_roc", "from_faces", "mean_curve", "mean_rate_at", "ten_fold"]

KINDS = ("discrete", "continuous")
_FOUND = 0.5
# No FDDB picture has a longer side.
_LONGEST = 450
# The program's threshold where a picture has no detection: the largest double.
_NEVER = np.finfo(np.float64).max
# OpenCV's filled ellipses are a little larger than the ellipse.
_MARGIN = 3
# OpenCV draws with 16 fractional bits in 64: far from overflowing up to here.
_LARGEST = 1 << 20
_SHOWN = 3


@dataclass(frozen=True)
class FddbRoc:
    """Both curves: a point for each distinct score, by rising threshold.

    Where a picture has no detection, the last point is the program's: nothing is found, at the largest double.

    Attributes:
        thresholds: ``(k,)`` scores; a point counts the detections of this score or more.
        true_positives: ``(k,)`` faces found with an overlap above 0.5, int64.
        overlap: ``(k,)`` sums of the overlaps of all matched pairs.
        false_positives: ``(k,)`` detections that are no true positives, int64.
        faces: How many are annotated.
        pictures: How many there are.
        without_size: How many of them were clipped at 450 pixels both ways because their size was not given.
        hints: What looks wrong with the annotations or the detections, in sentences for people to read.
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
        """``(k,)`` true positive rates, a face counting 1 where its overlap is above 0.5."""
        return self.true_positives / self.faces

    @property
    def continuous(self) -> np.ndarray:
        """``(k,)`` true positive rates, a face counting its overlap."""
        return self.overlap / self.faces

    @property
    def clipped_to(self) -> str:
        """``'frames'``, ``'450'``, or ``'frames and 450'``: what cut the faces and detections off."""
        if self.without_size in (0, self.pictures):
            return "450" if self.without_size else "frames"
        return "frames and 450"

    @property
    def caution(self) -> str:
        """How far the numbers may be off for want of sizes, for people to read; empty where all were known.

        The figures are of MTCNN's published boxes, of which 1 in 100 leaves its frame, on all of FDDB.
        """
        if not self.without_size:
            return ""
        return (
            f"{self.without_size} of {self.pictures} pictures have no known size and were clipped at "
            f"{_LONGEST}x{_LONGEST}: where none of FDDB's was known, a published detector's discrete rates were off by "
            "at most 0.0005, its continuous rates by 0.001, and its false positives by 3; boxes that leave the frame "
            "more often are further off"
        )

    def rate_at(self, false_positives: int, kind: str = "discrete") -> float:
        """The largest true positive rate with at most so many false positives; 0 where no point has so few.

        Raises:
            ValueError: An unknown kind, a negative number.
        """
        return float(self.rates_at([false_positives], kind)[0])

    def rates_at(self, false_positives: Sequence[int] | np.ndarray, kind: str = "discrete") -> np.ndarray:
        """:meth:`rate_at` of ``(m,)`` numbers of false positives."""
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        at = np.asarray(false_positives)
        if (at < 0).any():
            raise ValueError(f"false_positives must not be negative, got {at.min()}")
        # Fewer detections can find more: the overlaps' sum is what the matching is after.
        order = np.argsort(self.false_positives, kind="stable")
        rates = self.discrete if kind == "discrete" else self.continuous
        best = np.append(0.0, np.maximum.accumulate(rates[order]))
        return best[np.searchsorted(self.false_positives[order], at, side="right")]

    def write(self, discrete: str | os.PathLike[str], continuous: str | os.PathLike[str]) -> None:
        """Write the program's two files, both or none: ``rate false_positives threshold``, ``rate false_positives``.

        Raises:
            OSError: One cannot be written; the message names it.
        """
        write_texts(self.texts(discrete, continuous))

    def texts(self, discrete: str | os.PathLike[str], continuous: str | os.PathLike[str]) -> dict[Path, str]:
        """What :meth:`write` writes, by path."""
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
    """Both ROC curves over all pictures, or over those of some folds.

    Args:
        truth: The annotated faces.
        detections: Of every picture that is evaluated, by name; a picture without any has an empty entry. Those of
            other folds are passed over.
        sizes: ``(width, height)`` by name; a picture that is not there is clipped at 450x450, which ``caution`` tells.
        folds: Those to evaluate, of the truth's; by default all.
        progress: Show a bar.

    Raises:
        ValueError: A picture has no entry, an entry no picture; no face is annotated; a size is below 1; a face has no
            pixel in its frame, so the sizes are of other pictures; a detection is larger than can be drawn.
    """
    chosen = truth if folds is None else truth.only(folds)
    _check_names(truth, chosen, detections)
    return _roc(chosen, detections, sizes or {}, _events(chosen, detections, sizes or {}, progress))


class FddbScores(ImageScores):
    """True positive rates at given numbers of false positives, for any weighting of the pictures.

    Attributes:
        roc: Of each picture once.

    Args:
        truth, detections, sizes: See :func:`fddb_roc`.
        points: By the score's name the kind, and the number of false positives: :meth:`FddbRoc.rate_at`.

    Raises:
        ValueError: See :func:`fddb_roc` and :meth:`FddbRoc.rate_at`.
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
        # A point stands after all events of its score.
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
    """The curves of each fold alone, by rising fold: the benchmark's ten-fold experiment; see :func:`fddb_roc`."""
    chosen = sorted(set(truth.folds.values()) if folds is None else set(folds))
    return [fddb_roc(truth, detections, sizes, [fold]) for fold in chosen]


def mean_rate_at(rocs: Sequence[FddbRoc], false_positives: int, kind: str = "discrete") -> float:
    """The mean of the folds' rates, each with at most so many false positives of its own.

    Raises:
        ValueError: No curve; see :meth:`FddbRoc.rate_at`.
    """
    return float(mean_curve(rocs, kind, [false_positives])[1][0])


def mean_curve(
    rocs: Sequence[FddbRoc], kind: str = "discrete", false_positives: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The average of the folds' curves over equal numbers of false positives in each fold.

    Args:
        rocs: Of the folds.
        kind: One of :data:`KINDS`.
        false_positives: Where to average; by default at each number that any of the curves has.

    Returns:
        ``(m,)`` numbers of false positives a fold, rising by default, and ``(m,)`` mean rates.

    Raises:
        ValueError: No curve; see :meth:`FddbRoc.rate_at`.
    """
    if not rocs:
        raise ValueError("no curves to average")
    at = (
        np.unique(np.concatenate([roc.false_positives for roc in rocs])) if false_positives is None else false_positives
    )
    return np.asarray(at), np.mean([roc.rates_at(at, kind) for roc in rocs], axis=0)


class _Events(NamedTuple):
    """What changes where the threshold falls to each of ``(m,)`` scores; at one score they add up."""

    threshold: np.ndarray
    valid: np.ndarray
    found: np.ndarray
    overlap: np.ndarray


_NOTHING = _Events(np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


class _Region(NamedTuple):
    """The pixels of a shape: a window of the frame, left, top, right, bottom, and the mask in it."""

    window: tuple[int, int, int, int]
    mask: np.ndarray
    area: int


def _events(
    truth: FddbTruth, detections: Mapping[str, FddbDetections], sizes: Mapping[str, Size], progress: bool
) -> list[list[_Events]]:
    """Of each picture."""
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
    """``(m,)`` the picture of each of the joined events."""
    counts = [sum(len(each.threshold) for each in events) for events in of_pictures]
    return np.repeat(np.arange(len(of_pictures)), counts)


def _check_names(truth: FddbTruth, chosen: FddbTruth, detections: Mapping[str, FddbDetections]) -> None:
    unknown = [name for name in detections if name not in truth.ellipses]
    if unknown:
        raise ValueError(f"detections of pictures that are not in the annotations: {_some(unknown)}")
    absent = [name for name in chosen.ellipses if name not in detections]
    if absent:
        raise ValueError(
            f"no entry in the detections for pictures of the annotations: {_some(absent)}; one where nothing was found "
            "has an entry without detections"
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
    """The region of major radius, minor radius, angle, centre, drawn in its own part of the frame alone."""
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
    """``(faces, detections)`` overlaps with left, top, width, height, from running sums over each face's mask."""
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
    """``(faces, detections)`` overlaps with ellipses."""
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
    """How the best matching changes from score to score; what does not overlap, even by way of others, is apart."""
    touching = iou > 0
    group_of = _groups(touching)
    for group in np.unique(group_of):
        faces = group_of == group
        found = touching[faces].any(axis=0)
        part, sure = iou[np.ix_(faces, found)], scores[found]
        yield from _only_face(part[0], sure) if len(part) == 1 else _several_faces(part, sure)


def _groups(touching: np.ndarray) -> np.ndarray:
    """``(faces,)`` the first face of those that detections link, by ``(faces, detections)`` whether they overlap."""
    linked = (touching @ touching.T) | np.eye(len(touching), dtype=bool)
    while not np.array_equal(further := linked @ linked, linked):
        linked = further
    return linked.argmax(axis=1)


def _only_face(iou: np.ndarray, scores: np.ndarray) -> Iterator[_Events]:
    """The best of the detections so far is the one face's."""
    if len(iou):
        order = np.argsort(-scores, kind="stable")
        best = np.maximum.accumulate(iou[order])
        yield _changes(scores[order], best > _FOUND, best)


def _several_faces(iou: np.ndarray, scores: np.ndarray) -> Iterator[_Events]:
    """An assignment for each distinct score."""
    if not len(scores):
        return
    thresholds = np.unique(scores)[::-1]
    pairs = [_assigned(iou[:, scores >= threshold]) for threshold in thresholds]
    found = np.array([np.count_nonzero(each > _FOUND) for each in pairs])
    yield _changes(thresholds, found, np.array([each.sum() for each in pairs]))


def _assigned(iou: np.ndarray) -> np.ndarray:
    """The overlaps of the pairs whose sum is the largest."""
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
    """Thresholds, true positives, overlaps and false positives of all pictures, by rising threshold."""
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
