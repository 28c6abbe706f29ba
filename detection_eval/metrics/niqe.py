"""NIQE: distance of a picture's natural scene statistics from those of pristine pictures.

Mittal, Soundararajan, Bovik: Making a "Completely Blind" Image Quality Analyzer, 2013.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from torch import Tensor

from llie_preproc.array_files import read_archive
from llie_preproc.errors import CheckpointError

from ..self_registration import Setting
from .arrays import matlab_resize, to_grey
from .meters import Meter, meter_builder

_BLOCK = 96
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
_SHAPES = {"mu_pris_param": (1, 36), "cov_pris_param": (36, 36), "gaussian_window": (7, 7)}
# A residual below it is rounding of the local mean in a flat area: its sign depends on the order of summation.
_FLAT = 1e-9
_ALPHAS = np.arange(200, 10001) / 1000
_GAMMA_1, _GAMMA_2, _GAMMA_3 = (np.array([math.gamma(i / a) for a in _ALPHAS]) for i in (1, 2, 3))
_RATIOS = _GAMMA_2**2 / (_GAMMA_1 * _GAMMA_3)


@dataclass(frozen=True)
class NiqeModel:
    """Statistics of pristine pictures: ``mean`` ``(36,)``, ``covariance`` ``(36, 36)``, and the 7x7 ``window``."""

    mean: np.ndarray
    covariance: np.ndarray
    window: np.ndarray


def read_niqe_model(path: str | os.PathLike[str]) -> NiqeModel:
    """Read the authors' model as BasicSR publishes it, ``niqe_pris_params.npz``.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: The file is damaged, or lacks an array of the expected name and shape.
    """
    try:
        fields = {name: ("f", len(shape)) for name, shape in _SHAPES.items()}
        arrays = {name: array.astype(np.float64) for name, array in read_archive(path, fields).items()}
    except ValueError as error:
        raise CheckpointError(f"{path} is no NIQE model with the arrays {', '.join(_SHAPES)} ({error})") from error
    for name, shape in _SHAPES.items():
        if arrays[name].shape != shape:
            raise CheckpointError(f"{path}: {name} must be of shape {shape}, got {arrays[name].shape}")
    return NiqeModel(arrays["mu_pris_param"].ravel(), arrays["cov_pris_param"], arrays["gaussian_window"])


def niqe(image: Tensor, model: NiqeModel) -> float:
    """NIQE of one picture; lower is better.

    As the authors' MATLAB code on ``rgb2gray``: 8-bit grey levels, cropped to whole blocks of 96x96 from the top left,
    two scales, 36 features a block. NaN where fewer than two blocks have texture.

    Args:
        image: ``(3, H, W)`` RGB, uint8 or floating in [0, 1].
        model: From :func:`read_niqe_model`.

    Raises:
        ValueError: The picture holds fewer than two blocks.
    """
    grey = to_grey(image)
    rows, columns = (n // _BLOCK for n in grey.shape)
    if rows * columns < 2:
        raise ValueError(f"NIQE takes pictures of two blocks of {_BLOCK}x{_BLOCK} or more, got (H, W) = {grey.shape}")
    grey = grey[: rows * _BLOCK, : columns * _BLOCK]
    half = matlab_resize(grey, (grey.shape[0] // 2, grey.shape[1] // 2))
    features = np.hstack([_features(grey, _BLOCK, model.window), _features(half, _BLOCK // 2, model.window)])
    complete = features[~np.isnan(features).any(axis=1)]
    if len(complete) < 2:
        return math.nan
    difference = np.nanmean(features, axis=0) - model.mean
    covariance = (model.covariance + np.cov(complete, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


@meter_builder(
    "niqe", Setting("niqe_model", "file niqe_pris_params.npz, the authors' model", needed=True, metavar="FILE")
)
def _meter(niqe_model: str | os.PathLike[str]) -> Meter:
    return Meter(
        "8-bit grey by MATLAB's rgb2gray, blocks of 96, two scales, residuals below 1e-9 taken as 0; no reference",
        "NIQE {:.4f}",
        partial(niqe, model=read_niqe_model(niqe_model)),
    )


def _features(grey: np.ndarray, block: int, window: np.ndarray) -> np.ndarray:
    """``(blocks, 18)``: the normalised coefficients' shape and scale, then four numbers for each neighbour product."""
    rows, columns = (n // block for n in grey.shape)
    blocks = _normalised(grey, window).reshape(rows, block, columns, block).swapaxes(1, 2).reshape(-1, block, block)
    return np.stack(list(_columns(blocks)), axis=1)


def _columns(blocks: np.ndarray) -> Iterator[np.ndarray]:
    shape, left, right = _asymmetric_gaussian(blocks)
    yield from (_ALPHAS[shape], (left + right) / 2)
    for shift in _SHIFTS:
        shape, left, right = _asymmetric_gaussian(blocks * np.roll(blocks, shift, axis=(1, 2)))
        yield from (_ALPHAS[shape], (right - left) * _GAMMA_2[shape] / _GAMMA_1[shape], left, right)


def _normalised(grey: np.ndarray, window: np.ndarray) -> np.ndarray:
    """``(I - mu) / (sigma + 1)`` with the window's local mean and deviation."""
    mean, square = (cv2.filter2D(x, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE) for x in (grey, grey**2))
    residual = grey - mean
    residual[np.abs(residual) < _FLAT] = 0
    return residual / (np.sqrt(np.abs(square - mean**2)) + 1)


def _asymmetric_gaussian(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moment fit of an asymmetric generalised Gaussian: index of the shape, left and right scale of each block."""
    values = blocks.reshape(len(blocks), -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (np.sqrt((values**2).sum(1, where=side) / side.sum(1)) for side in (values < 0, values > 0))
        ratio = left / right
        moments = np.abs(values).mean(1) ** 2 / (values**2).mean(1)
        wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = np.array([np.argmin((_RATIOS - r) ** 2) for r in wanted])
    spread = np.sqrt(_GAMMA_1[shape] / _GAMMA_3[shape])
    return shape, left * spread, right * spread
