"""Scores of masks: against the masks of a reference picture, and for box prompts, with or without annotated masks.

A mask is a bool array ``(H, W)`` or a compressed COCO RLE (``{"size": [H, W], "counts": ...}``); the frame, which is
height and width, is the same for all masks of a picture. The scores are means over all reference masks, or over all
prompts, of all pictures together. A picture with more masks or prompts counts more, and one without any does not count.

**With a reference picture**, its masks and the found masks are matched one to one so that the sum of the IoUs is as
large as possible; masks that do not overlap are not matched. ``mean_iou`` is the mean over the reference masks of the
IoU with their partner, which is 0 for a mask without partner. ``recall50`` and ``recall75`` are the shares of the
reference masks whose IoU is at least 0.5 and 0.75. If nothing is found, each reference mask counts 0. Found masks
without partner cost nothing, so the scores should be shown together with the numbers of masks.

**With box prompts**, ``predicted_iou`` is the model's own estimate of the IoU, ``stability_score`` is
segment-anything's IoU of the mask cut at a higher and at a lower threshold, ``box_agreement`` is the IoU of the prompt
and the tightest box around the mask, and ``iou`` is the IoU of the mask and the annotated mask, if there is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from llie_preproc.errors import needs

from .matches import ImageScores, overlaps

with needs("scores of masks"):
    from pycocotools import mask as coco_masks
    from scipy.optimize import linear_sum_assignment


Rle = Mapping[str, Any]
Masks = Sequence[Rle | np.ndarray] | np.ndarray

MATCH_NAMES = ("mean_iou", "recall50", "recall75")
PROMPT_NAMES = ("predicted_iou", "stability_score", "box_agreement", "iou")
_RECALLS = {"recall50": 0.5, "recall75": 0.75}


class Matches(NamedTuple):
    """Masks that are matched one to one, ``n`` pairs.

    Attributes:
        found: Indices of the found masks, ``(n,)``.
        reference: Indices of their partners, ``(n,)``, rising.
        iou: IoU of the pairs, ``(n,)``, above 0.
    """

    found: np.ndarray
    reference: np.ndarray
    iou: np.ndarray


class ItemScores(ImageScores):
    """Means over items, such as reference masks or prompts, of all pictures together.

    >>> scores = ItemScores({"a": {"iou": np.array([0.5, 0.7])}, "b": {"iou": np.array([0.9])}})
    >>> {name: round(value, 4) for name, value in scores.values().items()}
    {'iou': 0.7}

    Args:
        items: Values ``(n,)`` of the items, by picture and by name of the score; nan for an item that does not count
            for a score. All pictures have the same names.

    Raises:
        ValueError: There is no picture, or a picture has other scores than the first.
    """

    def __init__(self, items: Mapping[Any, Mapping[str, np.ndarray]]) -> None:
        super().__init__(list(items))
        if not items:
            raise ValueError("there are no pictures to score")
        self.names = tuple(items[self.image_ids[0]])
        for image, scores in items.items():
            if tuple(scores) != self.names:
                raise ValueError(f"{image} has the scores {', '.join(scores)}, the first: {', '.join(self.names)}")
        columns = [[np.asarray(scores[name], np.float64) for name in self.names] for scores in items.values()]
        shape = (len(columns), len(self.names))
        self.sums = np.array([[np.nansum(each) for each in row] for row in columns]).reshape(shape)
        self.counts = np.array([[(~np.isnan(each)).sum() for each in row] for row in columns]).reshape(shape)

    def _weighted(self, weights: np.ndarray) -> np.ndarray:
        counts = (weights @ self.counts).T
        return np.where(counts > 0, (weights @ self.sums).T / np.maximum(counts, 1), np.nan)


class MaskScores(ItemScores):
    """``mean_iou``, ``recall50`` and ``recall75`` of the masks of pictures against those of their reference pictures.

    >>> mask = np.zeros((4, 6), bool)
    >>> mask[1:3, 1:4] = True
    >>> MaskScores({"a": [mask]}, {"a": [mask]}).values()
    {'mean_iou': 1.0, 'recall50': 1.0, 'recall75': 1.0}

    Args:
        found: Found masks of each picture by its name.
        reference: Masks of the references of the same pictures, in the same frames.

    Raises:
        ValueError: ``found`` and ``reference`` have different pictures, there is no picture, or two frames differ.
    """

    def __init__(self, found: Mapping[Any, Masks], reference: Mapping[Any, Masks]) -> None:
        if found.keys() != reference.keys():
            raise ValueError(f"masks and references are of different pictures: {len(found)} and {len(reference)}")
        super().__init__({name: match_scores(found[name], reference[name]) for name in found})


def match_scores(found: Masks, reference: Masks) -> dict[str, np.ndarray]:
    """``mean_iou``, ``recall50`` and ``recall75`` of one picture: each has a value for every reference mask, ``(n,)``.

    Raises:
        ValueError: :func:`mask_iou` refuses the masks.
    """
    matched = match_masks(found, reference)
    iou = np.zeros(len(reference))
    iou[matched.reference] = matched.iou
    return {"mean_iou": iou, **{name: (iou >= least).astype(np.float64) for name, least in _RECALLS.items()}}


def match_masks(found: Masks, reference: Masks) -> Matches:
    """Match masks one to one so that the sum of the IoUs is as large as possible.

    Raises:
        ValueError: :func:`mask_iou` refuses the masks.
    """
    table = mask_iou(reference, found)
    # Found masks that overlap no reference are left out, because they could change which of equal sums is chosen.
    near = np.flatnonzero(table.any(axis=0))
    rows, columns = linear_sum_assignment(table[:, near], maximize=True)
    partners = near[columns]
    overlap = table[rows, partners]
    there = overlap > 0
    return Matches(partners[there], rows[there], overlap[there])


def mask_iou(a: Masks, b: Masks) -> np.ndarray:
    """Intersection over union in pixels; 0 where both masks are empty.

    >>> left, whole = np.zeros((4, 6), bool), np.ones((4, 6), bool)
    >>> left[:, :3] = True
    >>> mask_iou([left], [whole, left]).tolist()
    [[0.5, 1.0]]

    Args:
        a: ``A`` masks.
        b: ``B`` masks of the same frame.

    Returns:
        The IoU of each pair, ``(A, B)`` float64 in [0, 1].

    Raises:
        ValueError: The frames differ, or a mask is neither an array ``(H, W)`` nor an RLE.
    """
    first, second = encode_masks(a), encode_masks(b)
    sizes = {tuple(rle["size"]) for rle in (*first, *second)}
    if len(sizes) > 1:
        raise ValueError(f"masks of different frames (height, width): {', '.join(map(str, sorted(sizes)))}")
    if not first or not second:
        return np.zeros((len(first), len(second)))
    return np.asarray(coco_masks.iou(first, second, [0] * len(second)), np.float64)


def encode_masks(masks: Masks) -> list[dict[str, Any]]:
    """Masks as compressed RLEs whose ``counts`` are text, so that JSON can hold them.

    >>> encode_masks([np.array([[False, True, True]])])
    [{'size': [1, 3], 'counts': '12'}]

    Raises:
        ValueError: A mask is neither an array ``(H, W)`` nor an RLE.
    """
    return [_encoded(mask) for mask in masks]


def check_rle(mask: Rle) -> None:
    """Raise ``ValueError`` unless a compressed RLE covers its frame exactly.

    Args:
        mask: RLE of :func:`encode_masks`, from a file that may be damaged.

    >>> check_rle({"size": [1, 3], "counts": "12"})
    >>> check_rle({"size": [1, 2], "counts": "12"})
    Traceback (most recent call last):
    ValueError: the runs of a mask cover 3 pixels, its frame [1, 2] has 2
    """
    size = mask["size"]
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"a mask's frame is {size}, expected height and width")
    runs = _runs(mask["counts"].encode())
    if min(runs, default=0) < 0 or sum(runs) != math.prod(size):
        raise ValueError(f"the runs of a mask cover {sum(runs)} pixels, its frame {size} has {math.prod(size)}")


def _runs(counts: bytes) -> list[int]:
    """The lengths of the runs that COCO's text of an RLE stands for.

    Each character holds five bits of a number; the lowest bits come first. A sixth bit tells whether the number goes on
    in the next character. The highest of the five bits in the last character is the sign. From the fourth number on,
    each number is the difference from the number two places before.
    """
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = character - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError("a mask's counts are no run lengths of COCO")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("a mask's counts end within a number")
    return runs


def decode_masks(masks: Sequence[Rle], size: tuple[int, int]) -> np.ndarray:
    """The masks as ``(N, H, W)`` bool; ``size`` is their ``(H, W)``, which is needed if there is no mask.

    >>> decode_masks([{"size": [1, 3], "counts": "12"}], (1, 3)).tolist()
    [[[False, True, True]]]
    """
    if not masks:
        return np.zeros((0, *size), bool)
    return np.stack([coco_masks.decode(rle) for rle in masks]).astype(bool)


def mask_boxes(masks: Masks) -> np.ndarray:
    """The tightest boxes around masks, ``(N, 4)`` left, top, width, height in pixels, float64.

    A mask of the single pixel in column 3 and row 5 has the box ``[3, 5, 1, 1]``; the box of an empty mask is all
    zeros.
    """
    rles = encode_masks(masks)
    return np.asarray(coco_masks.toBbox(rles), np.float64).reshape(-1, 4) if rles else np.zeros((0, 4))


def box_agreement(masks: Masks, boxes: np.ndarray) -> np.ndarray:
    """IoU of each mask's tightest box with its prompt, ``(N,)``; 0 for an empty mask.

    Args:
        masks: ``N`` masks.
        boxes: Prompts ``(N, 4)``, left, top, width, height, measured at the edges of pixels: a box of the single pixel
            in column 3 and row 5 is ``[3, 5, 1, 1]``. The part of a box beyond the picture counts too.

    Raises:
        ValueError: There are not as many boxes as masks.
    """
    tight = mask_boxes(masks)
    given = np.asarray(boxes, np.float64)
    if given.shape != tight.shape:
        raise ValueError(f"boxes of shape {given.shape} for {len(tight)} masks, expected {tight.shape}")
    return np.diag(overlaps(tight, given, np.zeros(len(given), bool))).copy()


def stability_scores(logits: np.ndarray, threshold: float = 0.0, offset: float = 1.0) -> np.ndarray:
    """IoU of masks cut at ``threshold + offset`` and at ``threshold - offset``.

    This is segment-anything's ``calculate_stability_score``, except for a mask with nothing above the lower threshold:
    its score is 0 here, where that function divides 0 by 0.

    >>> stability_scores(np.array([[[-2.0, 0.5, 3.0]]])).tolist()
    [0.5]

    Args:
        logits: Logits of the masks, ``(N, H, W)``.
        threshold: Logit at which masks are cut, SAM's ``mask_threshold``.
        offset: Distance of the two cuts from the threshold, not negative.

    Returns:
        The scores, ``(N,)`` float64 in [0, 1].
    """
    inner = (logits > threshold + offset).sum(axis=(-2, -1))
    outer = (logits > threshold - offset).sum(axis=(-2, -1))
    return np.divide(inner, outer, out=np.zeros(len(logits)), where=outer > 0)


def prompt_scores(
    masks: Masks,
    boxes: np.ndarray,
    predicted_iou: np.ndarray,
    stability_score: np.ndarray,
    truth: Sequence[Rle | np.ndarray | None] | None = None,
) -> dict[str, np.ndarray]:
    """The scores of box prompts; each has a value for every prompt, ``(n,)``.

    Args:
        masks: ``n`` masks, one for each prompt.
        boxes: Prompts ``(n, 4)``, as in :func:`box_agreement`.
        predicted_iou: Estimates of the model, ``(n,)``.
        stability_score: Scores of :func:`stability_scores`, ``(n,)``.
        truth: Annotated masks, with None for a prompt without one. If the whole argument is None, there is no score
            ``iou``.

    Raises:
        ValueError: An argument does not have one entry for each mask, or the frames differ.
    """
    others = dict(predicted_iou=predicted_iou, stability_score=stability_score, truth=truth)
    for name, each in others.items():
        if each is not None and len(each) != len(masks):
            raise ValueError(f"{len(each)} {name} for {len(masks)} masks")
    scores = dict(
        predicted_iou=np.asarray(predicted_iou, np.float64),
        stability_score=np.asarray(stability_score, np.float64),
        box_agreement=box_agreement(masks, boxes),
    )
    if truth is None:
        return scores
    iou = [
        np.nan if there is None else mask_iou([mask], [there])[0, 0] for mask, there in zip(masks, truth, strict=True)
    ]
    return scores | {"iou": np.array(iou)}


def _encoded(mask: Rle | np.ndarray) -> dict[str, Any]:
    if isinstance(mask, Mapping):
        if not {"size", "counts"} <= mask.keys() or not isinstance(mask["counts"], (str, bytes)):
            raise ValueError(f"a mask with the fields {', '.join(map(str, mask))}, expected a compressed COCO RLE")
        rle = dict(mask)
    else:
        pixels = np.asarray(mask)
        if pixels.ndim != 2 or pixels.dtype != bool:
            raise ValueError(f"a mask is {pixels.dtype} of shape {pixels.shape}, expected bool (H, W) or a COCO RLE")
        rle = coco_masks.encode(np.asfortranarray(pixels, np.uint8))
    counts = rle["counts"]
    return {"size": [int(n) for n in rle["size"]], "counts": counts if isinstance(counts, str) else counts.decode()}
