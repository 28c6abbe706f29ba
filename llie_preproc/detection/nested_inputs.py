"""The structures in which MMDetection's pipelines hand over images: flattened, and put together again.

Besides a list of images there are branches (semi-supervised training: a mapping of branch names to lists, with None
where a sample does not have that branch) and clips (tracking: ``(T, 3, H, W)`` tensors with a ``TrackDataSample``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmdet.structures import DetDataSample, TrackDataSample
from mmengine.structures import BaseDataElement
from torch import Tensor

from .geometry import is_image_batch


@dataclass(frozen=True)
class ImageBatch:
    """The images of a batch and what is known of each, in one order.

    Attributes:
        images: ``(3, H, W)`` each.
        samples: One an image; None where the batch came without.
    """

    images: list[Tensor]
    samples: list[DetDataSample] | None
    _inputs: Any = field(repr=False)
    _data_samples: Any = field(repr=False)

    def rebuild(self, images: list[Tensor], samples: list[DetDataSample] | None) -> tuple[Any, Any]:
        """Other images and samples in the structure that came.

        Args:
            images: As many as came. Those that were stacked (a clip's frames) must be of one size.
            samples: As many, or None.

        Returns:
            ``inputs`` and ``data_samples`` as an MMDetection data preprocessor takes them; nothing that came is
            written into.

        Raises:
            ValueError: There are more or fewer than came.
        """
        if len(images) != len(self.images):
            raise ValueError(f"images must be {len(self.images)}, as many as came, got {len(images)}")
        if samples is not None and (self.samples is None or len(samples) != len(self.samples)):
            came = 0 if self.samples is None else len(self.samples)
            raise ValueError(f"samples must be {came}, as many as came, got {len(samples)}")
        data_samples = None if samples is None else _refill(self._data_samples, iter(samples))
        return _refill(self._inputs, iter(images)), data_samples


def flatten(inputs: Any, data_samples: Any = None) -> ImageBatch:
    """Take a batch apart.

    Args:
        inputs: Raw images: ``(3, H, W)`` tensors in a list, stacked to ``(N, 3, H, W)``, clips of ``(T, 3, H, W)`` in a
            list, or a mapping of branches to any of these; None entries are skipped.
        data_samples: Their samples in the same structure (a ``TrackDataSample`` a clip), or None.

    Raises:
        TypeError: ``inputs`` hold anything but images of three channels, or none.
        ValueError: There is not one sample for each image.
    """
    images = list(_leaves(inputs))
    if not is_image_batch(images):
        raise TypeError(
            "inputs must be raw colour images: (3, H, W) tensors in a list, stacked, as clips (T, 3, H, W) or in a "
            f"mapping of branches, got {_describe(inputs)}"
        )
    if data_samples is None:
        return ImageBatch(images, None, inputs, None)
    samples = list(_leaves(data_samples))
    if len(samples) != len(images) or not all(isinstance(s, BaseDataElement) for s in samples):
        raise ValueError(f"data_samples must be one for each of the {len(images)} images, got {_describe(samples)}")
    return ImageBatch(images, samples, inputs, data_samples)


def _children(node: Any) -> Any:
    """What a node of the structure holds in order; None for an image or a sample."""
    if isinstance(node, Mapping):
        # Inputs and samples may name their branches in different orders.
        return [node[key] for key in sorted(node)]
    if isinstance(node, TrackDataSample):
        return node.video_data_samples
    stacked = isinstance(node, Tensor) and node.ndim > 3
    return node if stacked or isinstance(node, list | tuple) else None


def _leaves(node: Any) -> Iterator[Any]:
    children = _children(node)
    if children is not None:
        for child in children:
            yield from _leaves(child)
    elif node is not None:
        yield node


def _refill(node: Any, leaves: Iterator[Any]) -> Any:
    children = _children(node)
    if children is None:
        return None if node is None else next(leaves)
    filled = [_refill(child, leaves) for child in children]
    if isinstance(node, Mapping):
        found = dict(zip(sorted(node), filled, strict=True))
        # In the order that came, in which random augmentation takes its numbers.
        return {key: found[key] for key in node}
    if isinstance(node, Tensor):
        return torch.stack(filled)
    if isinstance(node, TrackDataSample):
        track = TrackDataSample(metainfo=node.metainfo)
        track.video_data_samples = filled
        return track
    return filled


def _describe(node: Any) -> str:
    if isinstance(node, Tensor):
        return f"a tensor {tuple(node.shape)}"
    if isinstance(node, Mapping):
        return f"a mapping of {', '.join(map(str, node)) or 'nothing'}"
    if isinstance(node, list | tuple):
        return f"{len(node)} of {', '.join(sorted({_describe(n) for n in node})) or 'nothing'}"
    return type(node).__name__
