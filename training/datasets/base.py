"""The base classes of all training sets: the choice of files, reading, transforms, and the check before training."""

from __future__ import annotations

import functools
import itertools
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from mmengine.structures import BaseDataElement
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from llie_preproc.checks import at_least
from llie_preproc.errors import one_line
from llie_preproc.files import read_text
from llie_preproc.pictures import picture_size, read_rgb8
from llie_preproc.registry import TRANSFORMS

from .samplers import seeded_by

Pictures = dict[str, Tensor]
"""The pictures of one item by field, ``(3, H, W)`` uint8 RGB: ``image`` and its references (``target``, ``target_x1``),
each a whole number of times as large as ``image``. Where objects are outlined, ``masks`` is ``(n, H, W)`` uint8, 0 or
1."""

MASKS = "masks"

Sizes = dict[str, dict[tuple[int, int], Path]]
"""The sizes ``(width, height)`` of pictures after the transforms by field (``image``, ``target``), each with a file
that gets this size."""

_SHOWN = 3


def alone(path: Path) -> Mapping[str, Path]:
    """Return no references; it is the default of ``references_of``, for pictures without references."""
    return {}


def every(path: Path) -> bool:
    """Return True; it is the default of ``keep``, for sets whose inputs are all used."""
    return True


@dataclass(frozen=True)
class Layout:
    """The files of a set.

    Attributes:
        base: Folder to which the names of pictures are relative.
        inputs: Files of all inputs.
        references_of: Function from an input to its references by field; the files need not exist.
        references: Files that must each be the reference of some input; an unused one is an error.
        scales: Height and width of each field as a multiple of the input's; 1 for a field that is not listed.
        keep: Function that says whether an input becomes an item.
    """

    base: Path
    inputs: Sequence[Path]
    references_of: Callable[[Path], Mapping[str, Path]] = alone
    references: Sequence[Path] = ()
    scales: Mapping[str, int] | None = None
    keep: Callable[[Path], bool] = every


class CheckedSet(Dataset, ABC):
    """A set that knows the sizes of its pictures without decoding them."""

    metainfo: ClassVar[dict[str, Any]] = {}
    """An empty dict: MMEngine reads this attribute of every set, and these sets have nothing to put there."""

    @abstractmethod
    def output_sizes(self) -> Sizes:
        """The sizes that items can have. A field is absent where a transform does not tell the sizes that it makes.

        Raises:
            ValueError: Some pictures cannot be used; the message names them.
        """

    def check(self, batched: bool = False) -> None:
        """Read the header of every picture and compare sizes; nothing is decoded.

        Args:
            batched: Whether pictures will be stacked, so that each field must have the same size in all.

        Raises:
            ValueError: A header cannot be read, a reference does not have its scale times the size of its input, or a
                picture is smaller than its crop. The message tells how many pictures are wrong, and names the first few
                with their sizes. With ``batched`` it is also an error if sizes differ after the transforms; the message
                then names two files with their sizes.
        """
        sizes = self.output_sizes()
        if batched:
            _require_one_size(sizes)


class PictureSet(CheckedSet):
    """The pictures of a layout, with their references.

    An item is ``dict(inputs, data_samples)``. ``inputs`` is the picture ``(3, H, W)`` uint8 RGB; ``data_samples`` has
    ``img_path`` and each reference under its field (``target``), ``(3, sH, sW)`` uint8 RGB. Transforms draw from
    PyTorch's CPU generator; an index that is a :class:`~training.datasets.Draw` seeds it.

    Args:
        layout: Files of the set.
        size: Size to which the input is resized, an edge or ``(width, height)``, bilinear (OpenCV). A reference is
            resized to its scale times that size. None keeps each picture's own size.
        names: Names of the pictures to take, relative to the layout's base; or the path of a text file that lists them,
            one in each line. A name may leave out its suffix if no two pictures differ in the suffix alone. None takes
            all pictures.
        transforms: Configs of registered transforms, or callables. Each takes and returns a dict of pictures.
        reduce_input: Factor by which the input is reduced after the transforms (:class:`ReducedInput`).

    Raises:
        FileNotFoundError: A picture has no reference, a reference has no picture, a name is not that of a picture, or
            the file with the names is missing. The message names the files.
        TypeError: A transform is neither a config nor a callable.
        ValueError: No picture is left, or ``size`` is not positive.
    """

    def __init__(
        self,
        layout: Layout,
        size: int | Sequence[int] | None = None,
        names: Sequence[str] | str | os.PathLike[str] | None = None,
        transforms: Sequence[dict | Callable[[Pictures], Pictures]] = (),
        reduce_input: int = 1,
    ) -> None:
        self.size = None if size is None else edges(size)
        self.scales = dict(layout.scales or {})
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in transforms]
        if wrong := [t for t in self.transforms if not callable(t)]:
            raise TypeError(f"transforms must be configs (dict(type=...)) or callables, got {wrong[0]!r}")
        self.transforms.append(ReducedInput(reduce_input))
        self.reduce_input = reduce_input
        chosen = layout.inputs if names is None else _named(layout, names)
        entries = [{"image": p, **layout.references_of(p)} for p in chosen]
        _require_references(entries)
        if names is None:
            _require_inputs(layout.references, entries)
        self.entries = [entry for entry in entries if layout.keep(entry["image"])]
        if not self.entries:
            raise ValueError(
                f"the chosen part of the set holds none of the {len(entries)} pictures below {layout.base}"
            )

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, Any]:
        entry = self.entries[index]
        pictures = self._load(entry)
        with seeded_by(index):
            for transform in self.transforms:
                pictures = transform(pictures)
        # A crop is a view. Without a copy the whole picture would travel between processes with it.
        pictures = {k: v.clone(memory_format=torch.contiguous_format) for k, v in pictures.items()}
        image = pictures.pop("image")
        return {
            "inputs": image,
            "data_samples": BaseDataElement(metainfo={"img_path": str(entry["image"])}, **pictures),
        }

    def output_sizes(self) -> Sizes:
        """The sizes of ``image`` and of the references, from the headers of all files."""
        size_of = functools.lru_cache(maxsize=None)(picture_size)
        found: Sizes = {}
        problems = []
        for entry in self.entries:
            try:
                sizes = self._output_sizes_of(entry, size_of)
            except (OSError, ValueError) as error:
                problems.append(one_line(error))
                continue
            for (field, path), (width, height) in itertools.product(entry.items(), sizes):
                scale = 1 if field == "image" else self.reduce_input * self.scales.get(field, 1)
                found.setdefault(field, {}).setdefault((scale * width, scale * height), path)
        if problems:
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise ValueError(
                f"{len(problems)} of {len(self)} pictures cannot be used: {'; '.join(problems[:_SHOWN])}{more}"
            )
        return found

    def _output_sizes_of(
        self, entry: Mapping[str, Path], size_of: Callable[[Path], tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """The sizes that the input can have after the transforms; none if a transform does not tell its sizes.

        Raises:
            OSError: The file is missing.
            ValueError: A header cannot be read, the sizes do not agree, or one is too small for a transform.
        """
        stored = {field: size_of(path) for field, path in entry.items()}
        self._require_scales(entry, stored)
        sizes = [self.size or stored["image"]]
        for transform in self.transforms:
            output_size = getattr(transform, "output_size", None)
            if output_size is None:
                return []
            try:
                sizes = list(dict.fromkeys(new for size in sizes for new in _listed(output_size(*size))))
            except ValueError as error:
                raise ValueError(f"{entry['image']}: {error}") from error
        return sizes

    def _require_scales(self, entry: Mapping[str, Path], sizes: Mapping[str, tuple[int, int]]) -> None:
        """Raise ``ValueError`` unless each reference has its scale times the size of the input; (width, height)."""
        width, height = sizes["image"]
        for field, size in sizes.items():
            scale = self.scales.get(field, 1)
            if size != (scale * width, scale * height):
                raise ValueError(
                    f"{entry['image']} is {width}x{height} and its {field} {entry[field]} {size[0]}x{size[1]}, "
                    f"expected {scale * width}x{scale * height}"
                )

    def _load(self, entry: Mapping[str, Path]) -> Pictures:
        read = {path: load_tensor(path) for path in set(entry.values())}
        sizes = {field: (read[path].shape[2], read[path].shape[1]) for field, path in entry.items()}
        self._require_scales(entry, sizes)
        return {field: self._resize(read[path], field) for field, path in entry.items()}

    def _resize(self, picture: Tensor, field: str) -> Tensor:
        scale = self.scales.get(field, 1)
        return picture if self.size is None else resize(picture, (scale * self.size[0], scale * self.size[1]))


class ReducedInput:
    """A transform that puts the mean of ``factor x factor`` pixels in the place of each such block of the input.

    A pair of equal sizes then trains a network that enlarges.

    >>> pictures = ReducedInput(2)(dict(image=torch.arange(8, dtype=torch.uint8).view(1, 2, 4)))
    >>> pictures["image"].tolist()
    [[[2, 4]]]

    Args:
        factor: Number of pixels along each side of a block.

    Raises:
        ValueError: ``factor`` is below 1, or width or height of an input is no multiple of it.
    """

    def __init__(self, factor: int) -> None:
        at_least("reduce_input", factor, 1)
        self.factor = factor

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        """The size of the reduced input."""
        if width % self.factor or height % self.factor:
            raise ValueError(f"{width}x{height} must be multiples of reduce_input, which is {self.factor}")
        return width // self.factor, height // self.factor

    def __call__(self, pictures: Pictures) -> Pictures:
        if self.factor == 1:
            return pictures
        image = pictures["image"]
        self.output_size(image.shape[2], image.shape[1])
        blocks = functional.avg_pool2d(image.float(), self.factor)
        return {**pictures, "image": blocks.round().to(torch.uint8)}


def load_tensor(path: str | os.PathLike[str], size: tuple[int, int] | None = None) -> Tensor:
    """Read a picture as ``(3, H, W)`` uint8 RGB, and resize it to ``size`` (width, height) if one is given."""
    picture = torch.from_numpy(np.ascontiguousarray(read_rgb8(path).transpose(2, 0, 1)))
    return picture if size is None else resize(picture, size)


def resize(picture: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a picture ``(3, H, W)`` uint8 to ``size`` (width, height): bilinear, without smoothing it first.

    This is OpenCV's ``INTER_LINEAR``.
    """
    width, height = size
    if picture.shape[1:] == (height, width):
        return picture
    pixels = cv2.resize(picture.permute(1, 2, 0).numpy(), (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def resize_masks(masks: Tensor, size: Sequence[int]) -> Tensor:
    """Resize masks ``(n, H, W)`` to ``size`` (width, height); each pixel gets the value on which its centre falls."""
    width, height = size
    return functional.interpolate(masks[:, None], (height, width), mode="nearest-exact")[:, 0]


def edges(size: int | Sequence[int]) -> tuple[int, int]:
    """The ``(width, height)`` of a size, which may be a single edge.

    >>> edges(256), edges((320, 240))
    ((256, 256), (320, 240))

    Raises:
        ValueError: ``size`` is neither a positive whole number nor a pair of such numbers.
    """
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(type(edge) is int and edge > 0 for edge in pair):
        raise ValueError(f"size must be a positive whole number or (width, height) of such, got {size!r}")
    return pair[0], pair[1]


def _listed(size: Sequence[Any]) -> list[tuple[int, int]]:
    """The result of ``output_size`` as a list: one ``(width, height)``, or all sizes that a random transform gives."""
    return [tuple(s) for s in (size if isinstance(size[0], Sequence) else [size])]


def _require_one_size(sizes: Sizes) -> None:
    for field, found in sizes.items():
        if len(found) > 1:
            (first, path), (second, other) = list(found.items())[:2]
            raise ValueError(
                f"pictures of a batch must have the same size, but {field} {path} comes out as {first[0]}x{first[1]} "
                f"and {f'{other} ' if other != path else ''}as {second[0]}x{second[1]}: crop or resize them, or use a "
                "batch size of 1"
            )


def _named(layout: Layout, names: Sequence[str] | str | os.PathLike[str]) -> list[Path]:
    """The inputs of ``names``, in that order."""
    where = f"below {layout.base}"
    if isinstance(names, (str, os.PathLike)):
        where += f", listed in {names}"
        names = _lines(Path(names).expanduser())
    there = {path.relative_to(layout.base).as_posix(): path for path in layout.inputs}
    by_stem = {_stem(name): name for name in there}
    unlike = Counter(map(_stem, there))
    there = {stem: there[name] for stem, name in by_stem.items() if unlike[stem] == 1} | there
    # On the command line, a name without its suffix may be a number.
    wanted = [str(name) for name in names if name != ""]
    if not wanted:
        raise ValueError(f"names must hold at least one picture {where}, got none")
    if missing := [name for name in wanted if name not in there]:
        raise FileNotFoundError(
            f"{len(missing)} of {len(wanted)} names belong to no picture {where}: {', '.join(missing[:_SHOWN])}"
            + _other_suffixes(missing, there)
        )
    return [there[name] for name in wanted]


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise FileNotFoundError(
            f"names must be a list, or a text file with one name in each line; there is no file {path}"
        )
    return [line.strip() for line in read_text(path).splitlines()]


def _other_suffixes(missing: Iterable[str], there: Iterable[str]) -> str:
    """A hint that names the first few pictures which have the missing names, but with another suffix."""
    by_stem = {_stem(name): name for name in there}
    # The whole name is tried first, because a dot need not begin a suffix: 00266-3.0 has none.
    stems = [next((s for s in (name, _stem(name)) if s in by_stem), None) for name in missing]
    meant = [by_stem[stem] for stem in stems if stem is not None]
    return f"; did you mean {', '.join(meant[:_SHOWN])}?" if meant else ""


def _stem(name: str) -> str:
    """The relative name without its suffix."""
    return name.removesuffix(PurePosixPath(name).suffix)


def _require_references(entries: Iterable[Mapping[str, Path]]) -> None:
    for entry in entries:
        for path in entry.values():
            if not path.is_file():
                raise FileNotFoundError(f"{entry['image']} has no pair: there is no {path}")


def _require_inputs(references: Iterable[Path], entries: Iterable[Mapping[str, Path]]) -> None:
    used = {path for entry in entries for path in entry.values()}
    if unused := [path for path in references if path not in used]:
        shown = ", ".join(map(str, unused[:_SHOWN]))
        raise FileNotFoundError(f"{len(unused)} references have no input, the first: {shown}")
