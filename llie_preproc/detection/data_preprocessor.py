"""The second door: a frozen enhancer in the data preprocessor, on the detector's device."""

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
    """MMDetection's ``DetDataPreprocessor`` that enhances each image before it normalises and pads.

    The enhancer is frozen: evaluation mode, no gradients. Its weights are part of the detector's checkpoints; a
    plain detector's checkpoint leaves the enhancer as it was built, one with another enhancer's is refused with
    :class:`~llie_preproc.errors.CheckpointError`. Checkpoints of an ``EnhancedDetector`` load too.

    Args:
        enhancer: Name, config or instance.
        checkpoint: As for :func:`llie_preproc.build_enhancer`.
        **kwargs: Options of :class:`~llie_preproc.InferenceOptions`, the channel order ``'bgr'`` (MMDetection's
            loading) unless given; and the arguments of ``DetDataPreprocessor``.

    Raises:
        ValueError: An option that is none of its values, or that the enhancer cannot run with.
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
        # Its weights are part of the detector's.
        self.enhancer = FrozenEnhancer(enhancer, options, checkpoint=checkpoint).enhancer.eval().requires_grad_(False)
        self.options = options
        self.look_alikes = LookAlikes()

    @property
    def frozen(self) -> FrozenEnhancer:
        """The network, and how it is run."""
        return FrozenEnhancer(self.enhancer, self.options)

    def train(self, mode: bool = True) -> EnhancedDetDataPreprocessor:
        """Set the mode; the enhancer stays in evaluation mode."""
        super().train(mode)
        self.enhancer.eval()
        return self

    def enhance_images(
        self, images: list[Tensor], names: Sequence[str] | None = None, training: bool = False
    ) -> list[Tensor]:
        """Images as the pipeline gives them, enhanced: ``(3, sH, sW)`` float32, levels in the same channel order.

        Args:
            images: ``(3, H, W)`` levels of 0 to 255.
            names: Name of each, for messages.
            training: Whether the images may be augmented: some that look normalised are taken then.

        Raises:
            ImageError: Images that are no levels (:func:`llie_preproc.level_checks.check_levels`), or a result that is
                not finite.
        """
        return self.frozen.levels(images, names, self.look_alikes if training else None)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Enhance, then do what ``DetDataPreprocessor`` does.

        Args:
            data: ``inputs``, ``(3, H, W)`` tensors of levels 0 to 255 (a list, or stacked), and ``data_samples``.
            training: Apply the batch augmentations, and take images as augmented ones.

        Raises:
            TypeError: ``inputs`` are anything else.
            ImageError: As :meth:`enhance_images`.
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
    """Let a checkpoint without a part's weights leave them as they are, without a word about missing keys."""
    if not any(key.startswith(prefix) for key in state_dict):
        state_dict.update({prefix + key: value for key, value in part.state_dict().items()})


def check_enhancer(enhancer: Enhancer, state: Mapping[str, Tensor], cure: str = "") -> None:
    """Raise for the weights of another enhancer.

    Args:
        enhancer: Enhancer that is to be loaded.
        state: Name to tensor, in its names.
        cure: Sentence that ends the message.

    Raises:
        CheckpointError: Names or shapes differ, or numbers are not what weights can be.
    """
    check_weights(state, enhancer)
    match_report(enhancer, state).check(f"the checkpoint's enhancer is not this {type(enhancer).__name__}", cure=cure)
