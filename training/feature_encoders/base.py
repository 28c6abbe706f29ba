"""The base of all feature encoders: frozen weights, checks and loading; equal configs share one encoder."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from llie_preproc.checkpoints import check_weights, match_report, read_state_dict
from llie_preproc.registry import MODELS

if TYPE_CHECKING:
    from typing_extensions import Self

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FrozenModule(nn.Module):
    """The base class of trained networks that a method looks through: they stay in evaluation mode.

    Checkpoints leave them out, because they never change and may be hundreds of times larger than the enhancer.

    >>> FrozenModule().train().training
    False
    """

    def train(self, mode: bool = True) -> Self:
        """Keep evaluation mode, whatever ``mode`` says."""
        return super().train(False)


class FeatureEncoder(FrozenModule):
    """The base class of frozen pretrained networks that map pictures to feature maps and to one vector each.

    The weights take no gradient, and dropout stays off after ``train()`` too; gradients reach the picture. The encoder
    normalises pictures itself and resizes them where the network has an input size of its own. Subclasses build their
    network and then call :meth:`freeze`.

    Args:
        stages: Names of the feature maps that :meth:`forward` can return, from shallow to deep.
        mean: Mean of the pictures that the network was trained on, RGB in [0, 1].
        std: Standard deviation of these pictures, RGB in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, stages: Sequence[str], mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD
    ) -> None:
        super().__init__()
        self.stages = tuple(stages)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, stages: Sequence[str]) -> list[Tensor]:
        """Feature maps ``(N, C, h, w)`` of the named stages, in the order of the names.

        Layers beyond the deepest of them are not computed.

        Args:
            image: ``(N, 3, H, W)`` RGB in [0, 1], floating point; values beyond the range are not clamped.
            stages: Names out of :attr:`stages`.

        Raises:
            ValueError: The image has another shape, a stage is unknown, or no stage is named.
            TypeError: The image is not a floating point tensor.
        """
        self.check_stages(stages)
        _check_image(image)
        maps = self.maps(image, sorted(set(stages), key=self.stages.index))
        return [maps[name] for name in stages]

    def embed(self, image: Tensor) -> Tensor:
        """One vector for each picture, ``(N, D)``, of ``(N, 3, H, W)`` RGB in [0, 1].

        Errors of the image are those of :meth:`forward`.
        """
        _check_image(image)
        return self.vector(image)

    def check_stages(self, stages: Sequence[str]) -> None:
        """Raise ``ValueError`` unless ``stages`` are some of :attr:`stages`."""
        known = f"{type(self).__name__} has the stages {', '.join(self.stages)}"
        if isinstance(stages, str) or not stages:
            raise ValueError(f"stages must be a list of at least one name, got {stages!r}; {known}")
        unknown = [name for name in stages if name not in self.stages]
        if unknown:
            raise ValueError(f"unknown stages {', '.join(map(repr, unknown))}; {known}")

    @abstractmethod
    def maps(self, image: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """The feature maps of ``stages`` by name. The stages are known, distinct and go from shallow to deep."""

    @abstractmethod
    def vector(self, image: Tensor) -> Tensor:
        """The vectors ``(N, D)`` that :meth:`embed` returns."""

    def normalised(self, image: Tensor) -> Tensor:
        """The image in the network's precision, less the mean and divided by the standard deviation."""
        return (image.to(self.mean.dtype) - self.mean) / self.std

    def freeze(self, checkpoint: str | os.PathLike[str] | None) -> None:
        """Read the weights if a checkpoint is named, and stop all gradients with respect to the weights."""
        if checkpoint is not None:
            self._load(checkpoint)
        self.requires_grad_(False).eval()

    def renamed(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The tensors of the public file under the names of this module. Other tensors may stay."""
        return state

    def _load(self, checkpoint: str | os.PathLike[str]) -> None:
        state: Mapping[str, Tensor] = read_state_dict(checkpoint)
        own = self.state_dict()
        if not own.keys() <= state.keys():
            state = self.renamed(state)
        refusal = f"{checkpoint} does not hold the weights of a {type(self).__name__} of these sizes"
        match_report(self, state).check(refusal, least=1.0)
        check_weights(state, self, checkpoint)
        self.load_state_dict({key: state[key] for key in own})


class SequentialEncoder(FeatureEncoder):
    """The base class of encoders whose stages are the layers of one sequence, :attr:`features`, in its order."""

    features: nn.Sequential

    @abstractmethod
    def least_side(self, pools: int) -> int:
        """The smallest height and width of a picture for a stage behind so many pooling layers."""

    def maps(self, image: Tensor, stages: Sequence[str]) -> dict[str, Tensor]:
        """See the base class."""
        computed = self.stages[: self.stages.index(stages[-1]) + 1]
        least = self.least_side(sum(name.startswith("pool") for name in computed))
        if min(image.shape[-2:]) < least:
            shape = tuple(image.shape)
            raise ValueError(f"the stage {stages[-1]} needs a height and width of at least {least}, got {shape}")
        x, found = self.normalised(image), {}
        for name, layer in zip(computed, self.features, strict=False):
            x = layer(x)
            found[name] = x
        return {name: found[name] for name in stages}


def _check_image(image: Tensor) -> None:
    if not isinstance(image, Tensor) or not image.is_floating_point():
        kind = image.dtype if isinstance(image, Tensor) else type(image).__name__
        raise TypeError(f"a feature encoder takes a floating point tensor in [0, 1], got {kind}")
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"a feature encoder takes RGB images of shape (N, 3, H, W), got {tuple(image.shape)}")


_built: WeakValueDictionary[str, FeatureEncoder] = WeakValueDictionary()


def build_encoder(encoder: Mapping[str, Any] | FeatureEncoder) -> FeatureEncoder:
    """The encoder of a config. An encoder in use that has an equal config with a checkpoint is returned again.

    For example, a perceptual and a contrastive loss with equal configs share one RAM. Encoders with random weights, for
    tests, are never shared. Reading weights does not change PyTorch's random state, so what is initialised next does
    not depend on whether the encoder existed already.

    >>> encoder = build_encoder(dict(type="llie_preproc.VGGEncoder", checkpoint=None, width=4))
    >>> encoder.embed(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 32])

    Args:
        encoder: Config of a registered encoder, or an encoder, which is returned as it is.

    Raises:
        TypeError: The config does not build a :class:`FeatureEncoder`.
    """
    if isinstance(encoder, FeatureEncoder):
        return encoder
    config = dict(encoder)
    if config.get("checkpoint") is None:
        return _build(config)
    key = json.dumps({**config, "type": str(MODELS.get(str(config.get("type"))))}, sort_keys=True, default=str)
    found = _built.get(key)
    if found is None:
        with torch.random.fork_rng(devices=[]):
            found = _build(config)
        _built[key] = found
    return found


def _build(config: dict[str, Any]) -> FeatureEncoder:
    encoder = MODELS.build(config)
    if not isinstance(encoder, FeatureEncoder):
        raise TypeError(f"encoder must be the config of a feature encoder, got {config}")
    return encoder
