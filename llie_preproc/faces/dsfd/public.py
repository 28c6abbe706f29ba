"""Public DSFD checkpoints: their two layouts, and how tensors and channels are renamed and reordered for this package.

==========================  ==========================================  ===============================================
here                        public release (ResNet; VGG-16)             paper-like re-implementation (VGG-16; ResNet)
==========================  ==========================================  ===============================================
backbone                    layer1.0 (stem), layer1.1 (its norm),       vgg.N; resnet
                            layer1.4, layer2.0, layer3.0, layer4.0;
                            vgg.N (31 and 33 are fc6 and fc7)
neck.extras.0, .1           layer5, layer6 (the same numbers);          extras.0-1, extras.2-3
                            extras.0-1, extras.2-3
neck.up_path.top            -                                           fpn_topdown.0
neck.up_path.down.k         latlayer{k+1}                               fpn_topdown.{5-k}
neck.up_path.lateral.k      smooth{k+1}                                 fpn_latlayer.{4-k}
neck.fem.k                  cpm3_3, cpm4_3, cpm5_3, cpm7, cpm6_2,       fpn_fem.k
                            cpm7_2
.near .shared .middle       .cpm1 .cpm2 .cpm3 .cpm4 .cpm5               -
.far.0 .far.2
.branches.k                 -                                           .branch{k+1}
neck.norm_fused.k           L2Norm_3_3, L2Norm_4_3, L2Norm_5_3          -
neck.norm_original.k        -                                           L2Normof{k+1}
neck.norm_enhanced.k        -                                           L2Normef{k+1}
bbox_head.deep.reg, .cls    loc.k, conf.k (.conv1-4 are 0, 2, 4, 6)     -
bbox_head.first.reg, .cls   -                                           loc_pal1.k, conf_pal1.k
bbox_head.second.reg, .cls  -                                           loc_pal2.k, conf_pal2.k
==========================  ==========================================  ===============================================

The channels of the last class convolutions are reordered, because public networks put the background first and
MMDetection puts it last. (The release's four candidates are [background x 3, face] on level 1 and [face x 3,
background] above. Of these, only level 1 changes; the pairs of the other two anchor sets change on all levels.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ...errors import CheckpointError

_FEMS = ("cpm3_3", "cpm4_3", "cpm5_3", "cpm7", "cpm6_2", "cpm7_2")
_TREE = {"cpm1": "near", "cpm2": "shared", "cpm3": "middle", "cpm4": "far.0", "cpm5": "far.2"}
_VGG = {"31": "backbone.fc6", "33": "backbone.fc7"}
_ANY_VGG = [
    *((rf"vgg\.{n}\.", f"{name}.") for n, name in _VGG.items()),
    (r"vgg\.", "backbone.features."),
]
_PLAIN_EXTRAS = [(rf"extras\.{n}\.", f"neck.extras.{n // 2}.{n % 2 * 2}.") for n in range(4)]
_RULES: dict[str, list[tuple[str, str]]] = {
    "release": [
        (r"layer1\.0\.", "backbone.conv1."),
        (r"layer1\.1\.", "backbone.bn1."),
        (r"layer1\.4\.", "backbone.layer1."),
        (r"layer([234])\.0\.", r"backbone.layer\1."),
        (r"layer5\.", "neck.extras.0."),
        (r"layer6\.", "neck.extras.1."),
        *((rf"latlayer{k + 1}\.", f"neck.up_path.down.{k}.") for k in range(3)),
        *((rf"smooth{k + 1}\.", f"neck.up_path.lateral.{k}.") for k in range(3)),
        *((rf"{f}\.{a}\.", f"neck.fem.{k}.{b}.") for k, f in enumerate(_FEMS) for a, b in _TREE.items()),
        *((rf"L2Norm_{k + 3}_3\.", f"neck.norm_fused.{k}.") for k in range(3)),
        *((rf"loc\.(\d+)\.conv{n + 1}\.", rf"bbox_head.deep.reg.\1.{2 * n}.") for n in range(4)),
        *((rf"conf\.(\d+)\.conv{n + 1}\.", rf"bbox_head.deep.cls.\1.{2 * n}.") for n in range(4)),
    ],
    "paper-like": [
        (r"resnet\.", "backbone."),
        (r"fpn_topdown\.0\.", "neck.up_path.top."),
        *((rf"fpn_topdown\.{5 - k}\.", f"neck.up_path.down.{k}.") for k in range(5)),
        *((rf"fpn_latlayer\.{4 - k}\.", f"neck.up_path.lateral.{k}.") for k in range(5)),
        (r"fpn_fem\.(\d+)\.branch1\.", r"neck.fem.\1.branches.0.0."),
        (r"fpn_fem\.(\d+)\.branch2\.", r"neck.fem.\1.branches.1."),
        (r"fpn_fem\.(\d+)\.branch3\.", r"neck.fem.\1.branches.2."),
        *((rf"L2Normof{k + 1}\.", f"neck.norm_original.{k}.") for k in range(3)),
        *((rf"L2Normef{k + 1}\.", f"neck.norm_enhanced.{k}.") for k in range(3)),
        *((rf"loc_pal{n}\.", f"bbox_head.{shot}.reg.") for n, shot in ((1, "first"), (2, "second"))),
        *((rf"conf_pal{n}\.", f"bbox_head.{shot}.cls.") for n, shot in ((1, "first"), (2, "second"))),
    ],
}
# For each layout, a tensor that only this layout has.
_MARKS = {"release": "latlayer1.weight", "paper-like": "fpn_topdown.0.weight"}
# For each output channel of a class convolution in MMDetection's order, the index of the channel in the public file.
_PLAIN_ORDER = (1, 0)
_LOWEST_ORDER = (3, 0, 1, 2)
_DEEP_ORDER = (0, 1, 2, 3, 5, 4, 7, 6)


def public_layout(state: Mapping[str, object]) -> str | None:
    """Layout of a checkpoint: ``'release'``, ``'paper-like'``, or None for neither; a ``module.`` prefix is ignored.

    Examples:
        >>> public_layout({"module.latlayer1.weight": torch.zeros(1)})
        'release'
    """
    names = {name.removeprefix("module.") for name in _tensors(state)}
    return next((layout for layout, mark in _MARKS.items() if mark in names), None)


def convert_public(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename and reorder a public checkpoint for :class:`~llie_preproc.faces.dsfd.DSFD`.

    Loading through MMEngine (``load_from``, ``init_detector``) does this by itself.

    Args:
        state: Tensors by name, as the public release or the paper-like re-implementation saves them; those of the
            latter may be inside ``{'weight': ...}``. Counters of batches may be absent, as in files of torch 0.3.

    Raises:
        CheckpointError: The checkpoint has neither layout, or has a tensor that does not belong to its layout.

    Examples:
        >>> public = {"latlayer1.weight": torch.zeros(1), "layer1.4.0.conv1.weight": torch.zeros(1)}
        >>> list(convert_public(public))
        ['neck.up_path.down.0.weight', 'backbone.layer1.0.conv1.weight']
    """
    layout = public_layout(state)
    if layout is None:
        marks = " or ".join(repr(mark) for mark in _MARKS.values())
        raise CheckpointError(
            f"not a public DSFD checkpoint: there is no tensor {marks} among the {len(state)} tensors"
        )
    rules = [*_RULES[layout], *_PLAIN_EXTRAS, *_ANY_VGG]
    converted = {}
    for public, tensor in _tensors(state).items():
        name = _renamed(public.removeprefix("module."), rules)
        if name is None:
            raise CheckpointError(f"{public!r} is not a tensor of the {layout} DSFD layout")
        converted[name] = _background_last(name, tensor)
    return converted


def _tensors(state: Mapping) -> Mapping:
    inner = state.get("weight")
    return inner if isinstance(inner, Mapping) else state


def _renamed(name: str, rules: list[tuple[str, str]]) -> str | None:
    for pattern, replacement in rules:
        if re.match(pattern, name):
            return re.sub(f"^{pattern}", replacement, name)
    return None


def _background_last(name: str, tensor: Tensor) -> Tensor:
    """Bring the output channels of a class convolution into MMDetection's order; return other tensors as they are."""
    if re.match(r"bbox_head\.(first|second)\.cls\.", name):
        return _reordered(name, tensor, _PLAIN_ORDER)
    deep = re.match(r"bbox_head\.deep\.cls\.(\d+)\.6\.", name)
    if deep is None:
        return tensor
    level = int(deep[1])
    return _reordered(name, tensor, _LOWEST_ORDER if level == 0 else _DEEP_ORDER[: 2 + 2 * min(level + 1, 3)])


def _reordered(name: str, tensor: Tensor, order: tuple[int, ...]) -> Tensor:
    if len(tensor) != len(order):
        raise CheckpointError(f"{name}: {len(tensor)} class channels, expected {len(order)}: background and one face")
    return tensor[torch.tensor(order, device=tensor.device)]
