"""Flattening and rebuilding the structures in which MMDetection's pipelines pass images.

Images come in lists, in branches or in clips. Branches are for semi-supervised training: a mapping of branch names to
lists, with None for a sample without that branch. Clips are for tracking: ``(T, 3, H, W)`` tensors with a
``TrackDataSample``.
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
    """The images of a batch and their samples, in the same order.

    Attributes:
        images: Images ``(3, H, W)``.
        samples: Sample of each image; None if the batch had no samples.
    """

    images: list[Tensor]
    samples: list[DetDataSample] | None
    _inputs: Any = field(repr=False)
    _data_samples: Any = field(repr=False)

    def rebuild(self, images: list[Tensor], samples: list[DetDataSample] | None) -> tuple[Any, Any]:
        """Put other images and samples into the structure that the batch had.

        Args:
            images: Images, as many as the batch had. Those that were stacked (a clip's frames) must have one size.
            samples: Samples, as many as the batch had, or None.

        Returns:
            ``inputs`` and ``data_samples`` as an MMDetection data preprocessor accepts them; the original structures
            are not changed.

        Raises:
            ValueError: There are more or fewer images or samples than the batch had.
        """
        if len(images) != len(self.images):
            raise ValueError(f"images must be {len(self.images)}, as many as the batch has, got {len(images)}")
        if samples is not None and (self.samples is None or len(samples) != len(self.samples)):
            came = 0 if self.samples is None else len(self.samples)
            raise ValueError(f"samples must be {came}, as many as the batch has, got {len(samples)}")
        data_samples = None if samples is None else _refill(self._data_samples, iter(samples))
        return _refill(self._inputs, iter(images)), data_samples


def flatten(inputs: Any, data_samples: Any = None) -> ImageBatch:
    """List the images and the samples of a batch.

    Args:
        inputs: Raw images: ``(3, H, W)`` tensors in a list, stacked to ``(N, 3, H, W)``, clips of ``(T, 3, H, W)`` in a
            list, or a mapping of branches to any of these; entries that are None are skipped.
        data_samples: Samples of the images in the same structure (a ``TrackDataSample`` for each clip), or None.

    Raises:
        TypeError: ``inputs`` hold anything other than images of three channels, or no image.
        ValueError: There is not one sample for each image.

    Examples:
        >>> batch = flatten(dict(student=[torch.zeros(3, 8, 8)], teacher=[torch.zeros(3, 4, 4)]))
        >>> [tuple(image.shape) for image in batch.images]
        [(3, 8, 8), (3, 4, 4)]
        >>> inputs, samples = batch.rebuild([torch.ones(3, 16, 16), torch.ones(3, 8, 8)], None)
        >>> inputs["teacher"][0].shape
        torch.Size([3, 8, 8])
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
    """The children of a node of the structure, in order; None for an image or a sample."""
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
        # Random augmentation draws numbers in the order of the mapping, so this order is kept.
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
