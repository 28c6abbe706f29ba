"""``door="preprocessor"`` of ``add_enhancer``: a frozen enhancer in the data preprocessor, on the detector's device."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmdet.models.data_preprocessors import DetDataPreprocessor
from torch import Tensor, nn

from ..checkpoint_names import own_names
from ..checkpoints import check_weights, match_report
from ..enhancers.base import Enhancer
from ..enhancers.build import DEFAULT_WEIGHTS
from ..inference import FrozenEnhancer
from ..inference_options import InferenceOptions, shows_options
from ..level_checks import LookAlikes
from ..registry import MODELS
from .geometry import image_names, is_image_batch, refuse_enhanced, scale_data_sample


@MODELS.register_module()
class EnhancedDetDataPreprocessor(DetDataPreprocessor):
    """MMDetection's ``DetDataPreprocessor``, extended to enhance each image before it normalises and pads it.

    The enhancer is frozen: it is in evaluation mode and takes no gradients. Its weights are part of the detector's
    checkpoints. A checkpoint of a plain detector leaves the enhancer as it was built. A checkpoint with the weights of
    another enhancer is refused with :class:`~llie_preproc.errors.CheckpointError`. Checkpoints of an
    ``EnhancedDetector`` load too.

    Args:
        enhancer: Name, config or instance of the enhancer.
        checkpoint: Weights of the enhancer, as for :func:`llie_preproc.build_enhancer`.
        **kwargs: Options of :class:`~llie_preproc.InferenceOptions`, whose channel order is ``'bgr'`` by default, as
            MMDetection loads images; and the arguments of ``DetDataPreprocessor``.

    Raises:
        ValueError: An option has an unknown value, or the enhancer cannot run with it.

    Examples:
        >>> preprocessor = EnhancedDetDataPreprocessor(dict(type="GammaCorrection", gamma=0.5), pad_size_divisor=32)
        >>> image = torch.full((3, 20, 40), 51, dtype=torch.uint8)
        >>> inputs = preprocessor({"inputs": [image]})["inputs"]
        >>> inputs.shape, round(inputs.max().item(), 2)
        (torch.Size([1, 3, 32, 64]), 114.04)
    """

    @shows_options(channel_order="bgr")
    def __init__(
        self,
        enhancer: str | Mapping | Enhancer,
        checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
        **kwargs: Any,
    ) -> None:
        options = InferenceOptions.taken_from(kwargs, channel_order="bgr")
        super().__init__(**kwargs)
        # The network itself is the submodule, so that its weights are part of the detector's.
        self.enhancer = FrozenEnhancer(enhancer, options, checkpoint=checkpoint).enhancer.eval().requires_grad_(False)
        self.options = options
        self.look_alikes = LookAlikes()

    @property
    def frozen(self) -> FrozenEnhancer:
        """The network together with its options."""
        return FrozenEnhancer(self.enhancer, self.options)

    def train(self, mode: bool = True) -> EnhancedDetDataPreprocessor:
        """Set the mode; the enhancer stays in evaluation mode."""
        super().train(mode)
        self.enhancer.eval()
        return self

    def enhance_images(
        self, images: list[Tensor], names: Sequence[str] | None = None, training: bool = False
    ) -> list[Tensor]:
        """Enhance images as the pipeline yields them.

        Args:
            images: Images ``(3, H, W)`` with levels of 0 to 255.
            names: Name of each image, for messages.
            training: Whether the images may be augmented; a few that look normalised are then accepted.

        Returns:
            Images ``(3, sH, sW)`` float32, with levels of 0 to 255 in the same channel order; s is the enhancer's
            scale.

        Raises:
            ImageError: The values of an image are not levels (:func:`llie_preproc.level_checks.check_levels`), or a
                result is not finite.
        """
        return self.frozen.levels(images, names, self.look_alikes if training else None)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Enhance the images, then do what ``DetDataPreprocessor`` does.

        Args:
            data: Batch with ``inputs``, ``(3, H, W)`` tensors of levels 0 to 255 (in a list or stacked), and
                ``data_samples``.
            training: Whether batch augmentations are applied and the images may be augmented.

        Raises:
            TypeError: ``inputs`` are anything else.
            ImageError: :meth:`enhance_images` refuses an image.
            ValueError: A picture was enhanced before, in the pipeline.
        """
        data = self.cast_data(data)
        inputs, samples = data["inputs"], data.get("data_samples")
        if not is_image_batch(inputs):
            raise TypeError("inputs must be colour images: (3, H, W) tensors in a list, or stacked to (N, 3, H, W)")
        refuse_enhanced(samples)
        enhanced = self.enhance_images(list(inputs), image_names(samples, len(inputs)), training)
        scaled = samples and [scale_data_sample(s, self.enhancer.scale) for s in samples]
        restacked = torch.stack(enhanced) if isinstance(inputs, Tensor) else enhanced
        return super().forward({**data, "inputs": restacked, "data_samples": scaled}, training)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        keep_weights(self.enhancer, state_dict, f"{prefix}enhancer.")
        check_enhancer(self.enhancer, own_names(state_dict, f"{prefix}enhancer."))
        super()._load_from_state_dict(state_dict, prefix, *args)


def keep_weights(part: nn.Module, state_dict: dict, prefix: str) -> None:
    """Add the weights of ``part`` to a checkpoint that lacks them, so that they stay and are not reported as missing.

    Examples:
        >>> state = {}
        >>> keep_weights(nn.Linear(2, 1), state, "enhancer.")
        >>> sorted(state)
        ['enhancer.bias', 'enhancer.weight']
    """
    if not any(key.startswith(prefix) for key in state_dict):
        state_dict.update({prefix + key: value for key, value in part.state_dict().items()})


def check_enhancer(enhancer: Enhancer, state: Mapping[str, Tensor], cure: str = "") -> None:
    """Refuse the weights of another enhancer.

    Args:
        enhancer: Enhancer that the weights are for.
        state: Tensors by the names that they have in the enhancer.
        cure: Sentence at the end of the message that says what helps.

    Raises:
        CheckpointError: Names or shapes differ, or a tensor's numbers cannot be weights.
    """
    check_weights(state, enhancer)
    match_report(enhancer, state).check(f"the checkpoint's enhancer is not this {type(enhancer).__name__}", cure=cure)
