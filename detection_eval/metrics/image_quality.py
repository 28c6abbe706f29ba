"""The metrics of enhanced images as a metric of MMEngine."""

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
    """MMEngine metric of enhanced images, by default the mean PSNR (dB) and SSIM of a set of pairs.

    PSNR and SSIM are computed on RGB in [0, 1] at full size. The output is clamped, its border is not cropped and its
    mean brightness is not adjusted. SSIM has the Gaussian 11x11 window of sigma 1.5, without down-sampling. It is
    averaged over the channels and over all windows that lie inside the picture, as in the original by Wang et al.
    ``docs/metrics.md`` describes the other metrics. :meth:`describe` describes the chosen metrics, and the first
    evaluation writes this description to the log.

    Each sample is a dict with ``enhanced`` (``(3, s H, s W)`` float in [0, 1]) and ``target`` (of the same shape,
    uint8), which can be left out if no metric compares with it. ``loe`` and ``loe_bimef`` compare with the ``inputs``
    of the data batch (``(3, H, W)`` RGB, uint8 or floating in [0, 1]). FID gathers its features from all processes.

    Args:
        metrics: Name, or names, out of :func:`detection_eval.metrics.metric_names`.
        collect_device: Argument of ``BaseMetric``.
        prefix: Argument of ``BaseMetric``.
        settings: Values of ``gt_mean`` and of the metrics' settings, as for
            :class:`detection_eval.metrics.QualitySuite`, such as the files that metrics need or FID's reference.

    Raises:
        ValueError: A name is unknown or repeated, or the file that a metric needs is not given.
        CheckpointError: A file holds something else than the metric needs.
        MissingExtraError: A metric's library is not installed.

    Examples:
        >>> import torch
        >>> metric = ImageQuality("psnr")
        >>> enhanced, target = torch.full((3, 16, 16), 0.5), torch.zeros(3, 16, 16, dtype=torch.uint8)
        >>> metric.process({}, [dict(enhanced=enhanced, target=target, img_path="1.png")])
        >>> name, scores = metric.results[0]  # evaluate(), which a Runner calls, averages these
        >>> name, round(scores["psnr"], 3)
        ('1.png', 6.021)
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
        """Describe the exact variant of each metric, by its key."""
        return self._suite.describe()

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Score a batch.

        Args:
            data_batch: Batch with ``inputs``, which only metrics that compare with the input need.
            data_samples: Samples of the batch.

        Raises:
            ValueError: A picture is absent, too small, of another shape, or not in [0, 1]; the message has its
                ``img_path``.
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
        """Evaluate as ``BaseMetric`` does. Processes share the reading of FID's reference at the first evaluation."""
        self._suite.prepare()
        return super().evaluate(size)

    def compute_metrics(self, results: list[tuple[str, dict[str, Any]]]) -> dict[str, float]:
        """Average each metric over the images that it is defined for; FID is a value of the whole set."""
        names, added = [name for name, _ in results], [each for _, each in results]
        if not self._described:
            variants = "\n".join(f"  {name}: {text}" for name, text in self.describe().items())
            print_log(f"Image quality over {len(results)} images:\n{variants}", logger="current")
            self._described = True
        for metric, text in self._suite.undefined(added, names).items():
            print_log(f"{metric}: {text}", logger="current", level=logging.WARNING)
        return self._suite.summarise(added)


def image_quality(enhanced: Tensor, target: Tensor) -> dict[str, float]:
    """Compute ``psnr`` (dB) and ``ssim`` of one image.

    Args:
        enhanced: Result ``(3, H, W)`` RGB, uint8 or floating in [0, 1].
        target: Reference ``(3, H, W)`` RGB, uint8 or floating in [0, 1].

    Raises:
        ValueError: The shapes differ, a side is shorter than SSIM's window of 11, or a value is outside [0, 1] by more
            than 0.5.

    Examples:
        >>> import torch
        >>> scores = image_quality(torch.full((3, 16, 16), 0.6), torch.full((3, 16, 16), 0.5))
        >>> {name: round(score, 3) for name, score in scores.items()}
        {'psnr': 20.0, 'ssim': 0.984}
    """
    # SSIM needs larger pictures than PSNR. It comes first, so that its message names a size that is enough for both.
    similarity = ssim(enhanced, target)
    return {"psnr": psnr(enhanced, target), "ssim": similarity}
