"""Tiny detectors with weights on disk, for the training through frozen detectors, and what plain MMDetection gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from tests.support.mmdet_models import build, mmdet_config
from tests.support.random_pictures import dark_image, images

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
RETINANET = dict(
    type="RetinaNet",
    data_preprocessor=dict(type="DetDataPreprocessor", mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=32),
    backbone=dict(type="ResNet", depth=18, base_channels=4, stem_channels=4),
    neck=dict(type="FPN", in_channels=[4, 8, 16, 32], out_channels=8, num_outs=5),
    bbox_head=dict(type="RetinaHead", num_classes=2, in_channels=8, feat_channels=8, stacked_convs=1),
)
YOLOX = dict(
    type="YOLOX",
    data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32),
    backbone=dict(type="CSPDarknet", deepen_factor=0.33, widen_factor=0.125, out_indices=(2, 3, 4)),
    neck=dict(type="YOLOXPAFPN", in_channels=[32, 64, 128], out_channels=16, num_csp_blocks=1),
    bbox_head=dict(type="YOLOXHead", num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1),
)
NAMES = ("retinanet", "yolox", "faster_rcnn")


def tiny_model(name: str) -> dict[str, Any]:
    """The model of a tiny detector; the Faster R-CNN is that of MMDetection's own config, made narrow."""
    return mmdet_config(name).model if name == "faster_rcnn" else {"retinanet": RETINANET, "yolox": YOLOX}[name]


def write_detector(folder: Path, name: str) -> dict[str, str]:
    """Write the config and the weights of a tiny detector; returns the arguments of ``FrozenDetector``."""
    paths = dict(config=str(folder / f"{name}.py"), checkpoint=str(folder / f"{name}.pth"))
    Config(dict(model=tiny_model(name))).dump(paths["config"])
    torch.save({"state_dict": plain_detector(name).state_dict()}, paths["checkpoint"])
    return paths


def plain_detector(name: str) -> Any:
    """MMDetection's own detector with random weights, in evaluation mode, whose norms have seen some pictures.

    The weights of the head are larger than usual, so that scores depend on the picture.
    """
    model: Any = build(tiny_model(name), seed=2).train()
    head = getattr(model, "bbox_head", None) or model.rpn_head
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        # The statistics of a norm become those of the picture that it sees last.
        norm.momentum = 1.0
        norm.train()
    head(plain_features(model, [images(64, 96)[0], dark_image(64, 96)]))
    return model.eval()


def pictures_for(pictures: Sequence[Tensor], factor: float = 1.0) -> list[Tensor]:
    """Levels ``(3, H, W)`` BGR of pictures ``(3, H, W)`` RGB in [0, 1], as a pipeline of MMDetection packs them."""
    made = []
    for image in pictures:
        pixels = np.ascontiguousarray((255 * image).numpy()[::-1].transpose(1, 2, 0))
        size = [round(factor * n) for n in (image.shape[2], image.shape[1])]
        resized = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        made.append(torch.from_numpy(np.ascontiguousarray(resized.transpose(2, 0, 1))))
    return made


@torch.no_grad()
def plain_features(model: Any, pictures: Sequence[Tensor], factor: float = 1.0) -> Sequence[Tensor]:
    """What ``extract_feat`` of MMDetection's detector gives for pictures ``(3, H, W)`` RGB in [0, 1]."""
    data = model.data_preprocessor({"inputs": pictures_for(pictures, factor), "data_samples": None}, False)
    return model.extract_feat(data["inputs"])
