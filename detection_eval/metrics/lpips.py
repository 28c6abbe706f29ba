"""LPIPS: distance of deep features.

Zhang, Isola, Efros, Shechtman, Wang: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import as_file, files

import torch
from torch import Tensor, nn
from torchvision.models import alexnet

from llie_preproc.checkpoints import check_weights, read_state_dict
from llie_preproc.errors import CheckpointError

from .arrays import unit_pair

TRUNK = "torchvision's alexnet-owt-7be5be79.pth"
# AlexNet's second pooling is left with nothing below it.
_MIN_SIDE = 31
# The rectifiers of AlexNet's 'features'.
_TAPS = (1, 4, 7, 9, 11)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_HEADS = "functional/image/lpips_models/alex.pth"
_EPSILON = 1e-8


class Lpips(nn.Module):
    """LPIPS v0.1 on AlexNet, Eq. 1: learned weights of the squared differences of unit features, averaged over space.

    Args:
        trunk: State of AlexNet's ``features``.
        heads: Weights of the channels after each of the five rectifiers, ``(C,)`` each.

    Raises:
        RuntimeError: A trunk or heads of another network.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: dict[str, Tensor], heads: list[Tensor]) -> None:
        super().__init__()
        # Without the last pooling, which nothing follows and small pictures do not survive.
        self.features = alexnet(weights=None).features[:-1]
        self.features.load_state_dict(trunk)
        self.register_buffer("shift", torch.tensor(_SHIFT)[:, None, None])
        self.register_buffer("scale", torch.tensor(_SCALE)[:, None, None])
        for stage, weights in enumerate(heads):
            self.register_buffer(f"head{stage}", weights.reshape(-1, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """``(N,)`` distances of ``(N, 3, H, W)`` RGB in [-1, 1]."""
        stages = zip(self._unit_features(first), self._unit_features(second), strict=True)
        distances = [
            (self.get_buffer(f"head{stage}") * (x - y).square()).sum(dim=1).mean(dim=(1, 2))
            for stage, (x, y) in enumerate(stages)
        ]
        return torch.stack(distances).sum(dim=0)

    def _unit_features(self, image: Tensor) -> Iterator[Tensor]:
        x = (image - self.shift) / self.scale
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _TAPS:
                yield x / (x.square().sum(dim=1, keepdim=True) + _EPSILON).sqrt()


def read_lpips(trunk: str | os.PathLike[str]) -> nn.Module:
    """LPIPS v0.1 on AlexNet: the authors' linear heads as torchmetrics brings them, the trunk's weights from a file.

    Args:
        trunk: AlexNet's ImageNet weights as torchvision publishes them; of its tensors ``features.*`` are used.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Unsafe, damaged, or not AlexNet's weights; or torchmetrics has no heads.
    """
    state = read_state_dict(trunk)
    own = alexnet(weights=None).features.state_dict()
    found = {key: state[f"features.{key}"] for key in own if f"features.{key}" in state}
    wrong = [k for k in own if k not in found or found[k].shape != own[k].shape]
    if wrong:
        raise CheckpointError(
            f"{trunk} is no AlexNet trunk: {len(wrong)} of {len(own)} tensors are missing or of another shape, such as "
            f"features.{wrong[0]} of {tuple(own[wrong[0]].shape)}; expected {TRUNK}"
        )
    check_weights(found, alexnet(weights=None).features, trunk)
    return Lpips(found, _heads())


def _heads() -> list[Tensor]:
    # The data of torchmetrics, whose classes can only download the trunk.
    with as_file(files("torchmetrics") / _HEADS) as path:
        try:
            state = read_state_dict(path)
        except FileNotFoundError as error:
            raise CheckpointError(
                f"torchmetrics {version('torchmetrics')} has no {_HEADS}, the linear heads of LPIPS; 1.4 to 1.9 have it"
            ) from error
    return [state[f"lin{stage}.model.1.weight"] for stage in range(len(_TAPS))]


@torch.no_grad()
def lpips(enhanced: Tensor, target: Tensor, network: nn.Module) -> float:
    """LPIPS of one picture; 0 for equal ones.

    Args:
        enhanced: ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; clamped, and taken to [-1, 1] here.
        target: The same shape.
        network: From :func:`read_lpips`; moved to the device of ``enhanced``.

    Raises:
        ValueError: The shapes differ, or a side is shorter than 31.
    """
    first, second = (2 * x[None] - 1 for x in unit_pair(enhanced, target, _MIN_SIDE))
    return network.to(first.device)(first, second).item()
