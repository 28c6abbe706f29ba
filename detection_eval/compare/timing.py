"""Times of an image, measured separately for the enhancer and the detector."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.dataset import pseudo_collate
from torch import nn

from llie_preproc.detection import Enhance, EnhancedDetector

IMAGES = 10
"""Number of pictures that are timed, after one that warms up."""


def measure_times(model: Any, dataset: Any, device: str) -> dict[str, float | None]:
    """Measure median times over the first pictures of a test set, one at a time, in milliseconds.

    Args:
        model: Detector, which may wrap an enhancer.
        dataset: Test set, whose pipeline may enhance.
        device: Device that an enhancer of the pipeline runs on.

    Returns:
        ``detector_ms``, the time of data preprocessor, network and post-processing, without loading; and
        ``enhancer_ms``, the time of the enhancer, or None if there is none. An enhancer of the pipeline is timed on the
        stored picture, an enhancer around the detector on the detector's input.
    """
    chosen = range(min(len(dataset), IMAGES + 1))
    items = [pseudo_collate([dataset[i]]) for i in chosen]
    if isinstance(model, EnhancedDetector):
        return _wrapped(model, items)
    detector = _median([partial(model.test_step, item) for item in items])
    enhance, before = _transform(dataset)
    if enhance is None:
        return dict(enhancer_ms=None, detector_ms=detector)
    pictures = [before(dataset.get_data_info(i))["img"] for i in chosen]
    with _on(enhance.enhancer, device):
        enhancer = _median([_enhancing(enhance, picture, device) for picture in pictures])
    return dict(enhancer_ms=enhancer, detector_ms=detector)


def _wrapped(model: EnhancedDetector, items: list[dict[str, Any]]) -> dict[str, float | None]:
    def alone(item: dict[str, Any]) -> Callable[[], Any]:
        inputs = model.data_preprocessor(item)["inputs"]
        return lambda: model.enhance_images(inputs)

    both = _median([partial(model.test_step, item) for item in items])
    enhancer = _median([alone(item) for item in items])
    return dict(enhancer_ms=enhancer, detector_ms=max(0.0, both - enhancer))


def _enhancing(enhance: Enhance, picture: np.ndarray, device: str) -> Callable[[], Any]:
    levels = [torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).to(device)]
    return lambda: enhance.frozen.levels(levels)


def _transform(dataset: Any) -> tuple[Enhance | None, Compose]:
    """Return the enhancing transform of a dataset's pipeline, or None, and the transforms before it."""
    steps = dataset.pipeline.transforms
    for place, step in enumerate(steps):
        if isinstance(step, Enhance):
            return step, Compose(steps[:place])
    return None, Compose([])


@contextmanager
def _on(network: nn.Module, device: str) -> Iterator[None]:
    network.to(device)
    try:
        yield
    finally:
        network.to("cpu")


def _median(calls: list[Callable[[], Any]]) -> float:
    """Time calls, of which the first warms up, and return the median in milliseconds."""
    seconds = []
    with torch.no_grad():
        for call in calls:
            _wait()
            start = time.perf_counter()
            call()
            _wait()
            seconds.append(time.perf_counter() - start)
    return round(1000 * statistics.median(seconds[1:] or seconds), 2)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
