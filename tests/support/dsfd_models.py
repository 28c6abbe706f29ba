"""Configs of the published networks of the face detector DSFD and of thin ones, and raw samples for them."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

import llie_preproc  # noqa: F401  must come before mmdet: it provides a stand-in for mmcv's operators

register_all_modules()

VGG_CHANNELS = (256, 512, 512, 1024, 512, 256)
RESNET_CHANNELS = (256, 512, 1024, 2048, 512, 256)
TRAIN = dict(
    assigner=dict(type="llie_preproc.FaceAnchorAssigner"),
    sampler=dict(type="mmdet.PseudoSampler"),
    smoothl1_beta=1.0,
    allowed_border=-1,
    pos_weight=-1,
    neg_pos_ratio=3,
)
TEST = dict(score_thr=0.05, nms_pre=5000, nms=dict(type="nms", iou_threshold=0.3), max_per_img=750)


def paper_vgg(**changes: Any) -> dict:
    """Config of the paper's form on VGG-16."""
    return _model(dict(type="llie_preproc.DSFDVGG"), dict(), dict(), **changes)


def paper_resnet(depth: int = 152, **changes: Any) -> dict:
    """Config of the paper's form on a ResNet."""
    return _model(
        dict(type="llie_preproc.DSFDResNet", depth=depth),
        dict(in_channels=RESNET_CHANNELS[:4], l2_norm=None),
        dict(in_channels=RESNET_CHANNELS),
        **changes,
    )


def release_resnet(depth: int = 152, **changes: Any) -> dict:
    """Config of the public release's form on a ResNet."""
    return _release(
        dict(type="llie_preproc.DSFDResNet", depth=depth),
        dict(
            in_channels=RESNET_CHANNELS[:4],
            extra_channels=((512, 512), (128, 256)),
            extra_norm_cfg=dict(type="BN"),
            l2_norm=None,
        ),
        **changes,
    )


def release_vgg(**changes: Any) -> dict:
    """Config of the public release's options on VGG-16."""
    return _release(dict(type="llie_preproc.DSFDVGG", fc6_dilation=1), dict(l2_norm="fused"), **changes)


def tiny(width: int = 8, **changes: Any) -> dict:
    """Config of the paper's form on VGG-16, with ``width`` channels in place of 64."""
    vgg = tuple(c * width // 64 for c in VGG_CHANNELS)
    return _model(
        dict(
            type="llie_preproc.DSFDVGG",
            widths=(width, 2 * width, 4 * width, 8 * width, 8 * width),
            fc_width=16 * width,
        ),
        dict(in_channels=vgg[:4], extra_channels=((4 * width, 8 * width), (2 * width, 4 * width))),
        dict(in_channels=vgg),
        **changes,
    )


def tiny_release(width: int = 4, depth: int = 50, **changes: Any) -> dict:
    """Config of the release's form on a ResNet, with ``width`` channels in place of 64.

    Its residual blocks are not initialised to zero, so that they have an effect before training.
    """
    channels = tuple(c * width // 64 for c in RESNET_CHANNELS)
    model = _release(
        dict(type="llie_preproc.DSFDResNet", depth=depth, base_channels=width, zero_init_residual=False),
        dict(
            in_channels=channels[:4],
            extra_channels=((8 * width, 8 * width), (2 * width, 4 * width)),
            l2_norm=None,
            extra_norm_cfg=dict(type="BN"),
            fem_width=4 * width,
        ),
        **changes,
    )
    model["bbox_head"].update(in_channels=(8 * width,) * 6, feat_channels=4 * width)
    return model


def thin_release_vgg(width: int = 4) -> dict:
    """Config of the public release's options on VGG-16, with ``width`` channels in place of 64."""
    model, thin = release_vgg(), tiny(width)
    model["backbone"] = dict(thin["backbone"], fc6_dilation=1)
    model["neck"].update(in_channels=thin["neck"]["in_channels"], extra_channels=thin["neck"]["extra_channels"])
    model["neck"].update(fem_width=4 * width)
    model["bbox_head"].update(in_channels=(8 * width,) * 6, feat_channels=4 * width)
    return model


def _release(backbone: dict, neck: dict, **changes: Any) -> dict:
    neck = dict(neck, fpn_levels=3, fpn_relu=False, fem="tree", align_corners=True)
    model = _model(backbone, neck, dict(form="deep_mio", in_channels=(512,) * 6))
    coder = dict(type="mmdet.DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2), clip_border=False)
    model["bbox_head"]["bbox_coder"] = coder
    model["test_cfg"].update(score_thr=0.01, clip_priors=True)
    return dict(model, **changes)


def _model(backbone: dict, neck: dict, head: dict, **changes: Any) -> dict:
    model = dict(
        type="llie_preproc.DSFD",
        # BGR order and the ImageNet means of both implementations; no division.
        data_preprocessor=dict(
            type="mmdet.DetDataPreprocessor", mean=[104.0, 117.0, 123.0], std=[1.0, 1.0, 1.0], bgr_to_rgb=False
        ),
        backbone=backbone,
        neck=dict(type="llie_preproc.DSFDNeck", **neck),
        bbox_head=dict(type="llie_preproc.DSFDHead", **head),
        train_cfg=copy.deepcopy(TRAIN),
        test_cfg=copy.deepcopy(TEST),
    )
    return dict(model, **changes)


def build(model: dict, seed: int = 0) -> torch.nn.Module:
    """A detector in evaluation mode, initialised by MMEngine, whose weights depend only on ``seed``.

    Batch normalisation gets the statistics of random images: without them the maps of an untrained network explode.
    """
    torch.manual_seed(seed)
    detector = MODELS.build(copy.deepcopy(model)).eval()
    logging.disable(logging.INFO)  # MMEngine logs a line for every tensor
    try:
        detector.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    norms = [m for m in detector.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    if norms:
        for norm in norms:
            norm.train().momentum = None
        with torch.no_grad():
            # A wrapper takes levels 0 to 255, but these pictures are normalised, so the detector inside it is called.
            getattr(detector, "detector", detector).extract_feat(torch.randn(4, 3, 128, 160) * 60)
        detector.eval()
    return detector


def raw_batch(sizes: list[tuple[int, int]] = [(128, 160), (128, 160)], seed: int = 0, faces: int = 2) -> dict:  # noqa: B006
    """A batch as ``pseudo_collate`` makes it: uint8 BGR ``(3, H, W)`` images, and samples with ``faces`` upright boxes
    each.
    """
    rng = np.random.default_rng(seed)
    inputs, samples = [], []
    for i, (height, width) in enumerate(sizes):
        inputs.append(torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8)))
        sample = DetDataSample(
            metainfo=dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0), img_id=i)
        )
        corners = rng.uniform(0, 0.5, (faces, 2)) * (width, height)
        sides = rng.uniform(0.1, 0.4, (faces, 1)) * width * np.array([[1.0, 1.4]])
        boxes = torch.from_numpy(np.concatenate([corners, corners + sides], 1)).float()
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(faces).long())
        sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}
