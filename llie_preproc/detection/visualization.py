"""Predictions drawn on the picture that the detector saw."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.dist import is_main_process
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from ..checks import at_least, one_of
from ..inference_options import CHANNEL_ORDERS
from ..mm.runner_parts import unwrapped
from ..registry import HOOKS
from .data_preprocessor import EnhancedDetDataPreprocessor
from .enhanced_detector import EnhancedDetector
from .geometry import is_image_batch


@HOOKS.register_module()
class EnhancedVisualizationHook(Hook):
    """Draws predictions on the enhanced picture; MMDetection's own hook draws them on the file.

    The picture is the detector's input before normalisation, at the input's size and without padding: what the
    pipeline gave, or, where the model enhances, its enhancement made once more for the pictures that are drawn alone.
    Predictions go from the raw frame into the picture's by ``scale_factor``. Every enhancement door is covered, and a
    plain detector. Where there are several processes, the first one draws of its share.

    Args:
        draw: Draw at all.
        interval: Draw every so many pictures, the first included, in validation and in testing.
        score_thr: Least score of a prediction that is drawn.
        show: Also show in a window.
        wait_time: Seconds that the window waits; 0: for a key.
        test_out_dir: In testing, write the drawings into this folder below ``<work_dir>/<timestamp>``, under the paths
            that the pictures have below the folder of their set (:class:`DrawingNames`), instead of handing them to
            the visualizer's backends.
        backend_args: Of the storage that ``side_by_side`` reads the raw pictures from.
        ground_truth: Draw the annotated boxes too, on a copy of the picture to the left.
        side_by_side: Put the raw picture, resized, with the same boxes to the left of the enhanced one.
        channel_order: Of the images that come from the pipeline: ``'bgr'`` (MMDetection's loading) or ``'rgb'``.

    Raises:
        ValueError: ``interval`` is below 1, or an unknown ``channel_order``. While drawing: a flipped picture or
            test-time augmentation, whose predictions are not in the picture's frame.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        score_thr: float = 0.3,
        show: bool = False,
        wait_time: float = 0.0,
        test_out_dir: str | os.PathLike[str] | None = None,
        backend_args: dict | None = None,
        ground_truth: bool = False,
        side_by_side: bool = False,
        channel_order: str = "bgr",
    ) -> None:
        at_least("interval", interval, 1)
        one_of("channel_order", channel_order, CHANNEL_ORDERS)
        self.draw, self.interval, self.score_thr, self.show, self.wait_time = draw, interval, score_thr, show, wait_time
        self.test_out_dir, self.backend_args, self.ground_truth = test_out_dir, backend_args, ground_truth
        self.side_by_side, self.channel_order = side_by_side, channel_order
        self._seen = 0
        self._dataset: Any = None
        self._positions: dict[Any, int] = {}
        self._names = DrawingNames()

    def before_val_epoch(self, runner: Runner) -> None:
        """Begin to count pictures."""
        self._begin(runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        """Begin to count pictures."""
        self._begin(runner.test_dataloader.dataset)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[DetDataSample] | None = None
    ) -> None:
        """Draw what is due of a batch."""
        for index, sample, image in self._due(data_batch, outputs):
            self._add(runner, image, sample, name="val_img", step=runner.iter + index)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[DetDataSample] | None = None
    ) -> None:
        """Draw what is due of a batch."""
        for index, sample, image in self._due(data_batch, outputs):
            target = None
            if self.test_out_dir is not None:
                folder = Path(runner.work_dir) / runner.timestamp / self.test_out_dir
                target = str(folder / self._names.of(sample.img_path))
            self._add(runner, image, sample, name="test_img", step=index, out_file=target)

    def _begin(self, dataset: Any) -> None:
        self._seen, self._dataset, self._positions = 0, dataset, {}
        self._names = DrawingNames(picture_folders(dataset))

    def _due(self, data_batch: Any, outputs: Sequence[DetDataSample] | None) -> list[tuple[int, DetDataSample, Tensor]]:
        """Running number, prediction and input of the pictures of a batch that are to be drawn."""
        samples = outputs or []
        first, self._seen = self._seen, self._seen + len(samples)
        if not self.draw or not is_main_process():
            return []
        inputs = data_batch["inputs"]
        if not is_image_batch(inputs):
            raise ValueError("EnhancedVisualizationHook draws colour images, (3, H, W), without test-time augmentation")
        numbered = enumerate(zip(samples, inputs, strict=True), first)
        return [(n, sample, image) for n, (sample, image) in numbered if n % self.interval == 0]

    def _add(self, runner: Runner, image: Tensor, sample: DetDataSample, **where: Any) -> None:
        if sample.get("flip"):
            raise ValueError(f"{sample.img_path}: EnhancedVisualizationHook does not draw on flipped pictures")
        height, width = _valid_size(sample)
        picture = self._seen_by_detector(runner.model, image)[:height, :width]
        drawn = DetDataSample(pred_instances=_into_frame(sample.pred_instances, sample, picture.shape[:2]))
        if self.ground_truth:
            drawn.gt_instances = _into_frame(self._annotated(sample.img_id), sample, picture.shape[:2])
        if self.side_by_side:
            raw = mmcv.imfrombytes(get(sample.img_path, backend_args=self.backend_args), channel_order="rgb")
            for name, instances in drawn.items():
                setattr(drawn, name, _on_both(instances, picture.shape[1]))
            picture = np.concatenate([mmcv.imresize(raw, picture.shape[1::-1]), picture], axis=1)
        runner.visualizer.add_datasample(
            image=picture,
            data_sample=drawn,
            draw_gt=self.ground_truth,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            **where,
        )

    @torch.no_grad()
    def _seen_by_detector(self, model: Any, image: Tensor) -> np.ndarray:
        """The input of the detector, RGB uint8 ``(H, W, 3)``."""
        model = unwrapped(model)
        order = self.channel_order
        for door in (model, model.data_preprocessor):
            if isinstance(door, EnhancedDetector | EnhancedDetDataPreprocessor):
                order = door.options.channel_order
                image = door.enhance_images([image.to(model.data_preprocessor.device)])[0]
        rgb = image.flip(0) if order == "bgr" else image
        levels = rgb.float().round().clamp(0, 255).to(torch.uint8)
        return np.ascontiguousarray(levels.permute(1, 2, 0).cpu().numpy())

    def _annotated(self, image_id: Any) -> InstanceData:
        """The annotated boxes of a picture in the raw frame, from the dataset: a pipeline may leave them in any."""
        if not self._positions:
            self._positions = {self._dataset.get_data_info(i)["img_id"]: i for i in range(len(self._dataset))}
        instances = self._dataset.get_data_info(self._positions[image_id])["instances"]
        kept = [each for each in instances if not each.get("ignore_flag")]
        return InstanceData(
            bboxes=torch.tensor([each["bbox"] for each in kept], dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([each["bbox_label"] for each in kept], dtype=torch.int64),
        )


class DrawingNames:
    """The files of drawings: for each picture another one, and none outside of the folder that they are put into.

    A drawing has the path that its picture has below the folder of its set; where the pictures come from several
    folders, below the innermost folder that holds them all. A picture from elsewhere has its whole path below
    ``elsewhere``.

    Args:
        folders: Folders of the pictures, :func:`picture_folders`.

    >>> names = DrawingNames(["/data/set"])
    >>> [names.of(path).as_posix() for path in ("/data/set/cam1/1.png", "/data/set/cam2/1.png", "/data/set/../1.png")]
    ['cam1/1.png', 'cam2/1.png', 'elsewhere/data/1.png']
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]] = ()) -> None:
        self._root: str | None = None
        # No folders at all, or folders on several drives, have none in common.
        with contextlib.suppress(ValueError):
            self._root = os.path.commonpath([_absolute(folder) for folder in folders])
        self._owners: dict[Path, str] = {}

    def of(self, picture: str | os.PathLike[str]) -> Path:
        """The relative path of the drawing of ``picture``; the same for the same picture."""
        source = _absolute(picture)
        if self._root is not None and source.is_relative_to(self._root) and source != Path(self._root):
            name = source.relative_to(self._root)
        else:
            name = Path("elsewhere", *source.parts[1:])
        free, number = name, 2
        while self._owners.setdefault(free, os.fspath(source)) != os.fspath(source):
            free, number = name.with_name(f"{name.stem}_{number}{name.suffix}"), number + 1
        return free


def _absolute(path: str | os.PathLike[str]) -> Path:
    # Links are not followed: what a link in the set points to may lie anywhere.
    return Path(os.path.normpath(Path.cwd() / path))


def picture_folders(dataset: Any) -> list[str]:
    """The folders of a set's pictures as its ``data_prefix`` names them; of a joined set those of all."""
    inner = [dataset.dataset] if hasattr(dataset, "dataset") else getattr(dataset, "datasets", ())
    prefixes = getattr(dataset, "data_prefix", None) or {}
    own = [prefixes[key] for key in ("img", "img_path") if prefixes.get(key)]
    return own + [folder for each in inner for folder in picture_folders(each)]


def _valid_size(sample: DetDataSample) -> tuple[int, int]:
    """Height and width of the picture in the detector's input, which padding may exceed."""
    width_factor, height_factor = sample.get("scale_factor", (1.0, 1.0))
    height, width = sample.ori_shape[:2]
    return round(height * height_factor), round(width * width_factor)


def _into_frame(instances: InstanceData, sample: DetDataSample, size: Sequence[int]) -> InstanceData:
    """Boxes and masks of the raw frame in that of the detector's input, which is ``size`` (height, width)."""
    moved = instances.clone().cpu()
    factor = torch.tensor(sample.get("scale_factor", (1.0, 1.0)), dtype=torch.float32).repeat(2)
    moved.bboxes = moved.bboxes * factor
    if "masks" in moved and len(moved):
        moved.masks = F.interpolate(moved.masks[:, None].float(), size=tuple(size), mode="nearest")[:, 0] > 0.5
    elif "masks" in moved:
        del moved.masks
    return moved


def _on_both(instances: InstanceData, width: int) -> InstanceData:
    """The instances on both halves of a picture of ``width`` each."""
    right = instances.clone()
    right.bboxes = right.bboxes + torch.tensor([width, 0.0, width, 0.0])
    if "masks" in right:
        empty = torch.zeros_like(right.masks)
        instances.masks, right.masks = torch.cat([instances.masks, empty], -1), torch.cat([empty, right.masks], -1)
    return InstanceData.cat([instances, right])
