"""The sets that papers train and test on, each by its layout.

All are :class:`~training.datasets.base.PictureSet`: ``options`` stand for its ``size``, ``names`` and ``transforms``,
and items have ``data_samples.target``. ``root`` is the folder that holds the layout. A picture without its pair and a
missing folder raise ``FileNotFoundError`` with the files' names, an unknown choice ``ValueError``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from llie_preproc.pictures import picture_files
from llie_preproc.registry import DATASETS

from . import layouts
from .base import Layout, PictureSet
from .synthesis import Degraded, itself


@DATASETS.register_module()
class LOLv1(PictureSet):
    """LOL: 485 and 15 pairs of 600x400 (Wei et al., BMVC 2018).

    Layout: ``{our485,eval15}/{low,high}``, or ``{Train,Test}/{input,target}`` as Retinexformer packs it.

    Args:
        root: Of the set.
        split: ``'train'`` or ``'test'``.
        **options: Of :class:`~training.datasets.base.PictureSet`; names are relative to the folder of inputs.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train", **options: Any) -> None:
        super().__init__(layouts.lol_v1(root, split), **options)


@DATASETS.register_module()
class LOLv2(PictureSet):
    """LOL-v2: 689 and 100 real pairs, 900 and 100 synthetic ones (Yang et al., TIP 2021).

    Layout: ``{Real_captured,Synthetic}/{Train,Test}/{Low,Normal}``, files of equal names or, as first released,
    ``low00001.png`` with ``normal00001.png``.

    Args:
        root: Of the set.
        subset: ``'real'`` or ``'synthetic'``.
        split: ``'train'`` or ``'test'``.
        **options: Of :class:`~training.datasets.base.PictureSet`; names are relative to the folder of inputs.
    """

    def __init__(
        self, root: str | os.PathLike[str], subset: str = "real", split: str = "train", **options: Any
    ) -> None:
        super().__init__(layouts.lol_v2(root, subset, split), **options)


@DATASETS.register_module()
class LSRW(PictureSet):
    """LSRW: 5,600 and 50 pairs of two cameras (Hai et al., R2RNet, 2021).

    Layout: ``{Training data,Eval}/{Huawei,Nikon}/{low,high}``.

    Args:
        root: Of the set.
        split: ``'train'`` or ``'test'``.
        camera: ``'both'``, ``'huawei'`` or ``'nikon'``.
        **options: Of :class:`~training.datasets.base.PictureSet`; names look like ``Huawei/low/1.jpg``.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str = "train", camera: str = "both", **options: Any
    ) -> None:
        super().__init__(layouts.lsrw(root, split, camera), **options)


@DATASETS.register_module()
class SICE(PictureSet):
    """SICE: multi-exposure sequences, 360 and 229, each exposure with its sequence's label (Cai et al., TIP 2018).

    Layout: ``Dataset_Part{1,2}/<sequence>/<exposure>.JPG`` and ``Dataset_Part{1,2}/Label/<sequence>.JPG``.

    Args:
        root: Of the set.
        part: 1 or 2.
        exposures: ``'all'``, or the darker (``'under'``) or brighter (``'over'``) half of each sequence by number; the
            middle one of an odd number is in neither.
        **options: Of :class:`~training.datasets.base.PictureSet`; names look like ``12/3.JPG``.
    """

    def __init__(self, root: str | os.PathLike[str], part: int = 1, exposures: str = "all", **options: Any) -> None:
        super().__init__(layouts.sice(root, part, exposures), **options)


@DATASETS.register_module()
class ExposureErrors(PictureSet):
    """Exposure errors rendered from MIT-Adobe FiveK: 17,675, 750 and 5,905 pictures (Afifi et al., CVPR 2021).

    Layout: ``{training,validation}/{INPUT_IMAGES,GT_IMAGES}`` and ``testing/{INPUT_IMAGES,expert_{a..e}_testing_set}``
    (also ``train``, ``val``, ``test``); inputs end in ``_N1.5``, ``_N1``, ``_0``, ``_P1`` or ``_P1.5``.

    Args:
        root: Of the set.
        split: ``'train'``, ``'val'`` or ``'test'``.
        expert: Whose retouching is the reference of the test split, ``'a'`` to ``'e'``; the others have one only.
        exposures: ``'all'``, ``'under'`` (N1.5, N1), ``'over'`` (the rest, 0 EV included: PSENet's protocol), or a list
            of suffixes.
        **options: Of :class:`~training.datasets.base.PictureSet`; names are relative to ``INPUT_IMAGES``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        expert: str = "e",
        exposures: str | Sequence[str] = "all",
        **options: Any,
    ) -> None:
        super().__init__(layouts.exposure_errors(root, split, expert, exposures), **options)


@DATASETS.register_module()
class RELLISUR(PictureSet):
    """RELLISUR: dark low-resolution pictures and normal ones of one, two and four times the size (Aakerberg, 2021).

    3,610, 215 and 425 pairs, inputs of 625x625. Items also have ``data_samples.target_x1``, the reference at the size
    of the input, of the same crop, which CollaBA's illumination term needs.

    Layout: ``{Train,Val,Test}/LLLR``, with ``NLHR-Duplicates/X{1,2,4}`` of the same names (``00266-3.0.png``), or
    without it ``NLHR/X{1,2,4}`` by the number of the scene (``00266.png``).

    Args:
        root: Of the set.
        split: ``'train'``, ``'val'`` or ``'test'``.
        scale: 1, 2 or 4.
        target_x1: False leaves that field out, and the folder ``X1`` need not be there (unless ``scale`` is 1).
        **options: Of :class:`~training.datasets.base.PictureSet`; names are relative to ``LLLR``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        scale: int = 2,
        target_x1: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(layouts.rellisur(root, split, scale, target_x1), **options)


@DATASETS.register_module()
class NightVisDrone(PictureSet):
    """Night from VisDrone (Semi-LLIE): real, or synthetic with the day as reference.

    Layout: ``VisDrone2019-DET-<split>/images`` as released (or ``<split>/images``), day and night together; Semi-LLIE's
    lists are not public, so ``names`` tells them apart. ``dark`` beside ``images`` holds darkened versions of day
    pictures under the same names, as a day-to-night network made them.

    Args:
        root: Of the set.
        kind: ``'paired'``: ``dark`` with ``images``; ``'unpaired'``: ``images`` alone, no reference; ``'synthesised'``:
            inputs made of ``images``, as in :class:`~training.datasets.SynthesisedPairs`.
        split: ``'train'``, ``'val'``, ``'test-dev'``, or any other that a folder is named after.
        synthesis: For ``'synthesised'``, as in :class:`~training.datasets.SynthesisedPairs`.
        **options: Of :class:`~training.datasets.base.PictureSet`; names are relative to ``images`` (paired: ``dark``).
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        kind: str,
        split: str = "train",
        synthesis: dict | Callable[[Tensor], Tensor] | None = None,
        **options: Any,
    ) -> None:
        if kind not in ("paired", "unpaired", "synthesised"):
            raise ValueError(f"kind must be 'paired', 'unpaired' or 'synthesised', got {kind!r}")
        if synthesis is not None and kind != "synthesised":
            raise ValueError(f"synthesis is for kind='synthesised', got kind={kind!r}")
        images = layouts.vis_drone(root, split, "images")
        if kind == "paired":
            dark = layouts.vis_drone(root, split, "dark")
            layout = Layout(dark, picture_files(dark), lambda path: {"target": images / path.relative_to(dark)})
        elif kind == "unpaired":
            layout = Layout(images, picture_files(images))
        else:
            layout = Layout(images, picture_files(images), itself)
            options["transforms"] = [*options.get("transforms", ()), Degraded(synthesis)]
        super().__init__(layout, **options)
