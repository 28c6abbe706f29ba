"""MMEngine metrics: box AP with bootstrap intervals, and the official scores of VisDrone-DET."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from llie_preproc.errors import needs
from llie_preproc.registry import METRICS

with needs("detection_eval.metrics.detection_metrics"):
    from llie_preproc.detection.named_classes import NameMatchedCocoMetric

from .bootstrap import intervals
from .coco import CocoScores
from .detections import read_detections
from .matches import ImageScores
from .visdrone import MODES, VisDroneScores

_NAMES = {
    "AP": "bbox_mAP",
    "AP50": "bbox_mAP_50",
    "AP75": "bbox_mAP_75",
    "APs": "bbox_mAP_s",
    "APm": "bbox_mAP_m",
    "APl": "bbox_mAP_l",
}


@METRICS.register_module()
class CocoIntervalMetric(NameMatchedCocoMetric):
    """MMDetection's ``CocoMetric`` for boxes, with the interval of a bootstrap over images for each of its APs.

    The scores of ``CocoMetric`` do not change. ``bbox_mAP_low`` and ``bbox_mAP_high`` are added to ``bbox_mAP``, and so
    on for each AP; they are NaN if there is no ground truth of that size.

    Args:
        resamples: Number of resamples.
        resample_seed: Seed of the resampling.
        level: Share of the resamples that lies inside the interval.
        options: Arguments of ``CocoMetric``. ``metric``, ``iou_thrs`` and ``proposal_nums`` can only have their
            defaults: ``'bbox'``, None and ``(100, 300, 1000)``.

    Raises:
        ValueError: ``metric``, ``iou_thrs`` or ``proposal_nums`` has another value.

    Examples:
        >>> metric = METRICS.build(dict(type="llie_preproc.CocoIntervalMetric", resamples=200))
        >>> metric.resampling
        {'resamples': 200, 'seed': 0, 'level': 0.95}
    """

    def __init__(self, resamples: int = 1000, resample_seed: int = 0, level: float = 0.95, **options: Any) -> None:
        for name, only in (("metric", "bbox"), ("iou_thrs", None), ("proposal_nums", (100, 300, 1000))):
            if name in options and options[name] != only:
                raise ValueError(f"CocoIntervalMetric: {name} must be {only!r}, got {options[name]!r}")
        super().__init__(**options)
        self.outfile_prefix: str | None = options.get("outfile_prefix")
        self.resampling: dict[str, Any] = {"resamples": resamples, "seed": resample_seed, "level": level}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the scores of ``CocoMetric``, with intervals unless nothing at all was detected."""
        given = self.outfile_prefix
        with TemporaryDirectory() as folder:
            self.outfile_prefix = given or str(Path(folder) / "results")
            try:
                computed = super().compute_metrics(results)
                bounds = self._intervals(Path(f"{self.outfile_prefix}.bbox.json")) if computed else {}
            finally:
                self.outfile_prefix = given
        for name, interval in bounds.items():
            if (key := _NAMES[name]) in computed:
                computed |= {f"{key}_low": interval.low, f"{key}_high": interval.high}
        return computed

    def _intervals(self, path: Path) -> dict[str, Any]:
        # The parent has restricted this ground truth to the classes that it shares with the detector.
        truth = self._coco_api.dataset
        return intervals([CocoScores(truth, read_detections(path, truth))], **self.resampling)


@METRICS.register_module()
class VisDroneMetric(NameMatchedCocoMetric):
    """The official scores of VisDrone-DET (:class:`~detection_eval.metrics.visdrone.VisDroneScores`).

    The keys are ``toolkit_AP`` and so on; resamples add ``toolkit_AP_low`` and ``toolkit_AP_high``. The detections of
    an image are sorted by falling score, because the toolkit needs this order in its files.

    Args:
        ann_file: File of COCO annotations that ``llie annotations visdrone`` wrote.
        mode: Name, or names, out of :data:`~detection_eval.metrics.visdrone.MODES`.
        outfile_prefix: Path, without ``.bbox.json``, that the detections are written to; None if they are not kept.
        resamples: Number of resamples of a bootstrap over images; 0 for no intervals.
        resample_seed: Seed of the resampling.
        level: Share of the resamples that lies inside the interval.
        options: Arguments ``collect_device``, ``prefix`` and ``backend_args`` of ``CocoMetric``.

    Raises:
        ValueError: A mode is unknown.
    """

    default_prefix = "visdrone"

    def __init__(
        self,
        ann_file: str,
        mode: str | Sequence[str] = MODES,
        outfile_prefix: str | None = None,
        resamples: int = 0,
        resample_seed: int = 0,
        level: float = 0.95,
        **options: Any,
    ) -> None:
        super().__init__(ann_file=ann_file, outfile_prefix=outfile_prefix, **options)
        self.modes = (mode,) if isinstance(mode, str) else tuple(mode)
        if unknown := [each for each in self.modes if each not in MODES]:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {unknown[0]!r}")
        self.resampling: dict[str, Any] = {"resamples": resamples, "seed": resample_seed, "level": level}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the scores of each mode; an undefined score is NaN."""
        results = self.matched(results)
        truth = self._coco_api.dataset
        with TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or str(Path(folder) / "results")
            self.results2json([_by_score(found) for _, found in results], prefix)
            detections = read_detections(f"{prefix}.bbox.json", truth)
        computed: dict[str, float] = {}
        for mode in self.modes:
            computed |= self._scores(mode, VisDroneScores(truth, detections, mode))
        return computed

    def _scores(self, mode: str, scores: ImageScores) -> dict[str, float]:
        computed = {}
        for name, interval in intervals([scores], **self.resampling).items():
            computed[f"{mode}_{name}"] = interval.value
            if self.resampling["resamples"]:
                computed |= {f"{mode}_{name}_low": interval.low, f"{mode}_{name}_high": interval.high}
        return computed


def _by_score(found: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the detections of an image by falling score; equal scores keep their order."""
    order = np.argsort(-found["scores"], kind="stable")
    return {"img_id": found["img_id"], **{key: found[key][order] for key in ("bboxes", "scores", "labels")}}
