"""The average precision of DARK FACE's tool and of WIDER FACE's tool, which differs from COCO's.

Both tools count pixels: a box from x1 to x2 is ``x2 - x1 + 1`` wide. Scores are scaled to [0, 1] by the least and the
largest score of the whole set, and precision and recall are taken at 1,000 fixed scores from 0.999 down to 0. A
detection belongs to the face that it overlaps most. If another detection has that face already, the detection is false;
it is not matched to another face. A picture without faces is left out, with all that was found in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from llie_preproc.errors import needs
from llie_preproc.faces import Faces

from .matches import ImageScores

# The extra with MMDetection also installs SciPy.
with needs("the AP of DARK FACE and WIDER FACE"):
    from scipy.sparse import csr_array


MIN_IOU = 0.5
"""Least overlap that is a match."""

THRESHOLDS = 1 - np.arange(1, 1001) / 1000
"""Normalised scores at which precision and recall are taken, ``(1000,)``, falling."""

# No more than this number of overlaps is held in memory at once.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class FacePR:
    """Precision and recall at the 1,000 scores, and the area under their curve.

    Attributes:
        ap: Area under the curve, in [0, 1]; nan if there is no face to find.
        precision: Precision at :data:`THRESHOLDS`, ``(1000,)``; nan where no detection counts.
        recall: Recall at :data:`THRESHOLDS`, ``(1000,)``; nan if there is no face to find.
        faces: Number of faces to find.
        found: Number of faces that are found at the least score.
        proposals: Number of detections that count at the least score.
    """

    ap: float
    precision: np.ndarray = field(repr=False)
    recall: np.ndarray = field(repr=False)
    faces: int
    found: int
    proposals: int


class FaceScores(ImageScores):
    """``AP`` of either tool for any weighting of the pictures.

    :func:`darkface_scores` and :func:`wider_scores` build it. Scores are scaled to [0, 1] once, by the range over all
    pictures, whatever their weights.

    Args:
        truth: Faces of every picture by its name, ``(n, 4)`` x1 y1 x2 y2, both corners included.
        found: Detections by the same names; a picture that is missing has none.
        wanted: Whether each face is to be found, ``(n,)`` bool, by the same names.

    Raises:
        ValueError: The arguments have an error for which :func:`darkface_ap` refuses them.
    """

    names = ("AP",)

    def __init__(
        self, truth: Mapping[str, np.ndarray], found: Mapping[str, Faces], wanted: Mapping[str, np.ndarray]
    ) -> None:
        super().__init__(list(truth))
        if strangers := sorted(set(found) - set(truth)):
            raise ValueError(f"detections of {strangers[0]}, which is not among the {len(truth)} annotated pictures")
        scores = _normalised({name: _scores(faces, name) for name, faces in found.items()})
        proposals: dict[int, np.ndarray] = {}
        hits: dict[int, np.ndarray] = {}
        for number, (name, boxes) in enumerate(truth.items()):
            if name in found and len(boxes) and len(found[name]):
                proposals[number], hits[number] = _matched(
                    _boxes(boxes, name), wanted[name], _boxes(found[name].boxes, name), scores[name]
                )
        self._proposals, self._hits = self._reached(proposals), self._reached(hits)
        self._faces = np.array([int(wanted[name].sum()) for name in truth], dtype=np.int64)

    def curve(self) -> FacePR:
        """Precision and recall with each picture counted once."""
        counted, found, faces, precision, recall = self._curves(np.ones((1, len(self.image_ids)), dtype=np.int64))
        area = float(_areas(precision, recall)[0])
        return FacePR(area, precision[0], recall[0], int(faces[0]), int(found[0, -1]), int(counted[0, -1]))

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        *_, precision, recall = self._curves(weights)
        return _areas(precision, recall)[None]

    def _curves(self, weights: np.ndarray) -> tuple[np.ndarray, ...]:
        """Proposals and found faces, ``(B, 1000)``, faces to find, ``(B,)``, precision and recall, ``(B, 1000)``."""
        counted, found = ((each @ weights.T).cumsum(axis=0).T for each in (self._proposals, self._hits))
        faces = weights @ self._faces
        with np.errstate(invalid="ignore", divide="ignore"):
            return counted, found, faces, found / counted, found / faces[:, None]

    def _reached(self, scores: Mapping[int, np.ndarray]) -> csr_array:
        """How many scores of each picture reach each threshold, but no higher one, ``(1000, pictures)``."""
        pictures = np.repeat(np.array(list(scores), dtype=np.int64), [len(each) for each in scores.values()])
        first = _first_reached(np.concatenate([np.zeros(0), *scores.values()]))
        shape = (len(THRESHOLDS), len(self.image_ids))
        return csr_array((np.ones(len(first), dtype=np.int64), (first, pictures)), shape=shape)


def darkface_ap(truth: Mapping[str, np.ndarray], found: Mapping[str, Faces]) -> FacePR:
    """AP of DARK FACE's tool.

    >>> boxes = np.array([[10.0, 20, 49, 69]])
    >>> result = darkface_ap({"1": boxes}, {"1": Faces(boxes.astype(np.float32), np.array([0.9], np.float32))})
    >>> result.ap, result.found
    (1.0, 1)

    Args:
        truth: Faces of every picture by its name, ``(n, 4)`` x1 y1 x2 y2 in pixels, both corners included.
        found: Detections by the same names, with the same corners; a picture that is missing has none.

    Raises:
        ValueError: There are detections of a picture that is not in ``truth``, boxes are not ``(n, 4)``, or a number is
            not finite; the message names the picture.
    """
    return darkface_scores(truth, found).curve()


def darkface_scores(truth: Mapping[str, np.ndarray], found: Mapping[str, Faces]) -> FaceScores:
    """The scores of :func:`darkface_ap` for any weighting of the pictures; the arguments are the same."""
    return FaceScores(truth, found, _masks(truth, None))


def wider_ap(
    truth: Mapping[str, np.ndarray], found: Mapping[str, Faces], kept: Mapping[str, np.ndarray] | None = None
) -> FacePR:
    """AP of WIDER FACE's tool for one difficulty.

    A detection whose best face does not belong to that difficulty counts neither as right nor as false.

    >>> faces = Faces(np.array([[10.0, 20, 50, 70]], np.float32), np.array([0.9], np.float32))
    >>> wider_ap({"0--Parade/1": np.array([[10.0, 20, 40, 50]])}, {"0--Parade/1": faces}).ap
    1.0

    Args:
        truth: All faces of every picture by its name, ``(n, 4)`` left, top, width, height as the annotations have them.
            In the tool, the last column of a face is ``left + width``.
        found: Detections by the same names, x1 y1 x2 y2; a picture that is missing has none.
        kept: Indices, from 0, of the faces of that difficulty, by the same names
            (:func:`detection_eval.datasets.wider_difficulty.read_difficulty`). None takes all faces.

    Raises:
        ValueError: The faces have an error for which :func:`darkface_ap` refuses them, ``kept`` lacks a picture, or an
            index belongs to no face.
    """
    return wider_scores(truth, found, kept).curve()


def wider_scores(
    truth: Mapping[str, np.ndarray], found: Mapping[str, Faces], kept: Mapping[str, np.ndarray] | None = None
) -> FaceScores:
    """The scores of :func:`wider_ap` for any weighting of the pictures; the arguments are the same."""
    corners = {}
    for name, boxes in truth.items():
        xywh = _boxes(boxes, name)
        corners[name] = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    return FaceScores(corners, found, _masks(corners, kept))


def area_under(precision: np.ndarray, recall: np.ndarray) -> float:
    """PASCAL VOC's area under a curve: each precision is replaced by the largest one at its recall or a higher one.

    >>> area_under(np.array([1.0, 0.5]), np.array([0.5, 1.0]))
    0.75

    Args:
        precision: Precision, ``(k,)``; undefined values are nan, and are left out.
        recall: Recall, ``(k,)``, which never falls.

    Returns:
        The area, in [0, 1]; nan if a recall is nan.
    """
    return float(_areas(np.asarray(precision)[None], np.asarray(recall)[None])[0])


def _areas(precision: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """The areas ``(B,)`` of :func:`area_under` for curves ``(B, k)``."""
    ends = np.zeros((len(recall), 1))
    steps = np.diff(np.concatenate([ends, recall, ends + 1], axis=1), axis=1)
    envelope = np.fmax.accumulate(np.concatenate([precision, ends], axis=1)[:, ::-1], axis=1)[:, ::-1]
    return (steps * envelope).sum(axis=1)


def _matched(
    faces: np.ndarray, wanted: np.ndarray, boxes: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The scores of the detections that count, and of the found faces; a face has the score of its best detection."""
    best, overlap = _best_faces(faces, boxes)
    matches = overlap >= MIN_IOU
    counts = ~(matches & ~wanted[best])
    of_faces = np.full(len(faces), -1.0)
    np.maximum.at(of_faces, best[matches], scores[matches])
    return scores[counts], of_faces[wanted & (of_faces >= 0)]


def _best_faces(faces: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The face that each of ``m`` boxes overlaps most (the first of equal ones), ``(m,)``, and the IoU with it."""
    best, overlap = [], []
    for part in np.array_split(boxes, max(1, -(-len(boxes) * len(faces) // _CHUNK))):
        iou = _inclusive_iou(part, faces)
        best.append(iou.argmax(axis=1))
        overlap.append(iou.max(axis=1))
    return np.concatenate(best), np.concatenate(overlap)


def _inclusive_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The IoU ``(m, n)`` of boxes ``(m, 4)`` and ``(n, 4)`` x1 y1 x2 y2 whose corners are pixels of the box."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2]) + 1
    inter = sides.clip(0).prod(axis=2)
    area_a, area_b = ((box[:, 2:] - box[:, :2] + 1).prod(axis=1) for box in (a, b))
    union = area_a[:, None] + area_b[None, :] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=inter > 0)


def _first_reached(scores: np.ndarray) -> np.ndarray:
    """The index of the first of the falling thresholds that each score reaches, ``(n,)``."""
    return len(THRESHOLDS) - np.searchsorted(THRESHOLDS[::-1], scores, side="right")


def _normalised(scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    everything = np.concatenate([np.zeros(0), *scores.values()])
    if not everything.size:
        return dict(scores)
    low, high = everything.min(), everything.max()
    if low == high:
        return {name: np.ones(len(each)) for name, each in scores.items()}
    return {name: (each - low) / (high - low) for name, each in scores.items()}


def _masks(truth: Mapping[str, np.ndarray], kept: Mapping[str, np.ndarray] | None) -> dict[str, np.ndarray]:
    return {name: _mask(name, len(boxes), kept) for name, boxes in truth.items()}


def _mask(name: str, count: int, kept: Mapping[str, np.ndarray] | None) -> np.ndarray:
    if kept is None:
        return np.ones(count, dtype=bool)
    if name not in kept:
        raise ValueError(f"{name}: the list of kept faces has no such picture")
    indices = np.asarray(kept[name], dtype=np.int64)
    if indices.size and (indices.min() < 0 or indices.max() >= count):
        raise ValueError(f"{name}: kept faces are {_span(indices)}, but it has {count} faces, counted from 0")
    mask = np.zeros(count, dtype=bool)
    mask[indices] = True
    return mask


def _span(indices: np.ndarray) -> str:
    return f"{indices.min()} to {indices.max()}"


def _boxes(boxes: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name}: boxes must be (n, 4), got {array.shape}")
    _require_finite(array, name, "boxes")
    return array


def _scores(faces: Faces, name: str) -> np.ndarray:
    scores = faces.scores.astype(np.float64)
    _require_finite(scores, name, "scores")
    return scores


def _require_finite(values: np.ndarray, name: str, what: str) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: {what} must be finite, got {values[~np.isfinite(values)][0]}")
