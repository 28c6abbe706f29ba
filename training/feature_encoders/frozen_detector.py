"""A frozen detector of MMDetection, whose features and scores training compares."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.config import Config
from torch import Tensor
from torch.nn import functional

from llie_preproc.checks import at_least, each, one_of, rising
from llie_preproc.config_doors import find_enhancement
from llie_preproc.config_files import read_config_file
from llie_preproc.errors import one_line, require
from llie_preproc.out_of_memory import is_out_of_memory

from .base import FrozenModule


class FrozenDetector(FrozenModule):
    """A detector of MMDetection 3.x whose weights take no gradient; gradients reach the pictures.

    >>> from mmengine.config import Config
    >>> model = dict(
    ...     type="RetinaNet",
    ...     data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
    ...     backbone=dict(type="ResNet", depth=18, base_channels=4, stem_channels=4),
    ...     neck=dict(type="FPN", in_channels=[4, 8, 16, 32], out_channels=8, num_outs=5),
    ...     bbox_head=dict(type="RetinaHead", num_classes=1, in_channels=8, feat_channels=8),
    ... )
    >>> import torch
    >>> detector = FrozenDetector(config=Config(dict(model=model)), checkpoint=None, levels=(0, 1))
    >>> features = detector.features(torch.rand(1, 3, 64, 96))
    >>> [features[level].shape for level in detector.levels]
    [torch.Size([1, 8, 16, 24]), torch.Size([1, 8, 8, 12])]
    >>> detector.scores(features)[0].shape
    torch.Size([1, 9, 16, 24])

    Args:
        config: Config of the detector without an enhancer: the path of a file, the name of a package's config
            (``mmdet::yolox/yolox_nano_8xb8-300e_coco.py``), or a config. Its pictures must be read in the order BGR, as
            MMDetection reads them.
        checkpoint: Weights, as for :func:`llie_preproc.detection.trained_detector.build_trained_detector`. None, random
            weights, is for tests.
        levels: Indices of the feature maps of ``extract_feat`` that are compared, from 0, the finest. None chooses all.
        scales: Range of the factor by which pictures are resized for the detector. Its config resizes whole pictures,
            so this is the range of that factor: 640x480 pictures reach a detector of 416x416 with the factor 0.65.
        cfg_options: Keys and values that replace those of the config.

    Raises:
        FileNotFoundError: The config or the checkpoint does not exist.
        ValueError: The config is not that of a plain detector, a level or a scale is out of its range, there is no
            level, or a level is named twice.
        CheckpointError: The checkpoint is damaged or unsafe, or does not fit.
    """

    def __init__(
        self,
        *,
        config: str | os.PathLike[str] | Config,
        checkpoint: str | os.PathLike[str] | None,
        levels: Sequence[int] | None = None,
        scales: Sequence[float] = (1.0, 1.0),
        cfg_options: Mapping[str, Any] | None = None,
    ) -> None:
        require("mmdet", "training through a detector")
        # MMDetection takes seconds to import, and other methods do not need it.
        from llie_preproc.detection.trained_detector import build_trained_detector

        super().__init__()
        rising("scales", scales, above=0)
        cfg = copy.deepcopy(config) if isinstance(config, Config) else read_config_file(os.fspath(config))
        cfg.merge_from_dict(dict(cfg_options or {}))
        name = cfg.filename or "the config"
        if not isinstance(cfg.get("model"), Mapping):
            raise ValueError(f"{name} is not the config of a detector: it has no model")
        if found := find_enhancement(cfg):
            raise ValueError(f"{name} enhances already ({found}): name the plain config of the detector")
        self.model: Any = build_trained_detector(cfg, checkpoint)[0].requires_grad_(False).eval()
        self.scales = float(scales[0]), float(scales[1])
        self.levels = self._checked(levels)

    def features(self, images: Tensor) -> Sequence[Tensor]:
        """All feature maps ``(N, C, h, w)`` of pictures ``(N, 3, H, W)`` RGB in [0, 1], which may leave the range.

        Raises:
            ValueError: The detector cannot take pictures of this size. SSD, for example, needs 300 pixels.
        """
        levels = list(255 * images.flip(1))
        inputs = self.model.data_preprocessor({"inputs": levels, "data_samples": None}, False)["inputs"]
        try:
            return self.model.extract_feat(inputs)
        except RuntimeError as error:
            if is_out_of_memory(error) or "size" not in str(error):
                raise
            height, width = images.shape[-2:]
            raise ValueError(
                f"{type(self.model).__name__} cannot take pictures of {width}x{height} pixels ({one_line(error)}): use "
                "larger crops, or other scales of the detector"
            ) from error

    def scores(self, features: Sequence[Tensor]) -> list[Tensor]:
        """The logits ``(N, C, h, w)`` of the classes for each feature map, then those of objectness if it has any.

        Raises:
            ValueError: As :meth:`score_head`.
        """
        head = self.score_head()
        classes, _, *others = head(features)
        anchors = classes[0].shape[1] // head.cls_out_channels
        # A third list with one channel for each anchor is objectness (YOLOX) or centre-ness (FCOS, ATSS). That of other
        # heads refines boxes (VFNet, RepPoints) or describes masks (YOLACT).
        scores = others[0] if others and others[0][0].shape[1] == anchors else []
        return [*classes, *scores]

    def score_head(self) -> Any:
        """The dense head whose scores are compared.

        Raises:
            ValueError: The detector has no dense head that returns logits of independent (sigmoid) scores.
        """
        head: Any = getattr(self.model, "bbox_head", None) or getattr(self.model, "rpn_head", None)
        # TOOD's head returns probabilities, and its loss says so.
        activated = getattr(getattr(head, "loss_cls", None), "activated", False)
        if activated or not getattr(head, "use_sigmoid_cls", False):
            raise ValueError(
                f"{type(self.model).__name__} has no dense head with logits of independent (sigmoid) scores: set "
                "score_weight=0"
            )
        return head

    def resized(self, images: Tensor, draw: float) -> Tensor:
        """Pictures ``(N, 3, H, W)`` at the scale that ``draw`` in [0, 1) chooses; bilinear, as OpenCV resizes."""
        low, high = self.scales
        factor = low + (high - low) * draw
        if factor == 1:
            return images
        size = [max(1, round(factor * n)) for n in images.shape[-2:]]
        return functional.interpolate(images, size, mode="bilinear", align_corners=False)

    def _checked(self, levels: Sequence[int] | None) -> tuple[int, ...]:
        """The chosen levels."""
        # SSD's deepest layers need pictures of 300 pixels.
        number = len(self.features(next(self.model.parameters()).new_zeros(1, 3, 320, 320)))
        if levels is None:
            return tuple(range(number))
        each("levels", levels, lambda name, level: one_of(name, level, range(number)))
        at_least("the number of levels", len(levels), 1)
        if len(set(levels)) < len(levels):
            raise ValueError(f"levels must name each level once, got {tuple(levels)}")
        return tuple(levels)
