"""Face detection by any MMDetection detector that has a class of faces."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ..class_names import match_classes
from ..errors import needs
from .face_detector import Faces, check_images

with needs("llie_preproc.faces.MMDetFaceDetector"):
    from mmcv.transforms import Compose
    from mmdet.structures import DetDataSample
    from mmdet.utils import get_test_pipeline_cfg
    from mmengine.config import Config
    from mmengine.registry import DefaultScope

from ..config_doors import refuse_second_door
from ..config_files import read_config_file
from ..config_nodes import type_name
from ..detection.coco_sets import dataset_classes, inner_datasets
from ..detection.trained_detector import build_trained_detector


class MMDetFaceDetector:
    """A face detector that runs a detector of MMDetection 3.x with the test pipeline and settings of its config.

    An enhanced config (:func:`llie_preproc.detection.add_enhancer`) works like any other, also with super-resolution.

    Args:
        config: Config of the detector: the path of a file, the name of a package's config (``mmdet::...``), or a
            config, which is not changed.
        checkpoint: File that MMEngine wrote or that holds a state dict, or a URL of such a file, ending in
            ``#sha256=<digest>``. No code of the file is run. None keeps the weights that the config builds.
        device: Device that the detector runs on.
        classes: Names of the classes that are faces, in any spelling (:mod:`llie_preproc.class_names`).
        score_thr: Smallest confidence of a face; the config's own threshold (``test_cfg.score_thr``) is applied first.
        cfg_options: Keys and values that replace those of the config.
        batch_size: Number of images that run together if they have the same size after the pipeline. Images are never
            padded to a common size, so that the faces of an image do not depend on other images.

    Raises:
        FileNotFoundError: The config or the checkpoint does not exist.
        TypeError: ``config`` has another type.
        ValueError: The config cannot be read or is not that of a detector, the detector lacks a class, or an option is
            out of its range.
        CheckpointError: The checkpoint is damaged or unsafe, or does not fit.

    Examples:
        >>> model = dict(
        ...     type="RetinaNet",
        ...     data_preprocessor=dict(type="DetDataPreprocessor"),
        ...     backbone=dict(type="ResNet", depth=18, base_channels=4, stem_channels=4),
        ...     neck=dict(type="FPN", in_channels=[4, 8, 16, 32], out_channels=8, num_outs=5),
        ...     bbox_head=dict(type="RetinaHead", num_classes=1, in_channels=8, feat_channels=8),
        ...     test_cfg=dict(nms_pre=9, score_thr=0.9, nms=dict(type="nms", iou_threshold=0.5), max_per_img=9),
        ... )
        >>> pipeline = [dict(type="LoadImageFromFile"), dict(type="PackDetInputs")]
        >>> dataset = dict(type="CocoDataset", metainfo=dict(classes=("face",)), pipeline=pipeline)
        >>> detector = MMDetFaceDetector(Config(dict(model=model, test_dataloader=dict(dataset=dataset))))
        >>> detector.detect([np.zeros((64, 64, 3), np.uint8)])[0].boxes.shape
        (0, 4)
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Config,
        checkpoint: str | os.PathLike[str] | None = None,
        device: str | torch.device = "cpu",
        classes: Sequence[str] = ("face",),
        score_thr: float = 0.0,
        cfg_options: Mapping[str, Any] | None = None,
        batch_size: int = 4,
    ) -> None:
        if not 0 <= score_thr <= 1 or batch_size < 1:
            raise ValueError(f"score_thr must be in [0, 1] and batch_size positive, got {score_thr} and {batch_size}")
        if isinstance(classes, str):
            classes = (classes,)
        self.score_thr, self.batch_size = score_thr, batch_size
        cfg = _read(config, cfg_options)
        model, names = build_trained_detector(cfg, checkpoint)
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope") or "mmdet"):
            self._pipeline = Compose(_for_arrays(cfg))
            names = names or dataset_classes(inner_datasets(cfg.test_dataloader.dataset)[0])
        self._labels = _labels(names, classes)
        self.model: Any = model.to(device).eval()

    def detect(self, images: Sequence[np.ndarray]) -> list[Faces]:
        """Find the faces in images ``(H, W, 3)`` RGB uint8 of any sizes.

        Raises:
            TypeError: An image is not an array, or not uint8.
            ValueError: An image has another shape.
        """
        check_images(images)
        results = [Faces.none() for _ in images]
        waiting: dict[tuple[int, ...], list[tuple[int, dict]]] = {}
        for index, image in enumerate(images):
            packed = self._pack(image, index)
            batch = waiting.setdefault(tuple(packed["inputs"].shape), [])
            batch.append((index, packed))
            if len(batch) == self.batch_size:
                self._run(batch, results)
                batch.clear()
        for batch in waiting.values():
            self._run(batch, results)
        return results

    def _pack(self, image: np.ndarray, index: int) -> dict:
        # MMDetection loads pictures as BGR. Heads need the scale factor, which a pipeline without resize does not set.
        bgr = np.ascontiguousarray(image[..., ::-1])
        return self._pipeline(dict(img=bgr, img_id=index, scale_factor=(1.0, 1.0)))

    @torch.no_grad()
    def _run(self, batch: list[tuple[int, dict]], results: list[Faces]) -> None:
        if not batch:
            return
        data = {key: [packed[key] for _, packed in batch] for key in ("inputs", "data_samples")}
        for (index, _), sample in zip(batch, self.model.test_step(data), strict=True):
            results[index] = self._faces(sample)

    def _faces(self, sample: DetDataSample) -> Faces:
        found = sample.pred_instances.cpu()
        boxes = torch.as_tensor(getattr(found.bboxes, "tensor", found.bboxes))
        kept = torch.isin(found.labels, self._labels) & (found.scores >= self.score_thr)
        return Faces(boxes[kept].float().numpy(), found.scores[kept].float().numpy())


def _read(config: str | os.PathLike[str] | Config, options: Mapping[str, Any] | None) -> Config:
    """Read the config, or copy it."""
    if isinstance(config, Config):
        cfg = copy.deepcopy(config)
    elif not isinstance(config, str | os.PathLike):
        raise TypeError(f"config must be a config file or an MMEngine Config, got {type(config).__name__}")
    else:
        cfg = read_config_file(os.fspath(config))
    if options:
        cfg.merge_from_dict(dict(options))
    if not isinstance(cfg.get("model"), Mapping) or "test_dataloader" not in cfg:
        raise ValueError(f"{_name(cfg)} is not the config of a detector: it needs 'model' and 'test_dataloader'")
    refuse_second_door(cfg, _name(cfg))
    return cfg


def _name(cfg: Config) -> str:
    return cfg.filename or "the config"


def _for_arrays(cfg: Config) -> list[dict]:
    """The test pipeline, changed to start from an array instead of a file, and without annotations."""
    steps = [step for step in get_test_pipeline_cfg(cfg) if "Annotations" not in type_name(step)]
    loaders = [index for index, step in enumerate(steps) if type_name(step) == "LoadImageFromFile"]
    if len(loaders) != 1:
        kinds = [type_name(step) for step in steps]
        raise ValueError(f"{_name(cfg)}: the test pipeline must have one LoadImageFromFile, got {kinds}")
    loader = {key: value for key, value in steps[loaders[0]].items() if key == "to_float32"}
    steps[loaders[0]] = dict(loader, type="mmdet.LoadImageFromNDArray")
    return steps


def _labels(names: tuple[str, ...], classes: Sequence[str]) -> torch.Tensor:
    if not classes:
        raise ValueError(f"classes must name at least one class; the detector has: {', '.join(names)}")
    missing = list(classes)
    with contextlib.suppress(ValueError):
        match = match_classes(names, classes, "classes")
        missing = match.unknown
    if missing:
        raise ValueError(f"the detector has no class {', '.join(missing)}; it has: {', '.join(names) or 'no names'}")
    return torch.tensor([names.index(name) for each in match.shared for name in each.detector])
