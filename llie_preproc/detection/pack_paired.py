"""Packing the inputs of a detector together with pictures of the same scenes in normal light."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmdet.datasets.transforms import PackDetInputs
from mmengine.structures import PixelData

from ..pictures import picture_files, read_rgb8
from ..registry import TRANSFORMS

# MMDetection records matrices in float32. In pictures of thousands of pixels, this leaves errors of up to this many
# pixels.
_TOLERANCE = 0.02
# If so many crops in a row begin at the picture's corner, they were not random crops.
_CORNERS = 5


@TRANSFORMS.register_module()
class PackPairedDetInputs(PackDetInputs):
    """MMDetection's ``PackDetInputs``, extended to add the pair of the input: the same scene in normal light.

    The pipeline's transforms are applied to the pair too, so that it matches the input pixel by pixel. MMDetection
    records these transforms in ``homography_matrix``: resizes (bilinear, as by default in MMCV), flips, crops, and the
    geometric transforms of AutoAugment. Padding is followed too. The result is ``gt_normal_light`` of the data sample:
    a ``PixelData`` with ``data``, ``(3, scale*H, scale*W)`` uint8 RGB. If the input reaches beyond the pair, ``valid``,
    ``(1, scale*H, scale*W)`` bool, marks the pixels that come from the pair.

    Transforms that move pixels without recording it cannot be followed: ``Mosaic``, ``MixUp``, ``RandomAffine``,
    ``Expand``, ``MinIoURandomCrop``, ``RandomShift`` and DSFD's ``DataAnchorSampling``. An input is refused if its size
    shows such a transform.

    Args:
        folder: Folder of the pictures in normal light. Each has the name of its input, with any suffix. Subfolders are
            not searched.
        scale: Scale of the enhancer. A pair is this many times as large as its stored input.
        missing: Treatment of an input without a pair: ``'skip'`` packs it alone, ``'error'`` refuses it.
        **kwargs: Arguments of ``PackDetInputs``.

    Raises:
        FileNotFoundError: The folder does not exist or has no picture; or, while packing with ``missing='error'``,
            there is no pair.
        ValueError: ``scale`` is below 1, ``missing`` is unknown, or two pictures have the same name. While packing:
            two inputs have the same name, a pair has another size, or the recorded transforms do not explain the size
            of an input.
        ImageError: A pair cannot be read.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> cv2.imwrite(str(folder / "a.png"), np.full((4, 6, 3), 200, np.uint8))
        True
        >>> pack = PackPairedDetInputs(folder, meta_keys=())
        >>> results = dict(img=np.zeros((4, 6, 3), np.uint8), img_path="night/a.jpg", ori_shape=(4, 6))
        >>> pack(results)["data_samples"].gt_normal_light.data.shape
        torch.Size([3, 4, 6])
    """

    def __init__(self, folder: str | os.PathLike[str], scale: int = 1, missing: str = "skip", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if scale < 1:
            raise ValueError(f"scale must be at least 1, got {scale}")
        if missing not in ("skip", "error"):
            raise ValueError(f"missing must be 'skip' or 'error', got {missing!r}")
        self.folder, self.scale, self.missing = Path(folder).expanduser(), scale, missing
        self.pairs = _by_stem(self.folder)
        # Path of the input of each pair that was used.
        self._inputs: dict[Path, str] = {}
        # Number of crops at the corner; minus infinity once there was a crop elsewhere.
        self._cornered: float = 0

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Pack the input and its pair."""
        name = results["img_path"]
        path = self.pairs.get(Path(name).stem)
        if path is None and self.missing == "error":
            raise FileNotFoundError(f"{name} has no pair in {self.folder}")
        if path is not None and (other := self._inputs.setdefault(path, str(name))) != str(name):
            raise ValueError(f"{path} would be the pair of {other} and of {name}: give their pictures different names")
        packed = super().transform(results)
        if path is not None:
            packed["data_samples"].gt_normal_light = self._pair(path, results)
        return packed

    def _pair(self, path: Path, results: dict[str, Any]) -> PixelData:
        pixels = read_rgb8(path)
        stored = tuple(self.scale * n for n in results["ori_shape"][:2])
        if pixels.shape[:2] != stored:
            raise ValueError(
                f"{path} must be {self.scale} times as large as {results['img_path']}, (height, width) {stored}, got "
                f"{pixels.shape[:2]}"
            )
        moved, valid = self._moved(pixels, results)
        pair = PixelData(data=torch.from_numpy(np.ascontiguousarray(moved)).permute(2, 0, 1).contiguous())
        if not valid.all():
            pair.valid = torch.from_numpy(np.ascontiguousarray(valid))[None]
        return pair

    def _moved(self, pixels: np.ndarray, results: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """The pair in the frame of the input, and a mask of the pixels that come from the pair."""
        recorded = results.get("homography_matrix")
        matrix = np.eye(3) if recorded is None else np.asarray(recorded, np.float64)
        frame, stored = results["img"].shape[:2], results["ori_shape"][:2]
        upright = _upright(matrix, stored)
        if upright is None:
            return _warped(pixels, matrix, frame, self.scale)
        size, flipped, offset = upright
        self._check_window(results, size, flipped, offset, frame)
        size, offset, frame = ([self.scale * n for n in pair] for pair in (size, offset, frame))
        resized = cv2.resize(pixels, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
        resized = resized[:: -1 if flipped[0] else 1, :: -1 if flipped[1] else 1]
        return _window(resized, offset, frame)

    def _check_window(
        self,
        results: dict[str, Any],
        size: Sequence[int],
        flipped: Sequence[bool],
        offset: Sequence[int],
        frame: Sequence[int],
    ) -> None:
        """Raise if the sizes show a transform that was not recorded."""
        spans = list(zip(size, flipped, offset, frame, strict=True))
        cut = [(o, n - f if flip else 0) for n, flip, o, f in spans if f < n]
        if cut:
            # A crop that was not recorded always seems to begin at the stored picture's first pixel.
            elsewhere = any(o != corner for o, corner in cut)
            self._cornered = -math.inf if elsewhere else self._cornered + 1
        recorded = not cut or (results.get("homography_matrix") is not None and self._cornered < _CORNERS)
        if not recorded or (max(f - n for n, _, _, f in spans) > 0 and "pad_shape" not in results):
            raise ValueError(
                f"{results['img_path']}: the input is (height, width) {tuple(frame)}, but by the recorded transforms a "
                f"picture of {tuple(results['ori_shape'][:2])} becomes {tuple(size)}: a transform that records no "
                "homography_matrix cannot be followed"
            )


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in picture_files(folder):
        if (other := found.setdefault(path.stem, path)) != path:
            raise ValueError(f"{path} and {other} have the same name: only one of them can be the pair")
    return found


def _upright(matrix: np.ndarray, stored: Sequence[int]) -> tuple[list[int], list[bool], list[int]] | None:
    """Size, flips and offset, each (vertical, horizontal), of a matrix that resizes, flips and then crops.

    None for any other matrix, and if the size or the offset is not in whole pixels.
    """
    aligned = np.array([[1, 0, 1], [0, 1, 1], [0, 0, 1]], bool)
    if np.abs(matrix[~aligned]).max() > 1e-6 or abs(matrix[2, 2] - 1) > 1e-6:
        return None
    factors, shifts = np.diag(matrix)[[1, 0]], matrix[[1, 0], 2]
    sizes = np.abs(factors) * np.asarray(stored)
    # A flip maps x to size - x before the crop.
    offsets = np.where(factors < 0, sizes - shifts, -shifts)
    whole = np.concatenate([sizes, offsets])
    if np.abs(whole - whole.round()).max() > _TOLERANCE or sizes.min() < 0.5:
        return None
    return [int(n) for n in sizes.round()], [bool(f < 0) for f in factors], [int(n) for n in offsets.round()]


def _window(pixels: np.ndarray, offset: Sequence[int], frame: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """A window of size ``frame`` at ``offset`` of the image, black outside it, and a mask of the image's pixels."""
    top, left = offset
    height, width = frame
    source = pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    window, valid = np.zeros((height, width, 3), pixels.dtype), np.zeros((height, width), bool)
    where = (slice(max(-top, 0), max(-top, 0) + source.shape[0]), slice(max(-left, 0), max(-left, 0) + source.shape[1]))
    window[where], valid[where] = source, True
    return window, valid


def _warped(pixels: np.ndarray, matrix: np.ndarray, frame: Sequence[int], scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Warp an image by a matrix that holds for a picture ``scale`` times smaller than the image."""
    enlarge = np.diag([scale, scale, 1.0])
    # The matrix has its origin at the corner of the first pixel; OpenCV has it at the pixel's centre.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    centred = np.linalg.inv(half) @ enlarge @ matrix @ np.linalg.inv(enlarge) @ half
    size = (scale * frame[1], scale * frame[0])
    moved = cv2.warpPerspective(pixels, centred, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = cv2.warpPerspective(np.ones(pixels.shape[:2], np.uint8), centred, size, flags=cv2.INTER_NEAREST)
    return moved, inside.astype(bool)
