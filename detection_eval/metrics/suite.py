"""A set of picture metrics by name, which scores pictures one by one and sums up over all."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from ..self_registration import Setting, lacking, misplaced, names_of, values_of
from .gt_mean import match_mean
from .meters import METERS, Meter

# Names of pictures that are printed.
_SHOWN = 5


class QualitySuite:
    """Named metrics with their files loaded.

    Args:
        metrics: A name or names out of :func:`metric_names`.
        gt_mean: Give the result the target's mean brightness before it is compared with the target (not for ``fid``);
            those keys then end in ``_gt_mean``.
        settings: Values of the metrics' settings (:func:`metric_settings`), such as ``niqe_model``; None: not given.

    Raises:
        ValueError: No metric, an unknown or a repeated name, one whose file is not given, or a setting of a metric
            that is not named.
        TypeError: No metric has a setting of that name.
        CheckpointError: A file holds something else.
        MissingExtraError: A metric's library is not installed.
    """

    def __init__(self, metrics: Iterable[str] = ("psnr", "ssim"), *, gt_mean: bool = False, **settings: Any) -> None:
        names = [metrics] if isinstance(metrics, str) else list(metrics)
        unknown = [name for name in names if name not in METERS]
        if unknown or not names or len(set(names)) < len(names):
            raise ValueError(f"metrics must be different names out of {', '.join(METERS)}; got {names}")
        _check_settings(names, settings)
        self.meters: dict[str, Meter] = {}
        for name in names:
            meter = METERS[name].build(**values_of(METERS[name].settings, settings))
            matched = gt_mean and meter.beside == "target" and meter.of_pictures
            self.meters[f"{name}_gt_mean" if matched else name] = _with_gt_mean(meter) if matched else meter

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
            if meter.prepare is not None:
                meter.prepare()

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
    return list(METERS)


def metric_settings() -> dict[str, tuple[Setting, ...]]:
    """The settings of each metric."""
    return {name: each.settings for name, each in METERS.items()}


def _check_settings(names: Sequence[str], given: Mapping[str, Any]) -> None:
    declared = metric_settings()
    known = names_of(declared)
    if unknown := [name for name in given if name not in known]:
        raise TypeError(f"no metric has the setting {unknown[0]!r}: there are {', '.join(known)}")
    if unused := misplaced(declared, names, given):
        raise ValueError(f"{unused[0]} is for the metric {', '.join(unused[1])}, which is not asked for")
    for name in names:
        if absent := lacking(declared[name], given):
            raise ValueError(
                f"the metric {name!r} needs {absent.name}={absent.metavar}: {absent.help}; nothing is downloaded"
            )


def _with_gt_mean(meter: Meter) -> Meter:
    def score(enhanced: Tensor, target: Tensor) -> Any:
        return meter.score(match_mean(enhanced, target), target)

    name, rest = meter.layout.split(" ", 1)
    matched = "brightness matched to the target's before (grey 0.299 R + 0.587 G + 0.114 B)"
    return replace(meter, description=f"{meter.description}; {matched}", layout=f"{name}-GT-mean {rest}", score=score)
