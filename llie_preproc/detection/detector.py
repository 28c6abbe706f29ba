"""The third door: a wrapper round any MMDetection detector, for trainable and enlarging enhancers."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

import torch
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from torch import Tensor

from ..enhancers.base import Enhancer
from ..inference import DEFAULT_WEIGHTS, build_enhancer, enhance_levels
from ..registry import MODELS
from .geometry import is_image_batch, scale_data_sample
from .wrapper import RAW, DetectorWrapper


@MODELS.register_module()
class EnhancedDetector(DetectorWrapper):
    """Any MMDetection 3.x detector behind an enhancer.

    The wrapper takes raw images. Each is enhanced alone, and the detector's own data preprocessor then normalises,
    pads and augments: all inside ``forward``, so that distributed training sees the enhancer's parameters. With an
    enhancer of scale s the detector works on the enlarged image, and boxes and masks come out in the raw frame.

    Attributes that the wrapper does not have are the detector's, so hooks that reach for ``model.bbox_head`` work.
    A checkpoint of the plain detector loads through the wrapper.

    Args:
        detector: Config of the detector, unchanged.
        enhancer: Name, config or instance.
        checkpoint: The enhancer's, as for :func:`llie_preproc.build_enhancer`.
        trainable: Train the enhancer with the detector's losses; frozen otherwise. A trained enhancer is not clamped
            in training mode.
        channel_order: Of the images that come from the pipeline: ``'bgr'`` (MMDetection's loading) or ``'rgb'``.
        precision, tile: As for :func:`llie_preproc.enhance`.
        min_matched: Least share of the detector's tensors that a loaded checkpoint must match.
        data_preprocessor: The detector's, where its config has none. (MMEngine's Runner passes a config file's
            top-level ``data_preprocessor`` here.)
        init_cfg: MMEngine's initialisation config.

    Raises:
        ValueError: ``trainable`` with an enhancer through which no gradient flows, or two data preprocessors that
            differ.
    """

    def __init__(
        self,
        detector: dict,
        enhancer: str | Mapping | Enhancer,
        checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
        trainable: bool = False,
        channel_order: str = "bgr",
        precision: str = "float32",
        tile: int | None = None,
        min_matched: float = 0.5,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor=dict(RAW), init_cfg=init_cfg)
        self.detector = MMDET_MODELS.build(_with_preprocessor(detector, data_preprocessor))
        self.enhancer = build_enhancer(enhancer, checkpoint)
        if trainable and not self.enhancer.capabilities.differentiable:
            raise ValueError(f"no gradient flows through {type(self.enhancer).__name__}: it cannot be trainable")
        if not trainable:
            self.enhancer.eval().requires_grad_(False)
        self.trainable, self.channel_order, self.precision = trainable, channel_order, precision
        self.min_matched, self.tile = min_matched, tile

    def train(self, mode: bool = True) -> EnhancedDetector:
        """Set the mode; a frozen enhancer stays in evaluation mode."""
        super().train(mode)
        if not self.trainable:
            self.enhancer.eval()
        return self

    def loss(self, batch_inputs: list[Tensor], batch_data_samples: list[DetDataSample]) -> dict:
        """The detector's losses on the enhanced images."""
        return self.detector.loss(*self._enhance(batch_inputs, batch_data_samples))

    def predict(
        self, batch_inputs: list[Tensor], batch_data_samples: list[DetDataSample], rescale: bool = True
    ) -> list[DetDataSample]:
        """The detector's predictions, in the raw frame where ``rescale``."""
        return self.detector.predict(*self._enhance(batch_inputs, batch_data_samples), rescale=rescale)

    def _forward(self, batch_inputs: list[Tensor], batch_data_samples: list[DetDataSample] | None = None) -> Any:
        return self.detector._forward(*self._enhance(batch_inputs, batch_data_samples))

    def extract_feat(self, batch_inputs: list[Tensor]) -> Any:
        """The detector's features of the enhanced images."""
        return self.detector.extract_feat(self._enhance(batch_inputs, None)[0])

    def _enhance(self, inputs: list[Tensor], samples: list[DetDataSample] | None) -> tuple[Tensor, Any]:
        if not is_image_batch(inputs):
            raise TypeError(
                "EnhancedDetector takes raw colour images, (3, H, W) tensors in a list; is another data preprocessor "
                "than the wrapper's own in front of it?"
            )
        trains = self.trainable and self.training
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            enhanced = enhance_levels(
                list(inputs),
                self.enhancer,
                channel_order=self.channel_order,
                clamp=not trains,
                precision=self.precision,
                tile=self.tile,
            )
        scaled = samples and [scale_data_sample(s, self.enhancer.scale) for s in samples]
        data = self.detector.data_preprocessor({"inputs": enhanced, "data_samples": scaled}, self.training)
        return data["inputs"], data["data_samples"]


def _with_preprocessor(detector: dict, outer: dict | None) -> dict:
    """The detector's config, with the data preprocessor that came from outside where it has none."""
    detector = copy.deepcopy(detector)
    if outer is None or outer.get("type") in ("BaseDataPreprocessor", RAW["type"]):
        return detector
    if detector.setdefault("data_preprocessor", outer) != outer:
        raise ValueError(
            "EnhancedDetector was given a data_preprocessor beside the one in its detector's config, and they differ: "
            "keep the detector's"
        )
    return detector
