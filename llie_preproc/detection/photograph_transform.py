"""A pipeline transform that photographs pictures again at another exposure."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from ..errors import ImageError
from ..exposures import Exposure, photographed
from ..ops.sensor import SENSOR, Sensor
from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class Photograph(BaseTransform):
    """Photograph ``results['img']`` again by the camera of :class:`llie_preproc.exposures.Exposure`.

    It tests a detector in too little or too much light, and stands right after the transform that loads the picture.

    Required keys: ``img``, ``(H, W, 3)`` BGR uint8, as MMDetection loads pictures. Modified keys: ``img``.

    Args:
        exposure: Exposure in EV, from -20 to 20; -3 is an eighth of the light. At 0 pictures stay as they are.
        full_well: Number of electrons that reads as white; fewer are noisier.
        read_noise: Standard deviation of the noise that reading adds, in electrons.
        noise_seed: Seed of the noise; each picture has noise of its own.
        cache_dir: Folder in which the results are kept as PNG files and found again; None to make them each time.

    Raises:
        ValueError: A number is out of its range.

    Examples:
        >>> results = Photograph(-3.0, full_well=1e9, read_noise=0.0)(dict(img=np.full((1, 1, 3), 200, np.uint8)))
        >>> results["img"].tolist()
        [[[76, 76, 76]]]
    """

    def __init__(
        self,
        exposure: float,
        full_well: float = SENSOR.full_well,
        read_noise: float = SENSOR.read_noise,
        noise_seed: int = 0,
        cache_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.exposure = Exposure(exposure, Sensor(full_well, read_noise), noise_seed)
        self.cache_dir = cache_dir

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Photograph the picture.

        Raises:
            ImageError: ``img`` is not ``(H, W, 3)`` of uint8.
        """
        # Grey pictures that were loaded as such have no third axis.
        picture = results["img"][..., ::-1] if results["img"].ndim == 3 else results["img"]
        try:
            made = (
                self.exposure.photograph(picture)
                if self.cache_dir is None
                else photographed(picture, self.exposure, self.cache_dir)
            )
        except ImageError as error:
            name = results.get("img_path") or "img"
            raise ImageError(f"{name}: {error}: load with color_type='color' and to_float32=False") from error
        results["img"] = np.ascontiguousarray(made[..., ::-1])
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.exposure})"
