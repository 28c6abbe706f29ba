"""Drawing predictions on the picture that the detector saw."""

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
    """Draw predictions on the enhanced picture, while MMDetection's own hook draws them on the stored one.

    The picture is the detector's input before normalisation, at the input's size and without padding. It is the image
    from the pipeline or, if the model enhances, its enhancement, which is computed again for the pictures that are
    drawn. Predictions are moved from the raw frame to the picture's by ``scale_factor``. The enhancer may be in the
    pipeline, in the data preprocessor or in a wrapper; a plain detector works too. With several processes, only the
    first one draws, from its own share.

    Args:
        draw: Whether anything is drawn.
        interval: Interval of the pictures that are drawn in validation and in testing, beginning with the first one.
        score_thr: Smallest score of a prediction that is drawn.
        show: Whether drawings are also shown in a window.
        wait_time: Seconds that the window stays; 0 waits for a key.
        test_out_dir: Folder below ``<work_dir>/<timestamp>`` that drawings are written to in testing, instead of being
            passed to the visualizer's backends. They have the paths that their pictures have below the folder of their
            set (:class:`DrawingNames`).
        backend_args: Arguments of the storage from which ``side_by_side`` reads the raw pictures.
        ground_truth: Whether the annotated boxes are drawn too, on a copy of the picture to the left.
        side_by_side: Whether the raw picture, resized and with the same boxes, stands to the left of the enhanced one.
        channel_order: Channel order of the images from the pipeline: ``'bgr'``, as MMDetection loads them, or
            ``'rgb'``. A model that enhances has its own.

    Raises:
        ValueError: ``interval`` is below 1, or ``channel_order`` is unknown. While drawing: a picture is flipped or
            augmented at test time, so that its predictions are not in the picture's frame.

    Examples:
        >>> config = dict(type="llie_preproc.EnhancedVisualizationHook", draw=True, side_by_side=True)
        >>> hook = HOOKS.build(config)
        >>> hook.interval, hook.channel_order
        (50, 'bgr')
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
        """Start to count pictures."""
        self._begin(runner.val_dataloader.dataset)

    def before_test_epoch(self, runner: Runner) -> None:
        """Start to count pictures."""
        self._begin(runner.test_dataloader.dataset)

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[DetDataSample] | None = None
    ) -> None:
        """Draw those pictures of a batch that the interval selects."""
        for index, sample, image in self._due(data_batch, outputs):
            self._add(runner, image, sample, name="val_img", step=runner.iter + index)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[DetDataSample] | None = None
    ) -> None:
        """Draw those pictures of a batch that the interval selects."""
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
        """The annotated boxes of a picture in the raw frame, from the dataset, because a pipeline may move them."""
        if not self._positions:
            self._positions = {self._dataset.get_data_info(i)["img_id"]: i for i in range(len(self._dataset))}
        instances = self._dataset.get_data_info(self._positions[image_id])["instances"]
        kept = [each for each in instances if not each.get("ignore_flag")]
        return InstanceData(
            bboxes=torch.tensor([each["bbox"] for each in kept], dtype=torch.float32).reshape(-1, 4),
            labels=torch.tensor([each["bbox_label"] for each in kept], dtype=torch.int64),
        )


class DrawingNames:
    """Names for the files of drawings, which differ for different pictures and never lead outside their folder.

    A drawing has the path that its picture has below the folder of its set or, with several folders, below the
    innermost folder that holds them all. A picture from elsewhere has its whole path below ``elsewhere``.

    Args:
        folders: Folders of the pictures, as from :func:`picture_folders`.

    Examples:
        >>> names = DrawingNames(["/data/set"])
        >>> [names.of(path).as_posix() for path in ("/data/set/cam1/1.png", "/data/set/../1.png")]
        ['cam1/1.png', 'elsewhere/data/1.png']
    """

    def __init__(self, folders: Sequence[str | os.PathLike[str]] = ()) -> None:
        self._root: str | None = None
        # Without folders, or with folders on several drives, there is no common one.
        with contextlib.suppress(ValueError):
            self._root = os.path.commonpath([_absolute(folder) for folder in folders])
        self._owners: dict[Path, str] = {}

    def of(self, picture: str | os.PathLike[str]) -> Path:
        """The relative path of the drawing of ``picture``, which is always the same for the same picture."""
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
    # Links are not followed, because their targets may be anywhere.
    return Path(os.path.normpath(Path.cwd() / path))


def picture_folders(dataset: Any) -> list[str]:
    """Folders of a set's pictures, which its ``data_prefix`` names; for a joined set, those of all its parts."""
    inner = [dataset.dataset] if hasattr(dataset, "dataset") else getattr(dataset, "datasets", ())
    prefixes = getattr(dataset, "data_prefix", None) or {}
    own = [prefixes[key] for key in ("img", "img_path") if prefixes.get(key)]
    return own + [folder for each in inner for folder in picture_folders(each)]


def _valid_size(sample: DetDataSample) -> tuple[int, int]:
    """Height and width of the picture in the detector's input, without padding."""
    width_factor, height_factor = sample.get("scale_factor", (1.0, 1.0))
    height, width = sample.ori_shape[:2]
    return round(height * height_factor), round(width * width_factor)


def _into_frame(instances: InstanceData, sample: DetDataSample, size: Sequence[int]) -> InstanceData:
    """Move boxes and masks from the raw frame to that of the detector's input, whose (height, width) is ``size``."""
    moved = instances.clone().cpu()
    factor = torch.tensor(sample.get("scale_factor", (1.0, 1.0)), dtype=torch.float32).repeat(2)
    moved.bboxes = moved.bboxes * factor
    if "masks" in moved and len(moved):
        moved.masks = F.interpolate(moved.masks[:, None].float(), size=tuple(size), mode="nearest")[:, 0] > 0.5
    elif "masks" in moved:
        del moved.masks
    return moved


def _on_both(instances: InstanceData, width: int) -> InstanceData:
    """Repeat the instances on both halves of a picture, each of which is ``width`` pixels wide."""
    right = instances.clone()
    right.bboxes = right.bboxes + torch.tensor([width, 0.0, width, 0.0])
    if "masks" in right:
        empty = torch.zeros_like(right.masks)
        instances.masks, right.masks = torch.cat([instances.masks, empty], -1), torch.cat([empty, right.masks], -1)
    return InstanceData.cat([instances, right])
