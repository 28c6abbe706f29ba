"""Box AP with intervals and the official VisDrone scores in MMEngine's evaluation."""

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
    """MMDetection's ``CocoMetric`` of boxes, and for each of its APs the interval of a bootstrap over images.

    What ``CocoMetric`` gives stays as it is; ``bbox_mAP_low`` and ``bbox_mAP_high`` stand beside ``bbox_mAP``, and so
    on, nan where there is no ground truth of that size.

    Args:
        resamples: Number of resamples.
        resample_seed: Of the resampling.
        level: The interval's share of the resamples.
        options: As ``CocoMetric`` has them, but ``metric``, ``iou_thrs`` and ``proposal_nums``, which are the default.

    Raises:
        ValueError: One of those three is given another value.
    """

    def __init__(self, resamples: int = 1000, resample_seed: int = 0, level: float = 0.95, **options: Any) -> None:
        for name, only in (("metric", "bbox"), ("iou_thrs", None), ("proposal_nums", (100, 300, 1000))):
            if name in options and options[name] != only:
                raise ValueError(f"CocoIntervalMetric has {name}={only!r} only, got {options[name]!r}")
        super().__init__(**options)
        self.outfile_prefix: str | None = options.get("outfile_prefix")
        self.resampling: dict[str, Any] = {"resamples": resamples, "seed": resample_seed, "level": level}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """As ``CocoMetric``; no interval where nothing was detected at all."""
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
        truth = _of_classes(self._coco_api.dataset, self.cat_ids)
        return intervals([CocoScores(truth, read_detections(path, truth))], **self.resampling)


@METRICS.register_module()
class VisDroneMetric(NameMatchedCocoMetric):
    """The official scores of VisDrone-DET (:class:`~detection_eval.metrics.visdrone.VisDroneScores`).

    The keys are ``toolkit_AP`` and so on; with resamples ``toolkit_AP_low`` and ``toolkit_AP_high`` beside it. The
    detections of an image are put in order by falling score, as the toolkit wants its files.

    Args:
        ann_file: COCO annotations that ``llie annotations visdrone`` wrote.
        mode: One or several of :data:`~detection_eval.metrics.visdrone.MODES`.
        outfile_prefix: The detections are written to this path and ``.bbox.json``.
        resamples: Of a bootstrap over images; 0: none.
        resample_seed: Of the resampling.
        level: The interval's share of the resamples.
        options: ``collect_device``, ``prefix``, ``backend_args`` as ``CocoMetric`` has them.

    Raises:
        ValueError: An unknown mode.
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
            raise ValueError(f"mode must be of {', '.join(MODES)}, got {unknown[0]!r}")
        self.resampling: dict[str, Any] = {"resamples": resamples, "seed": resample_seed, "level": level}

    def compute_metrics(self, results: list) -> dict[str, float]:
        """The scores of each mode, nan where undefined."""
        truth, results = self._coco_api.dataset, self.matched(results)
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
    """Detections of an image by falling score; equal ones as they stand."""
    order = np.argsort(-found["scores"], kind="stable")
    return {"img_id": found["img_id"], **{key: found[key][order] for key in ("bboxes", "scores", "labels")}}


def _of_classes(truth: Mapping[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """The annotations of some classes."""
    kept = set(ids)
    return {
        "images": truth["images"],
        "categories": [each for each in truth["categories"] if each["id"] in kept],
        "annotations": [each for each in truth.get("annotations", []) if each["category_id"] in kept],
    }
