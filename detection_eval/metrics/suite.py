"""The metrics by name, and a set of them that scores pictures one by one and sums up over all."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from llie_preproc.errors import needs, one_line, require
from llie_preproc.pictures import picture_files

from .eme import check_eme, eme
from .fid import TRUNK as FID_TRUNK
from .fid import folder_features, frechet_distance, inception_features, read_inception
from .fsim import fsim_bands, fsimc
from .gt_mean import match_mean
from .loe import lightness_order_error
from .lpips import TRUNK as LPIPS_TRUNK
from .lpips import lpips, read_lpips
from .niqe import niqe, read_niqe_model
from .psnr import psnr
from .rmse import rmse
from .sre import sre
from .ssim import ssim, ssim_piq, ssim_skimage

PathLike = str | os.PathLike[str]
# Names of pictures that are printed.
_SHOWN = 5


@dataclass(frozen=True)
class QualitySettings:
    """What some metrics need beyond the pictures.

    Attributes:
        niqe_model: ``niqe_pris_params.npz``, for ``niqe``.
        lpips_trunk: torchvision's ``alexnet-owt-7be5be79.pth``, for ``lpips``.
        fid_trunk: ``pt_inception-2015-12-05-6726825d.pth``, for ``fid``.
        fid_reference: Folder of the pictures that ``fid`` compares with; without it the targets.
        eme_block: Side of EME's blocks.
        eme_log: ``'ln'`` or ``'log10'``, for ``eme``.
        gt_mean: Give the result the target's mean brightness before it is compared with the target (not for ``fid``);
            those keys then end in ``_gt_mean``.
    """

    niqe_model: PathLike | None = None
    lpips_trunk: PathLike | None = None
    fid_trunk: PathLike | None = None
    fid_reference: PathLike | None = None
    eme_block: int = 8
    eme_log: str = "ln"
    gt_mean: bool = False


# The metric that each setting is for: without it the setting would change nothing.
_OF_METRICS = {"niqe_model": "niqe", "lpips_trunk": "lpips", "fid_trunk": "fid", "fid_reference": "fid"}


def _defined_mean(scores: Sequence[float]) -> float:
    defined = [x for x in scores if not math.isnan(x)]
    return float(np.mean(defined)) if defined else math.nan


@dataclass(frozen=True)
class Meter:
    """A metric at work.

    Attributes:
        description: The variant, in a line.
        layout: How a value is printed, with its name and unit.
        score: What one picture adds, of ``enhanced`` alone or of ``enhanced`` and the picture that ``beside`` names.
        beside: ``'target'``, ``'image'`` (the input), or empty.
        summary: One value of all that was added; by default the mean of those that are defined.
    """

    description: str
    layout: str
    score: Callable[..., Any]
    beside: str = ""
    summary: Callable[[Sequence[Any]], float] = _defined_mean


class QualitySuite:
    """Named metrics with their files loaded.

    Args:
        metrics: A name or names out of :func:`metric_names`.
        settings: Attributes of :class:`QualitySettings`.

    Raises:
        ValueError: No metric, an unknown or a repeated name, one whose file is not given, or a file for a metric that
            is not named.
        CheckpointError: A file holds something else.
        MissingExtraError: A metric's library is not installed.
    """

    def __init__(self, metrics: Iterable[str] = ("psnr", "ssim"), **settings: Any) -> None:
        names = [metrics] if isinstance(metrics, str) else list(metrics)
        unknown = [name for name in names if name not in _METERS]
        if unknown or not names or len(set(names)) < len(names):
            raise ValueError(f"metrics must be different names out of {', '.join(_METERS)}; got {names}")
        given = QualitySettings(**settings)
        if unused := [name for name, metric in _OF_METRICS.items() if getattr(given, name) and metric not in names]:
            raise ValueError(f"{unused[0]} is for the metric {_OF_METRICS[unused[0]]}, which is not asked for")
        self.meters: dict[str, Meter] = {}
        for name in names:
            meter = _METERS[name](given)
            paired = given.gt_mean and meter.beside == "target" and name != "fid"
            self.meters[f"{name}_gt_mean" if paired else name] = _with_gt_mean(meter) if paired else meter

    def needed(self, beside: str) -> list[str]:
        """The metrics that need ``'target'``, or ``'image'``."""
        return [name for name, meter in self.meters.items() if meter.beside == beside]

    def describe(self) -> dict[str, str]:
        """The variant of each metric, by its key."""
        return {name: meter.description for name, meter in self.meters.items()}

    def score(self, enhanced: Tensor, target: Tensor | None = None, image: Tensor | None = None) -> dict[str, Any]:
        """What one picture adds to each metric: a number, or for ``fid`` its features.

        Args:
            enhanced: ``(3, s H, s W)`` RGB, uint8 or floating in [0, 1].
            target: The reference, of the same shape, for those that need one.
            image: ``(3, H, W)``, the input, for those that need it.

        Raises:
            ValueError: A picture that a metric needs is absent, too small, or of another shape.
        """
        pictures = {"target": target, "image": image}
        added = {}
        for name, meter in self.meters.items():
            other = pictures.get(meter.beside)
            if meter.beside and other is None:
                raise ValueError(f"the metric {name!r} needs the {meter.beside!r} of every picture")
            added[name] = meter.score(enhanced, other) if meter.beside else meter.score(enhanced)
        return added

    def prepare(self) -> None:
        """What takes all processes: where there are several, each calls it before one calls :meth:`summarise`.

        Raises:
            ValueError: A picture of ``fid_reference`` cannot be read, in any process.
        """
        for meter in self.meters.values():
            if isinstance(meter.summary, _FidFolder):
                meter.summary.prepare()

    def undefined(self, added: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, str]:
        """Which pictures a metric is not defined for (NaN), in words, by its key; those that are for all are left out.

        Args:
            added: What :meth:`score` gave for all pictures.
            names: Their names.
        """
        found = {}
        for metric in self.meters:
            of = [
                n for n, a in zip(names, added, strict=True) if isinstance(a[metric], float) and math.isnan(a[metric])
            ]
            if of:
                more = f" and {len(of) - _SHOWN} more" if len(of) > _SHOWN else ""
                rest = "the mean is over the others" if len(of) < len(added) else "there is no mean"
                found[metric] = f"undefined for {len(of)} of {len(added)}, {rest}: {', '.join(of[:_SHOWN])}{more}"
        return found

    def summarise(self, added: Sequence[dict[str, Any]]) -> dict[str, float]:
        """One value a metric of what :meth:`score` gave for all pictures, without those it is not defined for."""
        return {name: meter.summary([each[name] for each in added]) for name, meter in self.meters.items()}

    def line(self, values: dict[str, float]) -> str:
        """The values of :meth:`summarise` with their names and units."""
        return "  ".join(meter.layout.format(values[name]) for name, meter in self.meters.items())


def metric_names() -> list[str]:
    """Names that ``metrics`` may hold."""
    return list(_METERS)


def _with_gt_mean(meter: Meter) -> Meter:
    def score(enhanced: Tensor, target: Tensor) -> Any:
        return meter.score(match_mean(enhanced, target), target)

    name, rest = meter.layout.split(" ", 1)
    return Meter(
        f"{meter.description}; brightness matched to the target's before (grey 0.299 R + 0.587 G + 0.114 B)",
        f"{name}-GT-mean {rest}",
        score,
        meter.beside,
        meter.summary,
    )


def _file(settings: QualitySettings, metric: str, field: str, what: str) -> PathLike:
    path = getattr(settings, field)
    if path is None:
        raise ValueError(f"the metric {metric!r} needs {field}=FILE: {what}; nothing is downloaded")
    return path


def _niqe(settings: QualitySettings) -> Meter:
    model = read_niqe_model(_file(settings, "niqe", "niqe_model", "the authors' model, niqe_pris_params.npz"))
    return Meter(
        "8-bit grey by MATLAB's rgb2gray, blocks of 96, two scales, residuals below 1e-9 taken as 0; no reference",
        "NIQE {:.4f}",
        partial(niqe, model=model),
    )


def _lpips(settings: QualitySettings) -> Meter:
    network = read_lpips(_file(settings, "lpips", "lpips_trunk", LPIPS_TRUNK))
    return Meter("v0.1, AlexNet, RGB, full size", "LPIPS {:.4f}", partial(lpips, network=network), "target")


def _fid(settings: QualitySettings) -> Meter:
    network = read_inception(_file(settings, "fid", "fid_trunk", FID_TRUNK))
    features = partial(inception_features, network=network)
    folder = settings.fid_reference
    reference = "the targets" if folder is None else f"the pictures of {folder}"
    description = f"Inception-v3 2048, 8-bit, resized to 299 as TensorFlow 1, against {reference}"
    if folder is None:
        return Meter(description, "FID {:.3f}", lambda *pair: np.stack([*map(features, pair)]), "target", _fid_pairs)
    return Meter(description, "FID {:.3f}", features, summary=_FidFolder(folder, network))


def _fid_pairs(added: Sequence[np.ndarray]) -> float:
    features = np.stack(added)
    return frechet_distance(features[:, 0], features[:, 1])


class _FidFolder:
    """FID against a folder, whose features are computed once, when first needed, by each process for its share."""

    def __init__(self, folder: PathLike, network: nn.Module) -> None:
        self._files, self._network = picture_files(folder), network
        self._reference: np.ndarray | None = None

    def prepare(self) -> np.ndarray:
        if self._reference is None:
            with needs("the metric fid"):
                from mmengine.dist import all_gather_object, get_dist_info
            rank, processes = get_dist_info()
            shares = all_gather_object(self._share(self._files[rank::processes]))
            # Raised only now, and by all: a process that stops alone leaves the others waiting.
            if failed := [share for share in shares if isinstance(share, str)]:
                raise ValueError(f"fid_reference: {'; '.join(failed)}")
            self._reference = np.concatenate(shares)
        return self._reference

    def _share(self, files: Sequence[Path]) -> np.ndarray | str:
        try:
            return folder_features(files, self._network)
        except (OSError, ValueError) as error:
            return one_line(error)

    def __call__(self, added: Sequence[np.ndarray]) -> float:
        return frechet_distance(np.stack(added), self.prepare())


def _eme(settings: QualitySettings) -> Meter:
    block, log = settings.eme_block, settings.eme_log
    check_eme(block, log)
    return Meter(
        f"blocks of {block}x{block}, 20 {log}(max / min) of 8-bit grey, blocks with a 0 add 0; no reference",
        "EME {:.3f}",
        partial(eme, block=block, log=log),
    )


def _fixed(*arguments: Any, library: str | None = None) -> Callable[[QualitySettings], Meter]:
    def build(settings: QualitySettings) -> Meter:
        if library is not None:
            require(library, f"the metric {arguments[1].split()[0]}", "metrics")
        return Meter(*arguments)

    return build


_METERS: dict[str, Callable[[QualitySettings], Meter]] = {
    "psnr": _fixed("RGB in [0, 1], full size", "PSNR {:6.3f} dB", psnr, "target"),
    "ssim": _fixed(
        "RGB, Gaussian 11x11 of sigma 1.5, where the window fits, no down-sampling (Wang et al.'s MATLAB code)",
        "SSIM {:.4f}",
        ssim,
        "target",
    ),
    "ssim_skimage": _fixed(
        "8-bit RGB, uniform 7x7, sample covariance (scikit-image's default)",
        "SSIM-skimage {:.4f}",
        ssim_skimage,
        "target",
        library="skimage",
    ),
    "ssim_piq": _fixed(
        "RGB, Gaussian 11x11 of sigma 1.5, average-pooled by round(min(H, W) / 256) (piq's default)",
        "SSIM-piq {:.4f}",
        ssim_piq,
        "target",
        library="piq",
    ),
    "lpips": _lpips,
    "fsim": _fixed(
        "FSIMc of RGB, average-pooled by round(min(H, W) / 256) (piq)",
        "FSIM {:.4f}",
        fsimc,
        "target",
        library="piq",
    ),
    "fsim_bands": _fixed(
        "8-bit RGB, mean over bands, 6 orientations, no down-sampling (image-similarity-measures)",
        "FSIM-bands {:.4f}",
        fsim_bands,
        "target",
    ),
    "rmse": _fixed("mean over RGB of each band's, max_p 255", "RMSE {:.4f}", rmse, "target"),
    "sre": _fixed(
        "mean over RGB, levels 0 to 255, norm not squared (image-similarity-measures)", "SRE {:.3f} dB", sre, "target"
    ),
    "fid": _fid,
    "niqe": _niqe,
    "loe": _fixed(
        "variant A (NPE): against the input, short side resized to 50, bicubic, rounded",
        "LOE {:.2f}",
        lightness_order_error,
        "image",
    ),
    "loe_bimef": _fixed(
        "variant B (BIMEF): against the input, 100x100 pixels picked",
        "LOE-BIMEF {:.2f}",
        partial(lightness_order_error, variant="B"),
        "image",
    ),
    "eme": _eme,
}
