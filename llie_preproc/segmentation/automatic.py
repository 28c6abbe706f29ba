"""Automatic masks of everything in a dark image."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..checks import one_of
from ..enhancers.base import Enhancer
from ..enhancers.build import DEFAULT_WEIGHTS
from ..errors import needs
from ..inference_options import InferenceOptions, shows_options
from .crops import OVERSIZE
from .predictor import EnhancedImage, EnhancedSamPredictor

with needs("llie_preproc.segmentation"):
    from segment_anything import SamAutomaticMaskGenerator
    from segment_anything.utils.amg import MaskData, build_point_grid, generate_crop_boxes


class EnhancedSamAutomaticMaskGenerator(SamAutomaticMaskGenerator):
    """segment-anything's ``SamAutomaticMaskGenerator`` on enhanced images, with records in the raw image's frame.

    The image is enhanced once, as a whole, and crops are taken from the result. Areas, boxes, points, ``crop_box`` and
    ``min_mask_region_area`` are in pixels of the raw image, whatever the enhancer's scale is. With an enhancer that
    changes nothing, the records are those of ``SamAutomaticMaskGenerator``.

    Args:
        model: SAM, as for :class:`~llie_preproc.segmentation.EnhancedSamPredictor`.
        enhancer: Enhancer, as for :func:`llie_preproc.build_enhancer`.
        checkpoint: Weights of the enhancer, as for :func:`llie_preproc.build_enhancer`.
        oversize: Treatment of enhanced images with a long side above SAM's 1024. ``'resize'`` shrinks them, which loses
            the detail that was gained. ``'crops'`` uses as many of SAM's crop layers as are needed for crops that lose
            nothing. The masks of the whole image and of all crops are then merged by SAM's non-maximum suppression,
            which prefers the masks of smaller crops.
        **parameters: Fields of :class:`~llie_preproc.InferenceOptions` (``channel_order`` is that of the images), and
            parameters of ``SamAutomaticMaskGenerator``. With ``'crops'``, ``crop_n_layers`` follows from the image, and
            ``crop_n_points_downscale_factor`` is 2 by default, so that the density of points stays the same.

    Raises:
        ValueError: ``oversize`` is unknown, or ``'crops'`` is combined with ``crop_n_layers`` or ``point_grids``.

    Examples:
        >>> from llie_preproc.segmentation import build_sam
        >>> generator = EnhancedSamAutomaticMaskGenerator(build_sam("small"), "gamma_correction", points_per_side=2)
        >>> records = generator.generate(np.zeros((48, 64, 3), np.uint8))
        >>> all(record["segmentation"].shape == (48, 64) for record in records)
        True
    """

    @shows_options()
    def __init__(
        self,
        model: Any,
        enhancer: str | Mapping | Enhancer = "Identity",
        checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
        *,
        oversize: str = "resize",
        **parameters: Any,
    ) -> None:
        options = InferenceOptions.taken_from(parameters)
        one_of("oversize", oversize, OVERSIZE)
        self.oversize = oversize
        if oversize == "crops":
            if taken := [name for name in ("crop_n_layers", "point_grids") if parameters.get(name)]:
                raise ValueError(f"oversize='crops' chooses the crops: {taken[0]} cannot be given with it")
            parameters.setdefault("crop_n_points_downscale_factor", 2)
        self.points_per_side = parameters.get("points_per_side", 32)
        super().__init__(model, **parameters)
        self.predictor = EnhancedSamPredictor(model, enhancer, checkpoint, **options.keywords())

    def generate(self, image: np.ndarray | EnhancedImage) -> list[dict[str, Any]]:
        """Find the masks of everything in an image.

        Args:
            image: Image ``(H, W, 3)`` uint8 in the channel order of the options, or a result of the predictor's
                ``enhance``.

        Returns:
            Records, as ``SamAutomaticMaskGenerator`` describes them.

        Raises:
            TypeError, ValueError: :meth:`EnhancedSamPredictor.enhance` refuses the image.
        """
        seen = image if isinstance(image, EnhancedImage) else self.predictor.enhance(image)
        if self.oversize == "crops":
            self.crop_n_layers = self._layers(seen)
            self.point_grids = [self._point_grid(layer) for layer in range(self.crop_n_layers + 1)]
        return super().generate(seen)

    def _process_crop(
        self, image: Any, crop_box: list[int], crop_layer_idx: int, orig_size: tuple[int, ...]
    ) -> MaskData:
        x1, y1, x2, y2 = crop_box
        # SAM's crops of a long and narrow image may lie outside it.
        if x1 >= x2 or y1 >= y2:
            return MaskData()
        data = super()._process_crop(image, crop_box, crop_layer_idx, orig_size)
        # SAM's non-maximum suppression of crops indexes the four columns, which an empty result lacks.
        data["crop_boxes"] = data["crop_boxes"].reshape(-1, 4)
        return data

    def _point_grid(self, layer: int) -> np.ndarray:
        # SAM's own function divides by zero if a deep layer has less than one point a side.
        return build_point_grid(max(1, int(self.points_per_side / self.crop_n_points_downscale_factor**layer)))

    def _layers(self, seen: EnhancedImage) -> int:
        """Number of crop layers after which the crops of the last layer are not shrunk."""
        side = self.predictor.model.image_encoder.img_size
        layers, longest = 0, max(seen.shape[:2])
        while longest * seen.scale > side:
            layers += 1
            boxes, numbers = generate_crop_boxes(seen.shape[:2], layers, self.crop_overlap_ratio)
            last = [box for box, number in zip(boxes, numbers, strict=True) if number == layers]
            longest = max(max(x2 - x1, y2 - y1) for x1, y1, x2, y2 in last)
        return layers
