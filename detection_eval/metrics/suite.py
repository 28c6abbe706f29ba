"""A set of picture metrics, chosen by name, that scores pictures one by one and summarises all of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from llie_preproc.errors import nearest

from ..self_registration import Setting, flag_of, lacking, misplaced, names_of, values_of
from .gt_mean import match_mean
from .meters import METERS, Meter

# A message names at most this number of pictures.
_SHOWN = 5


class QualitySuite:
    """Several metrics with their files loaded.

    Args:
        metrics: Name, or names, out of :func:`metric_names`.
        gt_mean: Whether a result gets the target's mean brightness before it is compared with the target. The keys of
            these metrics then end in ``_gt_mean``; ``fid`` stays as it is.
        settings: Values of the metrics' settings (:func:`metric_settings`), such as ``niqe_model``; None stands for a
            value that is not given.

    Raises:
        ValueError: No metric is named, a name is unknown or repeated, the file that a metric needs is not given, or a
            setting belongs to a metric that is not named.
        TypeError: No metric has a setting of that name.
        CheckpointError: A file holds something else than the metric needs.
        MissingExtraError: A metric's library is not installed.

    Examples:
        >>> import torch
        >>> suite = QualitySuite(["psnr", "rmse"])
        >>> enhanced, target = torch.zeros(3, 32, 32), torch.full((3, 32, 32), 0.5)
        >>> added = [suite.score(enhanced, target), suite.score(target, target + 0.1)]
        >>> {name: round(value, 3) for name, value in suite.summarise(added).items()}
        {'psnr': 13.01, 'rmse': 0.3}
    """

    def __init__(self, metrics: Iterable[str] = ("psnr", "ssim"), *, gt_mean: bool = False, **settings: Any) -> None:
        names = [metrics] if isinstance(metrics, str) else list(metrics)
        unknown = [name for name in names if name not in METERS]
        if unknown or not names or len(set(names)) < len(names):
            meant = "".join(f"; {near}" for name in unknown[:1] if (near := nearest(str(name), METERS)))
            raise ValueError(f"metrics must be different names out of {', '.join(METERS)}; got {names}{meant}")
        _check_settings(names, settings)
        self.meters: dict[str, Meter] = {}
        for name in names:
            meter = METERS[name].build(**values_of(METERS[name].settings, settings))
            matched = gt_mean and meter.beside == "target" and meter.of_pictures
            self.meters[f"{name}_gt_mean" if matched else name] = _with_gt_mean(meter) if matched else meter

    def needed(self, beside: str) -> list[str]:
        """List the metrics that compare with a picture: ``'target'``, or ``'image'`` (the input)."""
        return [name for name, meter in self.meters.items() if meter.beside == beside]

    def describe(self) -> dict[str, str]:
        """Describe the exact variant of each metric, by its key."""
        return {name: meter.description for name, meter in self.meters.items()}

    def score(self, enhanced: Tensor, target: Tensor | None = None, image: Tensor | None = None) -> dict[str, Any]:
        """Score one picture by each metric: a number, or for ``fid`` the features of the picture.

        Args:
            enhanced: Result ``(3, s H, s W)`` RGB, uint8 or floating in [0, 1].
            target: Reference of the same shape, for the metrics that need one.
            image: Input ``(3, H, W)``, for the metrics that need it.

        Raises:
            ValueError: A picture that a metric needs is absent, too small, or of another shape.
            TypeError: A metric returns something else than a number.
        """
        pictures = {"target": target, "image": image}
        added = {}
        for name, meter in self.meters.items():
            other = pictures.get(meter.beside)
            if meter.beside and other is None:
                raise ValueError(f"the metric {name!r} needs the {meter.beside!r} of every picture")
            score = meter.score(enhanced, other) if meter.beside else meter.score(enhanced)
            added[name] = _number(name, score) if meter.of_pictures else score
        return added

    def prepare(self) -> None:
        """Do the work that all processes share. Every process must call this before :meth:`summarise` is called.

        Raises:
            ValueError: A process cannot read a picture of ``fid_reference``.
        """
        for meter in self.meters.values():
            if meter.prepare is not None:
                meter.prepare()

    def undefined(self, added: Sequence[dict[str, Any]], names: Sequence[str]) -> dict[str, str]:
        """Say for which pictures a metric is undefined (NaN).

        Args:
            added: Results of :meth:`score` for all pictures.
            names: Names of the pictures.

        Returns:
            Sentence for each metric that is undefined for a picture, by the key of the metric.
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
        """Compute one value for each metric from the results of :meth:`score`; undefined results do not count."""
        return {name: meter.summary([each[name] for each in added]) for name, meter in self.meters.items()}

    def line(self, values: dict[str, float]) -> str:
        """Write the values of :meth:`summarise` with their names and units in one line."""
        return "  ".join(meter.layout.format(values[name]) for name, meter in self.meters.items())


def metric_names() -> list[str]:
    """List the names of all metrics.

    Examples:
        >>> {"psnr", "ssim", "niqe", "fid"} <= set(metric_names())
        True
    """
    return list(METERS)


def metric_settings() -> dict[str, tuple[Setting, ...]]:
    """List the settings of each metric, by the metric's name.

    Examples:
        >>> [setting.name for setting in metric_settings()["niqe"]]
        ['niqe_model']
    """
    return {name: each.settings for name, each in METERS.items()}


def _check_settings(names: Sequence[str], given: Mapping[str, Any]) -> None:
    declared = metric_settings()
    known = names_of(declared)
    if unknown := [name for name in given if name not in known]:
        raise TypeError(f"no metric has the setting {unknown[0]!r}; the settings are {', '.join(known)}")
    if unused := misplaced(declared, names, given):
        flag = flag_of(unused[0])
        raise ValueError(f"{unused[0]} ({flag}) is for the metric {', '.join(unused[1])}, which is not asked for")
    for name in names:
        if absent := lacking(declared[name], given):
            raise ValueError(
                f"the metric {name!r} needs {absent.name} ({absent.flag} {absent.metavar}): {absent.help}; nothing is "
                "downloaded"
            )


def _number(name: str, score: Any) -> float:
    """A score as a Python number, whatever library it comes from."""
    try:
        return float(score)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"the metric {name!r} must return a number for a picture, got {type(score).__name__}") from None


def _with_gt_mean(meter: Meter) -> Meter:
    def score(enhanced: Tensor, target: Tensor) -> Any:
        return meter.score(match_mean(enhanced, target), target)

    name, rest = meter.layout.split(" ", 1)
    matched = "brightness matched to the target's before (grey 0.299 R + 0.587 G + 0.114 B)"
    return replace(meter, description=f"{meter.description}; {matched}", layout=f"{name}-GT-mean {rest}", score=score)
