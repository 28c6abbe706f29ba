"""The metrics of enhanced images in MMEngine's evaluation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from torch import Tensor

from llie_preproc.registry import METRICS

from .psnr import psnr
from .ssim import ssim
from .suite import QualitySuite


@METRICS.register_module()
class ImageQuality(BaseMetric):
    """Metrics of enhanced images over a set, by default mean PSNR (dB) and SSIM of a paired one.

    Those are on RGB in [0, 1], full size, the output clamped, no border crop, no adjustment of the mean brightness.
    SSIM has the Gaussian 11x11 window of sigma 1.5, without down-sampling, averaged over channels and over the pixels
    that the window fits around, as in Wang et al.'s original. What the others are stands in ``docs/metrics.md``, and
    :meth:`describe` says it of those chosen; it is logged at the first evaluation.

    Each sample, as a dict, has ``enhanced`` (``(3, s H, s W)`` float in [0, 1]) and, unless no metric compares with it,
    ``target`` (of the same shape, uint8). ``loe`` and ``loe_bimef`` compare with the ``inputs`` of the data batch
    (``(3, H, W)`` RGB, uint8 or floating in [0, 1]). The sets that FID compares are gathered from all processes.

    Args:
        metrics: A name or names out of :func:`detection_eval.metrics.metric_names`.
        collect_device: As ``BaseMetric`` has it.
        prefix: As ``BaseMetric`` has it.
        settings: ``gt_mean`` and the metrics' settings, as :class:`detection_eval.metrics.QualitySuite` has them: the
            files that metrics need, FID's reference, EME's block.

    Raises:
        ValueError: An unknown or repeated name, or one whose file is not given.
        CheckpointError: A file holds something else.
        MissingExtraError: A metric's library is not installed.
    """

    default_prefix = "iqa"

    def __init__(
        self,
        metrics: str | Sequence[str] = ("psnr", "ssim"),
        collect_device: str = "cpu",
        prefix: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self._suite = QualitySuite(metrics, **settings)
        self._described = False

    def describe(self) -> dict[str, str]:
        """The variant of each metric, by its key."""
        return self._suite.describe()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch.

        Raises:
            ValueError: A picture is absent, too small, of another shape, or not in [0, 1]; it is named by ``img_path``.
        """
        inputs = data_batch["inputs"] if self._suite.needed("image") else [None] * len(data_samples)
        for image, sample in zip(inputs, data_samples, strict=True):
            name = str(sample.get("img_path", f"picture {len(self.results)}"))
            try:
                added = self._suite.score(sample["enhanced"], sample.get("target"), image)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            self.results.append((name, added))

    def evaluate(self, size: int) -> dict[str, float]:
        """As ``BaseMetric`` has it. FID's reference folder is read at the first evaluation, each process a share."""
        self._suite.prepare()
        return super().evaluate(size)

    def compute_metrics(self, results: list[tuple[str, dict[str, Any]]]) -> dict[str, float]:
        """Mean over images, of those that a metric is defined for; FID over the set."""
        names, added = [name for name, _ in results], [each for _, each in results]
        if not self._described:
            variants = "\n".join(f"  {name}: {text}" for name, text in self.describe().items())
            print_log(f"Image quality over {len(results)} images:\n{variants}", logger="current")
            self._described = True
        for metric, text in self._suite.undefined(added, names).items():
            print_log(f"{metric}: {text}", logger="current", level=logging.WARNING)
        return self._suite.summarise(added)


def image_quality(enhanced: Tensor, target: Tensor) -> dict[str, float]:
    """``psnr`` (dB) and ``ssim`` of one image.

    Args:
        enhanced: ``(3, H, W)`` floating in [0, 1].
        target: ``(3, H, W)`` uint8, or floating in [0, 1].

    Raises:
        ValueError: The shapes differ, or a side is shorter than SSIM's window of 11.
    """
    # SSIM first: it has the larger least size, so that its message stands.
    similarity = ssim(enhanced, target)
    return {"psnr": psnr(enhanced, target), "ssim": similarity}
