"""NIQE, the distance of a picture's natural scene statistics from those of pristine pictures.

Source: Mittal, Soundararajan, Bovik: Making a "Completely Blind" Image Quality Analyzer, 2013.
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
# A smaller residual is a rounding error of the local mean in a flat area; its sign depends on the order of summation.
_FLAT = 1e-9
_ALPHAS = np.arange(200, 10001) / 1000
_GAMMA_1, _GAMMA_2, _GAMMA_3 = (np.array([math.gamma(i / a) for a in _ALPHAS]) for i in (1, 2, 3))
_RATIOS = _GAMMA_2**2 / (_GAMMA_1 * _GAMMA_3)


@dataclass(frozen=True)
class NiqeModel:
    """The statistics of pristine pictures.

    >>> model = NiqeModel(np.zeros(36), np.eye(36), np.full((7, 7), 1 / 49))
    >>> model.mean.shape
    (36,)

    Attributes:
        mean: Mean of the features, ``(36,)``.
        covariance: Covariance of the features, ``(36, 36)``.
        window: Window of the local mean and deviation, ``(7, 7)``.
    """

    mean: np.ndarray
    covariance: np.ndarray
    window: np.ndarray


def read_niqe_model(path: str | os.PathLike[str]) -> NiqeModel:
    """Read the authors' model as BasicSR publishes it, ``niqe_pris_params.npz``.

    >>> import tempfile
    >>> arrays = dict(mu_pris_param=np.zeros((1, 36)), cov_pris_param=np.eye(36), gaussian_window=np.ones((7, 7)) / 49)
    >>> with tempfile.TemporaryDirectory() as root:
    ...     np.savez(f"{root}/model.npz", **arrays)
    ...     read_niqe_model(f"{root}/model.npz").covariance.shape
    (36, 36)

    Raises:
        FileNotFoundError: The file is missing.
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

    It follows the authors' MATLAB code for a picture that ``rgb2gray`` made grey: the 8-bit grey levels are cropped to
    whole blocks of 96x96 from the top left, and each block has 36 features, 18 at each of two scales. NIQE is NaN if
    fewer than two blocks have texture.

    >>> import torch
    >>> picture = torch.randint(256, (3, 96, 192), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    >>> score = niqe(picture, NiqeModel(np.zeros(36), np.eye(36), np.full((7, 7), 1 / 49)))
    >>> 0 < score < 100
    True

    Args:
        image: Picture ``(3, H, W)`` RGB, uint8 or floating in [0, 1].
        model: Model from :func:`read_niqe_model`.

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
    """Features ``(blocks, 18)``: shape and scale of the coefficients, then four numbers for each neighbour product."""
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
    """The coefficients ``(I - mu) / (sigma + 1)``, with the local mean and deviation in the window."""
    mean, square = (cv2.filter2D(x, cv2.CV_64F, window, borderType=cv2.BORDER_REPLICATE) for x in (grey, grey**2))
    residual = grey - mean
    residual[np.abs(residual) < _FLAT] = 0
    return residual / (np.sqrt(np.abs(square - mean**2)) + 1)


def _asymmetric_gaussian(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fit an asymmetric generalised Gaussian to the moments of each block.

    Returns:
        For each block, the index of the shape in ``_ALPHAS``, the left scale and the right scale.
    """
    values = blocks.reshape(len(blocks), -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        left, right = (np.sqrt((values**2).sum(1, where=side) / side.sum(1)) for side in (values < 0, values > 0))
        ratio = left / right
        moments = np.abs(values).mean(1) ** 2 / (values**2).mean(1)
        wanted = moments * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = np.array([np.argmin((_RATIOS - r) ** 2) for r in wanted])
    spread = np.sqrt(_GAMMA_1[shape] / _GAMMA_3[shape])
    return shape, left * spread, right * spread
