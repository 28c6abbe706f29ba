"""Losses that make an enhancer go on enhancing while the losses of a detector train it.

Each is a module for ``EnhancedDetector(losses=...)``, which calls ``forward(image, output, enhancer, sample)`` for each
picture. ``image`` is ``(1, 3, H, W)`` RGB in [0, 1]; ``output`` is what ``enhancer`` made of it, ``(1, 3, s*H, s*W)``,
not clamped; ``sample`` is the picture's ``DetDataSample``, or None. The result is a scalar.
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
    """Distance of the enhancer's output from the output that it gave before training.

    :meth:`bind` keeps the enhancer as it was before training, as a frozen copy in evaluation mode. The copy is part of
    the state dict, so that a resumed run keeps it; ``EnhancedDetector`` leaves it as it is when a checkpoint has none.
    If the enhancer has batch or spectral norm, the distance is not 0 at the start, because these norms work differently
    in training mode.

    >>> from llie_preproc import build_enhancer
    >>> enhancer, image = build_enhancer("psenet"), torch.rand(1, 3, 16, 16)
    >>> loss = FidelityLoss()
    >>> loss.bind(enhancer)
    >>> round(loss(image, enhancer(image), enhancer).item(), 4)
    0.0

    Args:
        distance: Config of a loss of (output, reference), such as those of :mod:`training.losses`; the mean absolute
            difference by default.
        side: Longer side to which the picture is shrunk before both outputs are computed and compared. None compares
            at full size.
        map_side: ``map_side`` of the detector, if it has one; without it the outputs differ from the start. It cannot
            be combined with ``side``.

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
            raise ValueError(
                f"side and map_side cannot be combined, as side shrinks the whole picture; got side={side} and "
                f"map_side={map_side}"
            )
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
            ValueError: :meth:`bind` was not called before.
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
    """Zero-DCE's exposure control (CVPR 2020, L_exp): the mean over regions of ``|Y_k - level|``.

    Y_k is the mean of all values of the output in region k. Regions have 16x16 pixels and do not overlap. A region that
    the right or bottom border cuts counts like the others, with the mean of the pixels inside.

    >>> image = torch.full((1, 3, 20, 20), 0.5)
    >>> round(ExposureLoss()(image, image, enhancer=None).item(), 4)
    0.1

    Args:
        level: Intensity that the output should have, E of the paper, where it is 0.6.

    Raises:
        ValueError: ``level`` is not in [0, 1].
    """

    def __init__(self, level: float = 0.6) -> None:
        super().__init__()
        within("level", level, 0, 1)
        self.level = float(level)

    def forward(self, image: Tensor, output: Tensor, enhancer: Enhancer, sample: Any = None) -> Tensor:
        """The loss, which depends on ``output`` alone."""
        regions = F.avg_pool2d(output.mean(dim=1, keepdim=True), _REGION, ceil_mode=True)
        return (regions - self.level).abs().mean()


@MODELS.register_module()
class MapSmoothnessLoss(nn.Module):
    """Total variation of the map that a curve network predicts.

    >>> from llie_preproc import build_enhancer
    >>> enhancer, image = build_enhancer("psenet"), torch.rand(1, 3, 32, 32)
    >>> loss = MapSmoothnessLoss()(image, enhancer(image), enhancer)
    >>> loss.shape, bool(loss > 0)
    (torch.Size([]), True)

    Args:
        form: ``'log'`` takes the total variation of the logarithm, PSENet's term for a gamma map
            (:func:`training.losses.log_total_variation`); ``'squared'`` takes that of the map itself
            (:func:`training.losses.squared_total_variation`). None means ``'log'`` for an enhancer with a
            ``gamma_map`` and ``'squared'`` for others.
        side: Longer side to which the picture is shrunk. PSENet is trained at 256, and its weight of 5 belongs to that
            size. None keeps the full size.

    Raises:
        ValueError: ``form`` is unknown, or ``side`` is below 2.
    """

    def __init__(self, form: str | None = None, side: int | None = 256) -> None:
        super().__init__()
        one_of("form", form, (*_FORMS, None))
        _check_side("side", side, least=2)
        self.form, self.side = form, side

    def bind(self, enhancer: Enhancer) -> None:
        """Check the enhancer.

        Raises:
            ValueError: The enhancer predicts no map.
        """
        _require_curves(enhancer)

    def forward(self, image: Tensor, output: Tensor, enhancer: CurveEnhancer, sample: Any = None) -> Tensor:
        """The loss of the map for ``image``.

        Raises:
            ValueError: The enhancer predicts no map.
        """
        _require_curves(enhancer)
        # Each pixel of the map needs a neighbour, however narrow the picture is.
        image = _shrunk(image, self.side, least=2)
        height, width = image.shape[-2:]
        # Autocast would round the small differences between neighbours away.
        with torch.autocast(image.device.type, enabled=False), kept_buffers(enhancer):
            curves = enhancer.predict_map(pad_to_requirements(image, enhancer.capabilities))
        form = self.form or ("log" if hasattr(enhancer, "gamma_map") else "squared")
        return _FORMS[form](curves[..., :height, :width])


@MODELS.register_module()
class PairedLoss(nn.Module):
    """Distance of the output from the picture of the same scene in normal light, ``sample.gt_normal_light``.

    That field is a ``PixelData`` with ``data`` ``(3, s*H, s*W)`` uint8 RGB and, optionally, ``valid``
    ``(1, s*H, s*W)`` bool. ``valid`` is False beyond the pair; such pixels count as equal.
    :class:`llie_preproc.detection.pack_paired.PackPairedDetInputs` provides the field. A picture without a pair has the
    loss 0, with a gradient of 0.

    >>> from mmengine.structures import BaseDataElement, PixelData
    >>> pair = PixelData(data=torch.full((3, 4, 6), 255, dtype=torch.uint8))
    >>> image = torch.full((1, 3, 4, 6), 0.25)
    >>> PairedLoss()(image, image, enhancer=None, sample=BaseDataElement(gt_normal_light=pair)).item()
    0.75

    Args:
        distance: Config of a loss of (output, reference), such as those of :mod:`training.losses`; the mean absolute
            difference by default.
        missing: ``'skip'`` lets pictures without a pair pass; ``'error'`` refuses them.

    Raises:
        ValueError: ``missing`` is unknown.
    """

    def __init__(self, distance: Mapping[str, Any] | None = None, missing: str = "skip") -> None:
        super().__init__()
        one_of("missing", missing, ("skip", "error"))
        self.distance, self.missing = _distance(distance), missing

    def forward(self, image: Tensor, output: Tensor, enhancer: Enhancer, sample: Any = None) -> Tensor:
        """The distance.

        Raises:
            ValueError: The pair does not have the output's size, or there is no pair and ``missing`` is ``'error'``.
        """
        pair = sample.get("gt_normal_light") if sample is not None else None
        if pair is not None:
            return self._compare(output, pair, sample)
        if self.missing == "error":
            raise ValueError(f"{_name_of(sample)} has no gt_normal_light: does the pipeline pack pairs?")
        # An empty sum is 0 whatever the values are, and has the graph that distributed training looks for.
        return output[..., :0].sum()

    def _compare(self, output: Tensor, pair: Any, sample: Any) -> Tensor:
        reference = pair.data[None].to(output) / 255
        if reference.shape != output.shape:
            raise ValueError(
                f"{_name_of(sample)}: gt_normal_light must have the output's shape {tuple(output.shape[1:])}, got "
                f"{tuple(reference.shape[1:])}"
            )
        if "valid" in pair:
            output = torch.where(pair.valid[None].to(output.device), output, reference)
        return self.distance(output, reference)


@MODELS.register_module()
class SelfEnhancementLoss(nn.Module):
    """PSENet's progressive self-enhancement (Section 3) on each picture as it comes.

    The candidates of the pseudo ground truth are the picture, brighter and darker references made from it, and the
    enhancer's present output; each pixel comes from the best of them. The loss is the mean squared distance of the
    output from it (Eq. 7, first term). PSENet itself takes the output of the weights one step earlier, which this loss
    does not have.

    >>> from llie_preproc import build_enhancer
    >>> enhancer, image = build_enhancer("psenet"), torch.rand(1, 3, 32, 32)
    >>> SelfEnhancementLoss()(image, enhancer(image), enhancer).shape
    torch.Size([])

    Args:
        side: Longer side to which the picture is shrunk; PSENet is trained at 256.
        num_references: Number of brighter references of a picture, and of darker ones.
        brighter: Range of log gamma of the brighter references.
        darker: Range of log gamma of the darker references.
        well_exposed: Level of a well exposed pixel.
        patch: Side of the local window of the score, odd.

    Raises:
        ValueError: ``side`` is below 1, or another argument is one that
            :class:`~training.methods.progressive.ProgressiveSelfEnhancement` refuses.
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
            ValueError: The enhancer changes the size, so its output cannot be a candidate beside the picture.
        """
        if enhancer.scale != 1:
            raise ValueError(
                f"SelfEnhancementLoss needs an enhancer of scale 1, {type(enhancer).__name__} has {enhancer.scale}"
            )

    def forward(self, image: Tensor, output: Tensor, enhancer: Enhancer, sample: Any = None) -> Tensor:
        """The distance, computed on the shrunk picture."""
        # The score reflects the picture at its borders, so half a window must be shorter than the picture's sides.
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
    """The output ``(1, 3, s*H, s*W)`` for ``(1, 3, H, W)``, not clamped, computed as in the detector.

    Running statistics stay as they are: they should describe only the pictures that the detector sees.
    """
    with kept_buffers(enhancer):
        return enhance_batch([image[0]], enhancer, InferenceOptions(map_side=map_side), clamp=False)[0][None]


def _shrunk(image: Tensor, side: int | None, least: int = 1) -> Tensor:
    """The image ``(1, 3, H, W)`` shrunk to a longer side of at most ``side``, with no side below ``least``."""
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
