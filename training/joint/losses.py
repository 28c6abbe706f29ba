"""Losses that keep an enhancer an enhancer while a detector trains it.

Each is a module for ``EnhancedDetector(losses=...)``, called picture by picture: ``forward(image, output, enhancer,
sample)`` with ``image`` ``(1, 3, H, W)`` RGB in [0, 1], ``output`` ``(1, 3, s*H, s*W)``, unclamped, what ``enhancer``
made of it, and ``sample`` the picture's ``DetDataSample``, which may be None. The result is a scalar.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from llie_preproc.checks import at_least, one_of, within
from llie_preproc.enhancers.base import CurveEnhancer, Enhancer, pad_to_requirements
from llie_preproc.inference import enhance_batch, shrink
from llie_preproc.inference_options import InferenceOptions
from llie_preproc.recomputation import kept_buffers
from llie_preproc.registry import MODELS

from ..losses import log_total_variation, squared_total_variation
from ..methods.progressive import check_references, pseudo_ground_truth, reference_images

_REGION = 16
_FORMS: dict[str, Callable[[Tensor], Tensor]] = {"log": log_total_variation, "squared": squared_total_variation}


@MODELS.register_module()
class FidelityLoss(nn.Module):
    """Distance of the enhancer's output from what it gave before training.

    The enhancer as it was is a frozen copy, in evaluation mode, made by :meth:`bind`; it is part of the state dict, so
    that a resumed run keeps it; ``EnhancedDetector`` leaves it as it is where a checkpoint has none. Where the enhancer
    has batch or spectral norm the distance is not 0 at the start: those work otherwise in training mode.

    Args:
        distance: Config of a loss of (output, reference), as those of :mod:`training.losses`; the mean absolute
            difference by default.
        side: Compare on the picture shrunk to this longer side, where both are then computed; None: at full size.
        map_side: The detector's, if it has one: otherwise the two differ from the start. Not beside ``side``.

    Raises:
        ValueError: ``side`` or ``map_side`` is below 1, or both are given.
    """

    def __init__(
        self, distance: Mapping[str, Any] | None = None, side: int | None = None, map_side: int | None = None
    ) -> None:
        super().__init__()
        _check_side("side", side)
        _check_side("map_side", map_side)
        if side is not None and map_side is not None:
            raise ValueError(f"side ({side}) shrinks the whole picture: map_side ({map_side}) does not go with it")
        self.distance = _distance(distance)
        self.side, self.map_side = side, map_side
        self.initial: Enhancer | None = None

    def bind(self, enhancer: Enhancer) -> None:
        """Keep a copy of ``enhancer`` as it is now."""
        self.initial = copy.deepcopy(enhancer).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FidelityLoss:
        """Set the mode; the copy stays in evaluation mode."""
        super().train(mode)
        if self.initial is not None:
            self.initial.eval()
        return self

    def forward(self, image: Tensor, output: Tensor, enhancer: Enhancer, sample: Any = None) -> Tensor:
        """The distance.

        Raises:
            ValueError: No enhancer was bound.
        """
        if self.initial is None:
            raise ValueError("FidelityLoss has nothing to compare with: call bind(enhancer) first")
        if self.side is not None:
            image = _shrunk(image, self.side)
            output = _enhanced(image, enhancer)
        with torch.no_grad():
            reference = _enhanced(image, self.initial, map_side=self.map_side)
        return self.distance(output, reference)


@MODELS.register_module()
class ExposureLoss(nn.Module):
    """Zero-DCE's exposure control (CVPR 2020, L_exp): mean over regions of ``|Y_k - level|``.

    Y_k is the mean of all values of a region of 16x16 pixels of the output, regions without overlap. Those that the
    right and bottom borders cut count as the others, with the mean of what is inside.

    Args:
        level: E, the intensity that is wanted: 0.6 in the paper.

    Raises:
        ValueError: ``level`` is not in [0, 1].
    """

    def __init__(self, level: float = 0.6) -> None:
        super().__init__()
        within("level", level, 0, 1)
        self.level = float(level)

    def forward(self, image: Tensor, output: Tensor, enhancer: Enhancer, sample: Any = None) -> Tensor:
        """The loss of ``output`` alone."""
        regions = F.avg_pool2d(output.mean(dim=1, keepdim=True), _REGION, ceil_mode=True)
        return (regions - self.level).abs().mean()


@MODELS.register_module()
class MapSmoothnessLoss(nn.Module):
    """Total variation of the map that a curve network predicts.

    Args:
        form: ``'log'``: of the logarithm, PSENet's term for a gamma (:func:`training.losses.log_total_variation`);
            ``'squared'``: of the map itself (:func:`training.losses.squared_total_variation`). None: ``'log'`` where
            the enhancer has a ``gamma_map``, else ``'squared'``.
        side: Longer side that the picture is shrunk to: 256 is what PSENet, and so its weight of 5, is trained at.
            None: full size.

    Raises:
        ValueError: An unknown form, or ``side`` is below 2.
    """

    def __init__(self, form: str | None = None, side: int | None = 256) -> None:
        super().__init__()
        one_of("form", form, (*_FORMS, None))
        _check_side("side", side, least=2)
        self.form, self.side = form, side

    def bind(self, enhancer: Enhancer) -> None:
        """Check the enhancer.

        Raises:
            ValueError: It predicts no map.
        """
        _require_curves(enhancer)

    def forward(self, image: Tensor, output: Tensor, enhancer: CurveEnhancer, sample: Any = None) -> Tensor:
        """The loss of the map for ``image``.

        Raises:
            ValueError: The enhancer predicts no map.
        """
        _require_curves(enhancer)
        # A neighbour to each side, however narrow the picture.
        image = _shrunk(image, self.side, least=2)
        height, width = image.shape[-2:]
        # Autocast would drown the small differences between neighbours.
        with torch.autocast(image.device.type, enabled=False), kept_buffers(enhancer):
            curves = enhancer.predict_map(pad_to_requirements(image, enhancer.capabilities))
        form = self.form or ("log" if hasattr(enhancer, "gamma_map") else "squared")
        return _FORMS[form](curves[..., :height, :width])


@MODELS.register_module()
class PairedLoss(nn.Module):
    """Distance of the output from the picture of the same scene in normal light, ``sample.gt_normal_light``.

    That is a ``PixelData`` of ``data`` ``(3, s*H, s*W)`` uint8 RGB and, optionally, ``valid`` ``(1, s*H, s*W)`` bool,
    False beyond the pair: such pixels count as equal. :class:`llie_preproc.detection.pack_paired.PackPairedDetInputs`
    provides it. A picture without a pair counts as 0, with a gradient of 0.

    Args:
        distance: Config of a loss of (output, reference), as those of :mod:`training.losses`; the mean absolute
            difference by default.
        missing: ``'skip'`` pictures without a pair, or make them an ``'error'``.

    Raises:
        ValueError: An unknown ``missing``.
    """

    def __init__(self, distance: Mapping[str, Any] | None = None, missing: str = "skip") -> None:
        super().__init__()
        one_of("missing", missing, ("skip", "error"))
        self.distance, self.missing = _distance(distance), missing

    def forward(self, image: Tensor, output: Tensor, enhancer: Enhancer, sample: Any = None) -> Tensor:
        """The distance.

        Raises:
            ValueError: The pair is not of the output's size, or is missing and ``missing='error'``.
        """
        pair = sample.get("gt_normal_light") if sample is not None else None
        if pair is not None:
            return self._compare(output, pair, sample)
        if self.missing == "error":
            raise ValueError(f"{_name_of(sample)} has no gt_normal_light: does the pipeline pack pairs?")
        # The sum of nothing: 0 whatever the values are, with the graph that distributed training looks for.
        return output[..., :0].sum()

    def _compare(self, output: Tensor, pair: Any, sample: Any) -> Tensor:
        reference = pair.data[None].to(output) / 255
        if reference.shape != output.shape:
            raise ValueError(
                f"{_name_of(sample)}: gt_normal_light must be of the output's shape {tuple(output.shape[1:])}, got "
                f"{tuple(reference.shape[1:])}"
            )
        if "valid" in pair:
            output = torch.where(pair.valid[None].to(output.device), output, reference)
        return self.distance(output, reference)


@MODELS.register_module()
class SelfEnhancementLoss(nn.Module):
    """PSENet's progressive self-enhancement (Section 3) on each picture as it comes.

    The pseudo ground truth takes at each pixel the best of the picture, brighter and darker references of it, and the
    enhancer's output as it is now; the loss is the mean squared distance of the output from it (Eq. 7, first term).
    PSENet compares with the output one step earlier, of which a picture has none here.

    Args:
        side: Longer side that the picture is shrunk to: 256 is what PSENet is trained at.
        num_references, brighter, darker, well_exposed, patch: As for
            :class:`training.methods.progressive.ProgressiveSelfEnhancement`.

    Raises:
        ValueError: ``side`` is below 1, or the others are as
            :class:`~training.methods.progressive.ProgressiveSelfEnhancement` refuses them.
    """

    def __init__(
        self,
        side: int = 256,
        num_references: int = 1,
        brighter: tuple[float, float] = (0.0, 3.0),
        darker: tuple[float, float] = (-2.0, 0.0),
        well_exposed: float = 0.5,
        patch: int = 25,
    ) -> None:
        super().__init__()
        _check_side("side", side)
        check_references(num_references, brighter, darker, well_exposed, patch)
        self.side, self.num_references, self.patch = side, num_references, patch
        self.brighter, self.darker, self.well_exposed = brighter, darker, well_exposed

    def bind(self, enhancer: Enhancer) -> None:
        """Check the enhancer.

        Raises:
            ValueError: It enlarges, so its output is no candidate beside the picture.
        """
        if enhancer.scale != 1:
            raise ValueError(
                f"SelfEnhancementLoss needs an enhancer of scale 1, {type(enhancer).__name__} has {enhancer.scale}"
            )

    def forward(self, image: Tensor, output: Tensor, enhancer: Enhancer, sample: Any = None) -> Tensor:
        """The distance, on the shrunk picture."""
        # The window is reflected at the borders, so it reaches less far than the picture.
        image = _shrunk(image, self.side, least=self.patch // 2 + 1)
        output = _enhanced(image, enhancer)
        with torch.no_grad():
            references = reference_images(image, self.num_references, self.brighter, self.darker)
            candidates = [image, output.clamp(0, 1), *references]
            target = pseudo_ground_truth(candidates, self.well_exposed, self.patch)
        return F.mse_loss(output, target)


def _distance(config: Mapping[str, Any] | None) -> nn.Module:
    return MODELS.build(dict(config or {"type": "llie_preproc.L1Loss"}))


def _enhanced(image: Tensor, enhancer: Enhancer, map_side: int | None = None) -> Tensor:
    """``(1, 3, H, W)`` to ``(1, 3, s*H, s*W)``, unclamped, as the detector has it.

    Running statistics are of what the detector sees, and do not count this.
    """
    with kept_buffers(enhancer):
        return enhance_batch([image[0]], enhancer, InferenceOptions(map_side=map_side), clamp=False)[0][None]


def _shrunk(image: Tensor, side: int | None, least: int = 1) -> Tensor:
    """``(1, 3, H, W)`` with the longer side at most ``side``, neither below ``least``."""
    image = image if side is None else shrink(image, side)
    size = [max(least, n) for n in image.shape[-2:]]
    return image if size == list(image.shape[-2:]) else F.interpolate(image, size, mode="bilinear")


def _check_side(name: str, side: int | None, least: int = 1) -> None:
    if side is not None:
        at_least(name, side, least)


def _require_curves(enhancer: Enhancer) -> None:
    if not isinstance(enhancer, CurveEnhancer):
        raise ValueError(f"MapSmoothnessLoss needs a network that predicts a map, {type(enhancer).__name__} has none")


def _name_of(sample: Any) -> str:
    return str(sample.get("img_path", "the picture")) if sample is not None else "the picture"
