"""LPIPS: distance of deep features.

Zhang, Isola, Efros, Shechtman, Wang: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018.
"""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn
from torchmetrics.functional.image import lpips as torchmetrics_lpips

from llie_preproc.checkpoints import read_state_dict
from llie_preproc.errors import CheckpointError

from .arrays import unit_pair

TRUNK = "torchvision's alexnet-owt-7be5be79.pth"
# AlexNet's second pooling is left with nothing below it.
_MIN_SIDE = 31


def read_lpips(trunk: str | os.PathLike[str]) -> nn.Module:
    """LPIPS v0.1 on AlexNet: torchmetrics' module and linear heads, with the trunk's weights from a file.

    Args:
        trunk: AlexNet's ImageNet weights as torchvision publishes them; of its tensors ``features.*`` are used.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Unsafe, damaged, or not AlexNet's weights.
    """
    state = read_state_dict(trunk)
    # The public class can only download the trunk.
    network = torchmetrics_lpips._NoTrainLpips(net="alex", pnet_rand=True)
    own = network.net.state_dict()
    # 'slice2.3.weight' is 'features.3.weight'.
    found = {key: state.get(f"features.{key.partition('.')[2]}") for key in own}
    wrong = [k for k, v in found.items() if v is None or v.shape != own[k].shape]
    if wrong:
        raise CheckpointError(
            f"{trunk} is no AlexNet trunk: {len(wrong)} of {len(own)} tensors are missing or of another shape, such as "
            f"features.{wrong[0].partition('.')[2]} of {tuple(own[wrong[0]].shape)}; expected {TRUNK}"
        )
    network.net.load_state_dict(found)
    return network


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
    first, second = unit_pair(enhanced, target, _MIN_SIDE)
    return network.to(first.device)(first[None], second[None], normalize=True).item()
