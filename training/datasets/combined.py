"""Sets made of sets. A draw goes on to the parts, so what it gives depends on nothing before it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import Dataset

from llie_preproc.registry import DATASETS, TRANSFORMS

from .base import CheckedSet, Sizes
from .samplers import Draw, seeded_by


@DATASETS.register_module()
class ConcatenatedSets(CheckedSet):
    """Sets one after the other; MMEngine's ``ConcatDataset`` with draws.

    Args:
        datasets: Sets or their configs.

    Raises:
        ValueError: None is given.
    """

    def __init__(self, datasets: Sequence[dict | Dataset]) -> None:
        if not datasets:
            raise ValueError("datasets must name at least one set")
        self.datasets = [_built(d) for d in datasets]
        self.ends = list(accumulate(len(d) for d in self.datasets))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {int(index)} is outside a set of {len(self)}")
        part = bisect_right(self.ends, index)
        local = index - (self.ends[part - 1] if part else 0)
        return self.datasets[part][index.at(local) if isinstance(index, Draw) else local]

    def output_sizes(self) -> Sizes:
        """Those of all parts together, as a batch may hold pictures of any of them."""
        sizes: Sizes = {}
        for dataset in self.datasets:
            for field, found in _sizes_of(dataset).items():
                sizes[field] = sizes.get(field, {}) | found
        return sizes


@DATASETS.register_module()
class SemiSupervisedSet(CheckedSet):
    """A pair and a picture without reference at a time (Semi-LLIE).

    As long as the unpaired set; item i holds its picture i and a pair drawn uniformly, so pairs come in another order
    and with another crop each time. Weak augmentation is what the unpaired set does (Semi-LLIE: resizing to 256); the
    strong view is made of the weak one, pixel on pixel.

    An item is ``dict(inputs, data_samples)``: ``inputs`` the pair's input ``(3, H, W)``, ``data_samples.target`` its
    reference, ``data_samples.unpaired`` and ``data_samples.strong`` the two views ``(3, h, w)``, all uint8 RGB, with
    ``img_path`` and ``unpaired_path``. Given a draw, all of it is a function of the draw.

    Args:
        paired: Set of pairs, or its config.
        unpaired: Set of pictures without reference, or its config.
        strong: Config of a registered callable from picture to picture
            (:class:`~training.datasets.StrongAugmentation`), or one. None: the strong view is the weak one.
    """

    def __init__(
        self,
        paired: dict | Dataset,
        unpaired: dict | Dataset,
        strong: dict | Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.paired, self.unpaired = _built(paired), _built(unpaired)
        self.strong = TRANSFORMS.build(strong) if isinstance(strong, dict) else strong

    def __len__(self) -> int:
        return len(self.unpaired)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with seeded_by(index):
            # Plain indices: the parts go on in the stream of this draw, as seeding each would repeat its numbers.
            pair = self.paired[int(torch.randint(len(self.paired), ()))]
            single = self.unpaired[int(index)]
            weak = single["inputs"]
            strong = weak if self.strong is None else self.strong(weak)
        sample: BaseDataElement = pair["data_samples"]
        sample.set_metainfo({"unpaired_path": single["data_samples"].img_path})
        sample.set_data({"unpaired": weak, "strong": strong})
        return {"inputs": pair["inputs"], "data_samples": sample}

    def output_sizes(self) -> Sizes:
        """Those of the pairs, and ``unpaired`` by itself, as its pictures make a batch of their own."""
        return {**_sizes_of(self.paired), "unpaired": _sizes_of(self.unpaired).get("image", {})}


def _built(dataset: dict | Dataset) -> Any:
    return DATASETS.build(dataset) if isinstance(dataset, dict) else dataset


def _sizes_of(dataset: Any) -> Sizes:
    """The sizes of a set that knows them; another's check is made all the same, if it has one."""
    if hasattr(dataset, "output_sizes"):
        return dataset.output_sizes()
    if hasattr(dataset, "check"):
        dataset.check()
    return {}
