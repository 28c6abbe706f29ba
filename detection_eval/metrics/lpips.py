"""LPIPS, a distance of deep features.

Zhang, Isola, Efros, Shechtman, Wang: The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, 2018.
"""

from __future__ import annotations

import os
from functools import partial

import torch
from torch import Tensor, nn

from llie_preproc.checkpoints import check_weights, read_state_dict
from llie_preproc.errors import CheckpointError, needs

from ..self_registration import Setting
from .arrays import unit_pair
from .meters import Meter, meter_builder

TRUNK = "torchvision's alexnet-owt-7be5be79.pth"
# AlexNet's second pooling has no output for a smaller picture.
_MIN_SIDE = 31


def read_lpips(trunk: str | os.PathLike[str]) -> nn.Module:
    """Build LPIPS v0.1 on AlexNet: torchmetrics' network with the authors' linear heads, and a trunk from a file.

    Args:
        trunk: File of AlexNet's ImageNet weights as torchvision publishes them. Only its tensors ``features.*`` are
            used.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is unsafe, damaged, or holds other weights than AlexNet's.
        MissingExtraError: torchmetrics is not installed.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from torchvision.models import alexnet
        >>> with torch.device("meta"):
        ...     shapes = {name: each.shape for name, each in alexnet().state_dict().items() if "features" in name}
        >>> with TemporaryDirectory() as folder:  # here with zeros instead of trained weights
        ...     torch.save({name: torch.zeros(shape) for name, shape in shapes.items()}, f"{folder}/alexnet.pth")
        ...     network = read_lpips(f"{folder}/alexnet.pth")
        >>> lpips(torch.zeros(3, 32, 32), torch.zeros(3, 32, 32), network)
        0.0
    """
    with needs("the metric 'lpips'"):
        # torchmetrics' public class has no argument for the trunk, and downloads one.
        from torchmetrics.functional.image.lpips import _LPIPS
    network = _LPIPS(pretrained=True, net="alex", pnet_rand=True)
    state, own = read_state_dict(trunk), network.net.state_dict()
    # Layer 3 of AlexNet's features is 'slice2.3' of this network.
    names = {key: f"features.{key.partition('.')[2]}" for key in own}
    wrong = [key for key, name in names.items() if name not in state or state[name].shape != own[key].shape]
    if wrong:
        raise CheckpointError(
            f"{trunk} is no AlexNet trunk: {len(wrong)} of {len(own)} tensors are missing or of another shape, such as "
            f"{names[wrong[0]]} of {tuple(own[wrong[0]].shape)}; expected {TRUNK}"
        )
    found = {key: state[name] for key, name in names.items()}
    check_weights(found, network.net, trunk)
    network.net.load_state_dict(found)
    return network


@torch.no_grad()
def lpips(enhanced: Tensor, target: Tensor, network: nn.Module) -> float:
    """Compute the LPIPS of one picture, which is 0 for equal pictures.

    Args:
        enhanced: Result ``(3, H, W)`` RGB, uint8 or floating in [0, 1]; it is clamped and scaled to [-1, 1] here.
        target: Reference of the same shape, uint8 or floating in [0, 1].
        network: Network of :func:`read_lpips`, which is moved to the device of ``enhanced``.

    Raises:
        ValueError: The shapes differ, or a side is shorter than 31.

    Examples:
        >>> black, white = torch.zeros(3, 32, 32), torch.ones(3, 32, 32)
        >>> lpips(black, white, nn.MSELoss())  # any module of two batches in [-1, 1] stands in for the network
        4.0
    """
    first, second = (2 * x[None] - 1 for x in unit_pair(enhanced, target, _MIN_SIDE))
    return network.to(first.device)(first, second).item()


@meter_builder("lpips", Setting("lpips_trunk", TRUNK, needed=True, metavar="FILE"))
def _meter(lpips_trunk: str | os.PathLike[str]) -> Meter:
    network = read_lpips(lpips_trunk)
    return Meter("v0.1, AlexNet, RGB, full size", "LPIPS {:.4f}", partial(lpips, network=network), "target")
