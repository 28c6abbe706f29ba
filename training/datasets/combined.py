"""Sets made of other sets, for samplers whose indices carry a random seed (:class:`~training.datasets.Draw`).

The seed is passed on to the parts, so that an item depends only on its index and seed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.utils.data import Dataset

from llie_preproc.checks import each, within
from llie_preproc.registry import DATASETS, TRANSFORMS

from .base import CheckedSet, Sizes
from .samplers import Draw, seeded_by


@DATASETS.register_module()
class ConcatenatedSets(CheckedSet):
    """Sets one after the other, like MMEngine's ``ConcatDataset``, for indices that are draws.

    >>> both = ConcatenatedSets([["a", "b"], ["c"]])
    >>> len(both), both[2]
    (3, 'c')

    Args:
        datasets: Sets or their configs.

    Raises:
        ValueError: There is no set.
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
        """The sizes of all parts together, because a batch may hold pictures of any part."""
        sizes: Sizes = {}
        for dataset in self.datasets:
            for field, found in _sizes_of(dataset).items():
                sizes[field] = sizes.get(field, {}) | found
        return sizes


@DATASETS.register_module()
class MixedSets(CheckedSet):
    """Items of several sets, drawn by the sets' shares, however many pictures each has.

    Each item draws a set by its share and then one of its items uniformly, so that the index only seeds the draw. An
    epoch has as many items as the sets together.

    >>> mixed = MixedSets([["a"], ["b"]], shares=[1, 0.25])
    >>> len(mixed), mixed[0] in ("a", "b")
    (2, True)

    Args:
        datasets: Sets or their configs.
        shares: Share of each set, as any numbers above 0.

    Raises:
        ValueError: There is no set, the numbers of sets and of shares differ, or a share is not above 0.
    """

    def __init__(self, datasets: Sequence[dict | Dataset], shares: Sequence[float]) -> None:
        each("shares", shares, lambda name, share: within(name, share, above=0))
        if not datasets or len(datasets) != len(shares):
            raise ValueError(
                f"shares must have one number for each of at least one set, got {len(shares)} and {len(datasets)}"
            )
        self.parts = ConcatenatedSets(datasets)
        self.shares = torch.tensor(shares, dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.parts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {int(index)} is outside a set of {len(self)}")
        with seeded_by(index):
            # The part gets a plain index and so continues the random stream of this draw.
            dataset = self.parts.datasets[int(torch.multinomial(self.shares, 1))]
            return dataset[int(torch.randint(len(dataset), ()))]

    def output_sizes(self) -> Sizes:
        """The sizes of all parts together."""
        return self.parts.output_sizes()


@DATASETS.register_module()
class SemiSupervisedSet(CheckedSet):
    """A set whose items hold a pair and a picture without reference (Semi-LLIE).

    The set is as long as the unpaired set. Item i holds picture i of that set and a pair that is drawn uniformly, so
    that pairs come in another order and with another crop each time. The transforms of the unpaired set are the weak
    augmentation (Semi-LLIE resizes to 256). The strong view is made from the weak one and keeps its geometry.

    An item is ``dict(inputs, data_samples)``. ``inputs`` is the pair's input ``(3, H, W)``. ``data_samples`` has the
    reference ``target``, the weak view ``unpaired`` and the strong view ``strong``, both ``(3, h, w)``, and the paths
    ``img_path`` and ``unpaired_path``. All pictures are uint8 RGB. If the index is a draw, the item depends only on it.

    >>> import tempfile
    >>> import numpy as np
    >>> from llie_preproc.pictures import Picture, write_picture
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("low/1.png", "high/1.png", "night/a.png"):
    ...         write_picture(f"{root}/{name}", Picture(np.zeros((4, 6, 3), np.uint8)))
    ...     pairs = dict(type="llie_preproc.PairedFolders", low=f"{root}/low", high=f"{root}/high")
    ...     sets = SemiSupervisedSet(pairs, dict(type="llie_preproc.UnpairedFolder", folder=f"{root}/night"))
    ...     sorted(sets[0]["data_samples"].keys())
    ['strong', 'target', 'unpaired']

    Args:
        paired: Set of pairs, or its config.
        unpaired: Set of pictures without reference, or its config.
        strong: Callable from picture to picture, or the config of a registered one
            (:class:`~training.datasets.StrongAugmentation`). None makes the strong view equal to the weak one.
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
            # The parts get plain indices and so continue the random stream of this draw. Draws would seed both alike.
            pair = self.paired[int(torch.randint(len(self.paired), ()))]
            single = self.unpaired[int(index)]
            weak = single["inputs"]
            strong = weak if self.strong is None else self.strong(weak)
        sample: BaseDataElement = pair["data_samples"]
        sample.set_metainfo({"unpaired_path": single["data_samples"].img_path})
        sample.set_data({"unpaired": weak, "strong": strong})
        return {"inputs": pair["inputs"], "data_samples": sample}

    def output_sizes(self) -> Sizes:
        """The sizes of the pairs, and separately those of ``unpaired``, whose pictures form a separate batch."""
        return {**_sizes_of(self.paired), "unpaired": _sizes_of(self.unpaired).get("image", {})}


def _built(dataset: dict | Dataset) -> Any:
    return DATASETS.build(dataset) if isinstance(dataset, dict) else dataset


def _sizes_of(dataset: Any) -> Sizes:
    """The sizes of a set that knows them. For another set only its ``check`` is called, if it has one."""
    if hasattr(dataset, "output_sizes"):
        return dataset.output_sizes()
    if hasattr(dataset, "check"):
        dataset.check()
    return {}
