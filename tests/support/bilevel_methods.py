"""A small method of bi-level adversarial training, and batches and optimisers for it."""

from __future__ import annotations

import torch
from mmengine.optim import OptimWrapperDict
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from llie_preproc.enhancers.collaba import SpectralConv2d
from llie_preproc.registry import MODELS
from training.methods.bilevel import BilevelAdversarial
from training.optim import MethodOptimWrapperConstructor

PIXEL = dict(pixel=dict(type="llie_preproc.L1Loss"))
SMALL = {"unet": dict(type="llie_preproc.TestJudge"), "patch": dict(type="llie_preproc.TestJudge")}


@MODELS.register_module(name="TestJudge", force=True)
class Judge(nn.Sequential):
    """A discriminator with the awkward parts of the published ones: spectral norm, in-place activations, biases."""

    def __init__(self) -> None:
        act = nn.LeakyReLU(0.2, inplace=True)
        super().__init__(nn.Conv2d(3, 8, 3), act, SpectralConv2d(8, 16, 4, stride=2), act, nn.Conv2d(16, 1, 1))


PERCEPTUAL = dict(
    type="llie_preproc.PerceptualLoss",
    encoder=dict(type="llie_preproc.VGGEncoder", layers=19, width=4, checkpoint=None),
    stages=("conv1_2", "conv3_4"),
    loss_weight=1.2,
)
LOSSES = PIXEL | dict(perceptual=PERCEPTUAL)


def method(enhancer: object = "ZeroDCE", losses: dict | None = None, **options: object) -> BilevelAdversarial:
    """The method in training mode, with seeded weights and small discriminators."""
    torch.manual_seed(0)
    options = {"discriminators": SMALL, "illumination_weight": 0, **options}
    return BilevelAdversarial(enhancer, PIXEL if losses is None else losses, **options).train()


def batch(size: int = 32, scale: int = 1, count: int = 2, seed: int = 0) -> dict:
    """A data batch: dark inputs of ``size``, and targets of ``scale`` times the size."""
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for _ in range(count):
        normal = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
        target = normal.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
        samples.append(BaseDataElement(target=target, target_x1=normal))
    return {"inputs": [sample.target_x1 // 4 for sample in samples], "data_samples": samples}


def loss(model: BilevelAdversarial, data: dict) -> dict[str, Tensor]:
    """The losses of a batch by their names."""
    return model(**model.data_preprocessor(data, True), mode="loss")


def optimiser(model: BilevelAdversarial, part: dict | None = None, **parts: dict) -> OptimWrapperDict:
    """An optimiser for each part of the method, made from its config in ``parts``, or else from ``part``."""
    part = part or dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
    config = {name: parts.get(name, part) for name in model.optimised()}
    return MethodOptimWrapperConstructor(config)(model)


def changed(before: dict[str, Tensor], module: nn.Module) -> bool:
    """Whether any parameter differs from its copy in ``before``, which :func:`snapshot` made."""
    return any(not torch.equal(before[k], v) for k, v in module.named_parameters())


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters by their names."""
    return {k: v.detach().clone() for k, v in module.named_parameters()}
