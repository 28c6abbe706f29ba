"""Detections of faces for one enhancer and one gamma. They are made once and kept in a file."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from llie_preproc.array_files import read_archive
from llie_preproc.faces import FaceDetector, Faces
from llie_preproc.files import atomic_write
from llie_preproc.gamma_shift import shift_gamma
from llie_preproc.pictures import read_rgb8

from ..shared.resume import read_kept, reason, require_same

# Largest number of pixels in a batch for the detector, and seconds of work that an interruption may cost.
_MAX_PIXELS = 1 << 23
_SAVE_EVERY = 60.0
# Kind of dtype and number of dimensions of each array in a file of detections.
_FIELDS = dict(made_with=("U", 0), names=("U", 1), digests=("U", 1), counts=("i", 1), boxes=("f", 2), scores=("f", 1))


@dataclass
class Kept:
    """Detections of one enhancer at one gamma, with their file.

    The file is an ``.npz`` with ``made_with`` (JSON), ``names``, ``digests`` (SHA-256 of the picture files),
    ``counts``, ``boxes`` ``(N, 4)`` x1 y1 x2 y2 and ``scores`` ``(N,)`` float32; the boxes of all pictures follow each
    other.

    Args:
        path: File of the detections, which need not exist yet.
        made_with: Everything that the detections depend on, besides the pictures.

    Raises:
        ValueError: The file was made with other settings, or is damaged.
    """

    path: Path
    made_with: Mapping[str, Any]
    faces: dict[str, Faces] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kept = read_kept(self.path, _read)
        if kept is not None:
            made_with, self.faces, self.digests = kept
            require_same(self.path, made_with, self.made_with)

    def lacking(self, digests: Mapping[str, str]) -> list[str]:
        """List the pictures that have no detections yet, or have changed since.

        Args:
            digests: SHA-256 of each picture file, by name.
        """
        return [name for name, digest in digests.items() if self.digests.get(name) != digest]

    def save(self) -> None:
        """Write the file, atomically."""
        names = list(self.faces)
        with atomic_write(self.path) as file:
            np.savez_compressed(
                file,
                made_with=np.array(json.dumps(self.made_with, sort_keys=True)),
                names=np.array(names, dtype=np.str_),
                digests=np.array([self.digests[name] for name in names], dtype=np.str_),
                counts=np.array([len(self.faces[name]) for name in names], dtype=np.int64),
                boxes=np.concatenate([np.zeros((0, 4), np.float32), *(self.faces[name].boxes for name in names)]),
                scores=np.concatenate([np.zeros(0, np.float32), *(self.faces[name].scores for name in names)]),
            )


def _read(path: Path) -> tuple[Any, dict[str, Faces], dict[str, str]]:
    """Read the settings of a file, and its faces and digests by the picture's name."""
    content = read_archive(path, _FIELDS)
    names, counts, boxes, scores = (content[key] for key in ("names", "counts", "boxes", "scores"))
    if boxes.shape[1] != 4 or len(scores) != len(boxes) or not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(
            f"boxes have the shape {boxes.shape} and {len(scores)} scores, expected (N, 4) and N finite numbers"
        )
    # NumPy's sum of 64 bits would overflow with the large counts of a damaged file, so Python adds them.
    if (counts < 0).any() or sum(counts.tolist()) != len(boxes):
        raise ValueError(f"the numbers of faces of {len(counts)} pictures do not add up to {len(boxes)} boxes")
    starts = np.cumsum(counts) - counts
    faces = {
        name: Faces(boxes[start : start + count], scores[start : start + count])
        for name, start, count in zip(names.tolist(), starts.tolist(), counts.tolist(), strict=True)
    }
    digests = dict(zip(names.tolist(), content["digests"].tolist(), strict=True))
    return json.loads(str(content["made_with"])), faces, digests


def detect(
    kept: Kept,
    files: Mapping[str, Path],
    digests: Mapping[str, str],
    detector: FaceDetector,
    gamma: float,
    convention: str,
    batch_size: int,
    title: str,
) -> dict[str, str]:
    """Detect the faces of the pictures that ``kept`` lacks. They are saved about every minute and at the end.

    Args:
        kept: Kept detections, to which the others are added.
        files: Picture files by name.
        digests: SHA-256 by name of the files that are processed.
        detector: Detector, which gets each shifted picture as 8-bit RGB.
        gamma, convention: Arguments of :func:`llie_preproc.gamma_shift.shift_gamma`.
        batch_size: Largest number of pictures that the detector gets at once.
        title: Title of the progress bar.

    Returns:
        Reason for each picture that failed, by name.
    """
    lacking = kept.lacking(digests)
    failed: dict[str, str] = {}
    if not lacking:
        return failed
    saved = time.monotonic()
    bar = tqdm(total=len(digests), initial=len(digests) - len(lacking), desc=title, unit="picture")
    try:
        for batch in _batches(lacking, files, gamma, convention, batch_size, failed):
            for name, faces in _detect_batch(batch, files, detector, failed):
                kept.faces[name], kept.digests[name] = faces, digests[name]
            bar.update(len(batch))
            if time.monotonic() - saved > _SAVE_EVERY:
                kept.save()
                saved = time.monotonic()
    finally:
        bar.close()
        if kept.faces:
            kept.save()
    return failed


def _batches(
    names: Sequence[str],
    files: Mapping[str, Path],
    gamma: float,
    convention: str,
    batch_size: int,
    failed: dict[str, str],
) -> Iterator[dict[str, np.ndarray]]:
    """Yield the shifted pictures in batches that ``batch_size`` and the limit of pixels allow."""
    batch: dict[str, np.ndarray] = {}
    pixels = 0
    for name in names:
        try:
            image = shifted_picture(files[name], gamma, convention)
        except (OSError, ValueError) as error:
            failed[name] = reason(files[name], error)
            continue
        size = image.shape[0] * image.shape[1]
        if batch and (len(batch) == batch_size or pixels + size > _MAX_PIXELS):
            yield batch
            batch, pixels = {}, 0
        batch[name] = image
        pixels += size
    if batch:
        yield batch


def shifted_picture(path: Path, gamma: float, convention: str) -> np.ndarray:
    """Read a picture file as 8-bit RGB ``(H, W, 3)``, and shift its levels.

    Raises:
        OSError, ImageError: The file cannot be read.
    """
    return shift_gamma(read_rgb8(path), gamma, convention)


def _detect_batch(
    batch: Mapping[str, np.ndarray], files: Mapping[str, Path], detector: FaceDetector, failed: dict[str, str]
) -> list[tuple[str, Faces]]:
    """Detect the faces of a batch; if that fails, of each picture alone, so that only the bad one is lost."""
    try:
        return list(zip(batch, detector.detect(list(batch.values())), strict=True))
    # Networks raise these for pictures that are too small, or too large for them or for the memory.
    except (ValueError, RuntimeError) as error:
        if len(batch) > 1:
            return [pair for n, image in batch.items() for pair in _detect_batch({n: image}, files, detector, failed)]
        (name,) = batch
        failed[name] = reason(files[name], error)
        return []
