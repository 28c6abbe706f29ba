"""Detectors from the installed MMDetection's own configs, and raw inputs as a pipeline packs them."""

import copy
from pathlib import Path

import mmdet
import numpy as np
import torch
from mmdet.models.detectors import BaseDetector
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch.nn import functional as F

import llie_preproc  # noqa: F401  must come before mmdet: it provides a stand-in for mmcv's operators
from llie_preproc.config_nodes import nodes
from tests.support.configs import read_config

CONFIGS = {
    "faster_rcnn": "faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py",
    "retinanet": "retinanet/retinanet_r50_fpn_1x_coco.py",
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "cascade_mask_rcnn": "cascade_rcnn/cascade-mask-rcnn_r50_fpn_1x_coco.py",
    "detr": "detr/detr_r50_8xb2-150e_coco.py",
    "yolox": "yolox/yolox_tiny_8xb8-300e_coco.py",
}


register_all_modules()


def mmdet_config(name: str) -> Config:
    """A config of the installed MMDetection, made narrow, without pretrained weights and without a score threshold."""
    cfg = read_config(Path(mmdet.__file__).parent / ".mim" / "configs" / CONFIGS[name])
    for node in nodes(cfg.model):
        if node.get("fc_out_channels"):
            node.fc_out_channels = 32
        if "score_thr" in node:
            node.update(score_thr=0.0, max_per_img=20, nms_pre=50)
        if node.get("layer_cfg"):
            node.num_layers = 1
    cfg.model.backbone.pop("init_cfg", None)
    if cfg.model.backbone.type == "ResNet" and "caffe" not in CONFIGS[name]:
        narrow_resnet(cfg.model)
    return cfg


def narrow_resnet(model: dict) -> None:
    """Make a detector on a ResNet shallow and narrow, with its feature pyramid if it has one."""
    model.backbone.update(depth=18, base_channels=16, stem_channels=16)
    widths = [16, 32, 64, 128]
    if len(model.neck.in_channels) == 1:
        model.neck.in_channels = widths[-1:]
        return
    model.neck.in_channels = widths
    narrow_pyramid(model)


def narrow_pyramid(model: dict) -> None:
    """Reduce all layers that are as wide as the feature pyramid, 256 channels, to 32 channels."""
    keys = ("in_channels", "out_channels", "feat_channels", "conv_out_channels", "conv_channels")
    for node in nodes(model):
        node.update({key: 32 for key in keys if node.get(key) == 256})
        if node.get("type") == "QuasiDenseEmbedHead":
            # This head has 256 channels by default, without a key in the config.
            node.update(in_channels=32, conv_out_channels=32)
        if node.get("fc_out_channels"):
            node["fc_out_channels"] = 32


def build(model: dict, seed: int = 0) -> torch.nn.Module:
    """A detector with weights that depend only on ``seed``."""
    torch.manual_seed(seed)
    return MODELS.build(copy.deepcopy(model))


def holds(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    """Whether a model has every tensor of ``state``, bit for bit."""
    own = model.state_dict()
    return all(torch.equal(tensor, own[name]) for name, tensor in state.items())


def raw_batch(sizes: list[tuple[int, int]] = [(96, 128), (80, 96)], seed: int = 0) -> dict:  # noqa: B006
    """A batch of ``pseudo_collate``: uint8 BGR ``(3, H, W)`` images, and samples with two boxes and masks each."""
    rng = np.random.default_rng(seed)
    inputs, samples = [], []
    for i, (height, width) in enumerate(sizes):
        inputs.append(torch.from_numpy(rng.integers(0, 120, (3, height, width), dtype=np.uint8)))
        boxes = torch.tensor([[8.0, 8.0, 40.0, 56.0], [30.0, 20.0, 76.0, 72.0]])
        masks = np.zeros((2, height, width), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        shapes = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0), img_id=i)
        sample = DetDataSample(metainfo=shapes)
        sample.gt_instances = InstanceData(
            bboxes=HorizontalBoxes(boxes), labels=torch.tensor([1, 5]), masks=BitmapMasks(masks, height, width)
        )
        sample.ignored_instances = InstanceData(bboxes=HorizontalBoxes(torch.zeros(0, 4)), labels=torch.zeros(0).long())
        samples.append(sample)
    return {"inputs": inputs, "data_samples": samples}


class TestTimeDetector(BaseDetector):
    """A detector without parameters that cannot be trained; subclasses write ``predict``."""

    __test__ = False

    def loss(self, batch_inputs, batch_data_samples):
        raise RuntimeError("not trained")

    def _forward(self, batch_inputs, batch_data_samples=None):
        raise RuntimeError("not used")

    def extract_feat(self, batch_inputs):
        raise RuntimeError("not used")


@MODELS.register_module(force=True)
class PerfectDetector(TestTimeDetector):
    """Finds the ground truth of its input frame, and rescales it as MMDetection's heads do."""

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        for sample in batch_data_samples:
            height, width = sample.img_shape[:2]
            assert batch_inputs.shape[-2] >= height
            assert batch_inputs.shape[-1] >= width
            factor = torch.tensor(sample.get("scale_factor", (1.0, 1.0))).repeat(2)
            truth = sample.gt_instances
            found = InstanceData(bboxes=torch.as_tensor(truth.bboxes) / factor, labels=truth.labels)
            found.scores = torch.ones(len(truth))
            if "masks" in truth:
                masks = torch.as_tensor(truth.masks.to_ndarray()[:, :height, :width]).float()
                found.masks = F.interpolate(masks[None], size=sample.ori_shape[:2], mode="nearest")[0] > 0.5
            sample.pred_instances = found
        return batch_data_samples


PERFECT = dict(type="PerfectDetector", data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=32))
"""Config of a :class:`PerfectDetector` that pads as most detectors do."""
