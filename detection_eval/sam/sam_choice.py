"""The SAM that a command line names, and the parameters of its automatic masks."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from llie_preproc.checks import one_of
from llie_preproc.fingerprints import fingerprint
from llie_preproc.segmentation import PUBLIC_CHECKPOINTS, build_sam
from llie_preproc.segmentation.crops import OVERSIZE

PUBLIC = "public"
UNTRAINED = (
    "SAM has random weights here (no --sam-checkpoint): these scores mean nothing and only show that everything runs."
)
GENERATOR: Mapping[str, Any] = MappingProxyType(
    dict(
        points_per_side=32,
        points_per_batch=64,
        pred_iou_thresh=0.88,
        stability_score_thresh=0.95,
        stability_score_offset=1.0,
        box_nms_thresh=0.7,
        crop_n_layers=0,
        crop_nms_thresh=0.7,
        crop_overlap_ratio=512 / 1500,
        crop_n_points_downscale_factor=1,
        min_mask_region_area=0,
    )
)
"""Parameters that SAM's automatic masks depend on besides model and picture, with segment-anything's defaults."""

_SEED = 0
_AT_LEAST_ONE = ("points_per_side", "points_per_batch", "crop_n_points_downscale_factor")


@dataclass(frozen=True)
class SamChoice:
    """Segment Anything model that the command line names.

    Attributes:
        model: Size of the model, one of :data:`llie_preproc.segmentation.SAM_SIZES`.
        checkpoint: Weights, as for :func:`llie_preproc.segmentation.build_sam`, or ``'public'``; None for random
            weights, which are the same each time.
        device: Device that the model runs on.
    """

    model: str = "vit_b"
    checkpoint: str | None = None
    device: str = "cpu"

    @property
    def trained(self) -> bool:
        """Whether the model has trained weights."""
        return self.checkpoint is not None

    def build(self) -> Any:
        """Build segment-anything's ``Sam``.

        Raises:
            ValueError: The checkpoint is ``'public'``, but the model has no public weights.
            FileNotFoundError, CheckpointError: ``build_sam`` refuses the checkpoint.
        """
        if self.checkpoint == PUBLIC and self.model not in PUBLIC_CHECKPOINTS:
            known = ", ".join(PUBLIC_CHECKPOINTS)
            raise ValueError(
                f"--sam-checkpoint {PUBLIC}: there are no public weights for --sam {self.model}, only for {known}"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            sam = build_sam(self.model, self._source())
        return sam.to(self.device)

    def made_with(self, sam: Any) -> dict[str, str]:
        """Return everything that the masks of the built model depend on."""
        return dict(sam_model=self.model, sam_weights=fingerprint(sam))

    def described(self, sam: Any) -> str:
        """Describe the built model in words."""
        weights = os.fspath(self.checkpoint) if self.checkpoint else f"random weights, seed {_SEED}"
        return f"{self.model}, {weights} ({fingerprint(sam)[:12]})"

    def _source(self) -> str | None:
        return PUBLIC_CHECKPOINTS[self.model] if self.checkpoint == PUBLIC else self.checkpoint


def generator_parameters(given: Sequence[str], oversize: str = "resize") -> dict[str, Any]:
    """Return :data:`GENERATOR` with the changes that the command line makes by ``KEY=VALUE``.

    Args:
        given: Values of ``--generator``.
        oversize: Treatment of pictures that are larger than SAM's input. With ``'crops'`` the picture determines the
            number of crop layers, and each crop of a layer has fewer points (``crop_n_points_downscale_factor`` 2).

    Raises:
        ValueError: A key is unknown, or cannot have the value.

    Examples:
        >>> generator_parameters(["points_per_side=16"])["points_per_side"]
        16
    """
    one_of("oversize", oversize, OVERSIZE)
    parameters = dict(GENERATOR)
    if oversize == "crops":
        del parameters["crop_n_layers"]
        parameters["crop_n_points_downscale_factor"] = 2
    for each in given:
        key, _, value = each.partition("=")
        if key not in parameters:
            raise ValueError(f"--generator {each!r}: expected KEY=VALUE with one of {', '.join(parameters)}")
        parameters[key] = _number(key, value)
    _check_grids(parameters)
    return parameters


def _check_grids(parameters: Mapping[str, Any]) -> None:
    points, factor = parameters["points_per_side"], parameters["crop_n_points_downscale_factor"]
    layers = parameters.get("crop_n_layers", 0)
    if points < factor**layers:
        raise ValueError(
            f"--generator: points_per_side={points}, divided by crop_n_points_downscale_factor={factor} for each of "
            f"crop_n_layers={layers}, leaves no point"
        )


def _number(key: str, value: str) -> int | float:
    kind = type(GENERATOR[key])
    least = 1 if key in _AT_LEAST_ONE else 0
    # A larger overlap would give crops with negative sides.
    most = 1 if key == "crop_overlap_ratio" else sys.float_info.max
    try:
        number = kind(value)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        what = "a whole number" if kind is int else "a number"
        limit = " to 1" if most == 1 else ""
        raise ValueError(f"--generator {key}={value}: expected {what} from {least}{limit}")
    return number
