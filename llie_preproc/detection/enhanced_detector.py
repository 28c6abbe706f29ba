"""``door="detector"`` of ``add_enhancer``: a wrapper of any detector, for trainable and enlarging enhancers."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from mmcv.cnn.bricks import DropPath
from mmdet.models.layers import DropBlock
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.structures import DetDataSample
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from ..checkpoint_names import own_names
from ..checks import one_of
from ..enhancers.base import Enhancer
from ..enhancers.build import DEFAULT_WEIGHTS, build_enhancer
from ..inference import (
    enhance_units,
    levels_to_units,
    units_to_levels,
)
from ..inference_options import InferenceOptions, OptionKeywords, shows_options
from ..level_checks import LookAlikes
from ..recomputation import kept_buffers
from ..registry import MODELS
from ..weighted_losses import build_losses
from .data_preprocessor import EnhancedDetDataPreprocessor, check_enhancer
from .detector_wrapper import RAW, DetectorWrapper
from .fusion import FUSIONS, FeatureFusion, ImageFusion
from .geometry import image_names, is_image_batch, refuse_enhanced, scale_data_sample
from .nested_inputs import ImageBatch, flatten

if TYPE_CHECKING:
    from typing_extensions import Unpack

# In training mode, these layers collect statistics or drop values at random.
_OF_MODE = (_NormBase, _DropoutNd, DropPath, DropBlock, nn.MultiheadAttention)
INPUTS = ("raw", "enhanced", "both")


@MODELS.register_module()
class EnhancedDetector(DetectorWrapper):
    """A wrapper that puts an enhancer in front of any MMDetection 3.x detector.

    The wrapper takes raw images. It enhances each image alone, and the detector's own data preprocessor then
    normalises, pads and augments. All of this happens inside ``forward``, so that distributed training includes the
    enhancer's parameters. With an enhancer of scale s, the detector works on the enlarged image, and its boxes and
    masks are returned in the raw frame.

    Attributes that the wrapper does not have are looked up in the detector, so hooks that use ``model.bbox_head``
    work. A checkpoint of the plain detector loads through the wrapper.

    Images must be levels of 0 to 255 (:func:`llie_preproc.level_checks.check_levels`). The results of a frozen
    enhancer, and those of any enhancer in evaluation mode, must be finite; otherwise ``ImageError`` names the picture.
    Results of an enhancer in training are not checked: the trainer sees a loss that is not finite.

    ``trainable`` and ``train_detector`` together make the presets of joint training: ``joint`` (both are true),
    ``frozen`` (only the detector is trained) and ``enhancer-only``. A frozen part takes no gradient and keeps its
    buffers, which include running statistics.

    Args:
        detector: Config of the plain detector.
        enhancer: Name, config or instance of the enhancer.
        checkpoint: Weights of the enhancer, as for :func:`llie_preproc.build_enhancer`.
        trainable: Whether the enhancer is trained with the detector's losses; otherwise it is frozen. The output of a
            trainable enhancer is not clamped in training mode.
        train_detector: Whether the detector is trained. If not, its normalisation and dropout layers stay in
            evaluation mode.
        detector_input: Images that the detector sees: ``'enhanced'``, ``'raw'`` or ``'both'``. With ``'raw'``, a
            trainable enhancer learns from ``losses`` alone.
        fusion: Way in which ``'both'`` reach the detector: ``'image'`` is a learned blend of the two images,
            ``'features'`` a learned blend of the results of ``extract_feat`` for each, at twice the cost. If the
            enhancer enlarges, the raw image is resampled to the size of the enhanced one.
        losses: Configs of auxiliary losses by name, which are added to the detector's while the enhancer trains. Each
            may have a ``loss_weight`` (1 by default); an entry that is None is left out. A loss is a module that is
            called as ``loss(image, output, enhancer, sample)`` once for each picture: ``image`` is ``(1, 3, H, W)``
            RGB in [0, 1], ``output`` its unclamped enhancement, ``sample`` its data sample. If the module has a
            method ``bind``, it is called once with the enhancer. See ``training.joint.losses``.
        checkpointing: Whether the enhancer's activations are computed again in the backward pass instead of kept.
        min_matched: Smallest share of the detector's tensors that a loaded checkpoint must match.
        strict: Whether a loaded checkpoint must name all tensors of the detector and no others (shapes may differ), and
            must not have the weights of another enhancer.
        data_preprocessor: Config of the detector's data preprocessor, if the detector's config has none. (MMEngine's
            Runner passes the top-level ``data_preprocessor`` of a config file here.)
        init_cfg: Initialisation config of MMEngine.
        **options: Options of :class:`~llie_preproc.InferenceOptions`, whose channel order is ``'bgr'`` by default, as
            MMDetection loads images.

    Raises:
        ValueError: An option has an unknown value, or the enhancer cannot run with it; nothing is to be trained; a
            trainable enhancer passes no gradient or gets none; the detector enhances already; two data preprocessors
            differ; or a ``loss_weight`` is below 0.

    Examples:
        >>> from mmdet.utils import register_all_modules
        >>> register_all_modules()
        >>> plain = dict(
        ...     type="RetinaNet",
        ...     data_preprocessor=dict(type="DetDataPreprocessor"),
        ...     backbone=dict(type="ResNet", depth=18, base_channels=4, stem_channels=4),
        ...     neck=dict(type="FPN", in_channels=[4, 8, 16, 32], out_channels=8, num_outs=5),
        ...     bbox_head=dict(type="RetinaHead", num_classes=1, in_channels=8, feat_channels=8),
        ... )
        >>> detector = EnhancedDetector(plain, dict(type="GammaCorrection", gamma=0.5))
        >>> image = torch.full((3, 20, 40), 51, dtype=torch.uint8)
        >>> seen = detector.enhance_images([image])[0]
        >>> seen.shape, round(seen.max().item(), 2)
        (torch.Size([3, 20, 40]), 114.04)
        >>> _ = detector.load_state_dict(MMDET_MODELS.build(plain).state_dict())
    """

    @shows_options(channel_order="bgr")
    def __init__(
        self,
        detector: dict,
        enhancer: str | Mapping | Enhancer,
        checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
        trainable: bool = False,
        train_detector: bool = True,
        detector_input: str = "enhanced",
        fusion: str = "image",
        losses: Mapping[str, Mapping | None] | None = None,
        checkpointing: bool = False,
        min_matched: float = 0.5,
        strict: bool = True,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
        **options: Unpack[OptionKeywords],
    ) -> None:
        super().__init__(data_preprocessor=dict(RAW), init_cfg=init_cfg)
        one_of("detector_input", detector_input, INPUTS)
        one_of("fusion", fusion, FUSIONS)
        self.options = InferenceOptions.of(options, channel_order="bgr")
        self.detector = MMDET_MODELS.build(_with_preprocessor(detector, data_preprocessor))
        _refuse_second(self.detector)
        self.enhancer = build_enhancer(enhancer, checkpoint)
        self.options.check_fits(self.enhancer)
        self.trainable, self.train_detector, self.detector_input = trainable, train_detector, detector_input
        self.checkpointing, self.min_matched, self.strict = checkpointing, min_matched, strict
        if detector_input == "both":
            self.fusion = FUSIONS[fusion]()
        self.losses, self.loss_weights = build_losses(losses or {})
        for loss in self.losses.values():
            if (bind := getattr(loss, "bind", None)) is not None:
                bind(self.enhancer)
        self.look_alikes = LookAlikes()
        self._check_training()
        if not trainable:
            self.enhancer.eval().requires_grad_(False)
        if not train_detector:
            self.detector.requires_grad_(False)

    def train(self, mode: bool = True) -> EnhancedDetector:
        """Set the mode; frozen parts keep their statistics."""
        super().train(mode)
        if not self.trainable:
            self.enhancer.eval()
        if not self.train_detector:
            # Several detectors compute training targets in training mode only, so only these layers leave it.
            for module in self.detector.modules():
                if isinstance(module, _OF_MODE):
                    module.eval()
        return self

    def convert_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the tensors of the wrapper's or the plain detector's checkpoint to the names of the wrapper.

        Raises:
            CheckpointError: Too little of the detector matches; or, with ``strict``, the names or the enhancers
                differ.
        """
        state = super().convert_state(state)
        if self.strict:
            check_enhancer(self.enhancer, own_names(state, "enhancer."), "strict=False loads what fits.")
        return state

    def loss(self, batch_inputs: Any, batch_data_samples: Any) -> dict:
        """Compute the detector's losses on the images that it sees, and the enhancer's (``loss_<name>``)."""
        batch = _raw_images(batch_inputs, batch_data_samples)
        units, outputs = self._enhance(batch.images, batch.samples)
        # Some losses (Seesaw, GHM) count their inputs in buffers, which a frozen detector must not change.
        with contextlib.nullcontext() if self.train_detector else kept_buffers(self.detector):
            losses = self._through_detector(batch, units, outputs, self.detector.loss)
        if not self._trains:
            return losses
        own = self._enhancement_losses(units, outputs, batch.samples)
        if taken := set(own) & set(losses):
            raise ValueError(f"the detector has a {', '.join(sorted(taken))} already: rename the enhancer's loss")
        return {**losses, **own}

    def predict(self, batch_inputs: Any, batch_data_samples: Any, rescale: bool = True) -> Any:
        """Compute the detector's predictions, in the raw frame if ``rescale`` is true."""
        # A semi-supervised detector's predict always rescales and has no such argument.
        options = {} if rescale else {"rescale": False}
        return self._see(batch_inputs, batch_data_samples, partial(self.detector.predict, **options))

    def _forward(self, batch_inputs: Any, batch_data_samples: Any = None) -> Any:
        return self._see(batch_inputs, batch_data_samples, self.detector._forward)

    def extract_feat(self, batch_inputs: Any) -> Any:
        """Compute the detector's features of the images that it sees."""
        return self._see(batch_inputs, None, lambda inputs, samples: self.detector.extract_feat(inputs))

    def enhance_images(self, images: list[Tensor]) -> list[Tensor]:
        """Turn images of the pipeline into those that the detector sees: float32 levels in the same channel order.

        If the detector blends features, the result is the enhanced image.
        """
        return self._seen(images, *self._enhance(images))

    def _see(self, inputs: Any, samples: Any, function: Callable) -> Any:
        batch = _raw_images(inputs, samples)
        return self._through_detector(batch, *self._enhance(batch.images, batch.samples), function)

    def _enhance(
        self, images: list[Tensor], samples: list[DetDataSample] | None = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The images in [0, 1], and their enhancements (an empty list if these are not used)."""
        refuse_enhanced(samples)
        names = image_names(samples, len(images))
        look_alikes = self.look_alikes if self.training else None
        units = levels_to_units(images, self.options.channel_order, names, look_alikes)
        if self.detector_input == "raw" and not self._trains:
            return units, []
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            outputs = enhance_units(
                units,
                self.enhancer,
                self.options,
                clamp=not self._trains,
                checkpointing=self.checkpointing,
                names=names,
            )
        return units, outputs

    @property
    def _trains(self) -> bool:
        """Whether the enhancer is being trained."""
        return self.trainable and self.training

    def _seen(self, images: list[Tensor], units: list[Tensor], outputs: list[Tensor]) -> list[Tensor]:
        if self.detector_input == "raw":
            return [image.float() for image in images]
        enhanced = units_to_levels(images, units, outputs, self.options.channel_order)
        if self.detector_input == "both" and isinstance(self.fusion, ImageFusion):
            return [self.fusion(*pair) for pair in zip(self._enlarged(images), enhanced, strict=True)]
        return enhanced

    def _enlarged(self, images: list[Tensor]) -> list[Tensor]:
        """The raw images in the frame of the enhanced ones."""
        scale = self.enhancer.scale
        if scale == 1:
            return [image.float() for image in images]
        return [F.interpolate(i.float()[None], scale_factor=scale, mode="bilinear")[0] for i in images]

    def _through_detector(
        self, batch: ImageBatch, units: list[Tensor], outputs: list[Tensor], function: Callable
    ) -> Any:
        seen = self._seen(batch.images, units, outputs)
        scale = 1 if self.detector_input == "raw" else self.enhancer.scale
        samples = batch.samples and [scale_data_sample(s, scale) for s in batch.samples]
        inputs, data_samples = batch.rebuild(seen, samples)
        if self.detector_input == "both" and isinstance(self.fusion, FeatureFusion):
            if not is_image_batch(inputs):
                raise ValueError("fusion='features' needs single images, not clips or branches")
            return self._with_both_features(seen, self._enlarged(batch.images), samples, function)
        data = self.detector.data_preprocessor({"inputs": inputs, "data_samples": data_samples}, self.training)
        return function(data["inputs"], data["data_samples"])

    def _with_both_features(self, seen: list[Tensor], raw: list[Tensor], samples: Any, function: Callable) -> Any:
        # Raw and enhanced images are one batch, so that padding and random augmentation are the same for both.
        both = samples and [*samples, *(sample.clone() for sample in samples)]
        data = self.detector.data_preprocessor({"inputs": [*seen, *raw], "data_samples": both}, self.training)
        if not isinstance(data["inputs"], Tensor):
            raise ValueError(
                f"fusion='features' does not work with {type(self.detector).__name__}: its inputs are not one tensor"
            )
        enhanced_inputs, raw_inputs = data["inputs"].chunk(2)
        with self._fused_features(raw_inputs):
            return function(enhanced_inputs, data["data_samples"] and data["data_samples"][: len(seen)])

    @contextlib.contextmanager
    def _fused_features(self, raw_inputs: Tensor) -> Iterator[None]:
        """Let the detector's ``extract_feat`` blend the features of its input with those of ``raw_inputs``."""
        extract, used = self.detector.extract_feat, False

        def fused(batch_inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
            nonlocal used
            used = True
            return self.fusion(extract(raw_inputs, *args, **kwargs), extract(batch_inputs, *args, **kwargs))

        self.detector.extract_feat = fused
        try:
            yield
        finally:
            del self.detector.extract_feat
        if not used:
            raise ValueError(
                f"fusion='features' does not work with {type(self.detector).__name__}: it does not call extract_feat"
            )

    def _enhancement_losses(
        self, units: list[Tensor], outputs: list[Tensor], samples: list[DetDataSample] | None
    ) -> dict[str, Tensor]:
        pictures = list(zip(units, outputs, samples or [None] * len(units), strict=True))
        values = {
            name: [loss(unit[None], output[None], self.enhancer, sample) for unit, output, sample in pictures]
            for name, loss in self.losses.items()
        }
        return {f"loss_{name}": self.loss_weights[name] * torch.stack(v).mean() for name, v in values.items()}

    def _check_training(self) -> None:
        if not self.trainable and not self.train_detector:
            raise ValueError("trainable=False and train_detector=False leave nothing to train")
        if not self.trainable:
            return
        if refusal := self.enhancer.training_refusal:
            raise ValueError(f"{refusal}: it cannot be trainable")
        if self.detector_input == "raw" and not self.losses:
            raise ValueError(
                "with detector_input='raw' only losses train an enhancer: give losses, or set trainable=False"
            )


def _refuse_second(detector: nn.Module) -> None:
    for module in detector.modules():
        if isinstance(module, EnhancedDetector | EnhancedDetDataPreprocessor):
            raise ValueError(
                f"the detector enhances its pictures already, by {type(module).__name__}: give the config of the plain "
                "detector"
            )


def _raw_images(inputs: Any, samples: Any) -> ImageBatch:
    try:
        return flatten(inputs, samples)
    except TypeError as error:
        raise TypeError(
            f"EnhancedDetector needs raw colour images: {error}. Does a data preprocessor other than the wrapper's own "
            "run before it?"
        ) from error


def _with_preprocessor(detector: dict, outer: dict | None) -> dict:
    """The detector's config, with the outer data preprocessor if the detector has none of its own."""
    detector = copy.deepcopy(detector)
    if outer is None or outer.get("type") in ("BaseDataPreprocessor", RAW["type"]):
        return detector
    if detector.setdefault("data_preprocessor", outer) != outer:
        raise ValueError(
            "EnhancedDetector was given a data_preprocessor that differs from the one in its detector's config: keep "
            "only the detector's"
        )
    return detector
