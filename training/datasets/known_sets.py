"""The sets on which papers train and test, each read from its published layout of folders.

Each is a :class:`~training.datasets.base.PictureSet`: ``options`` are its ``size``, ``names`` and ``transforms``, and
items have ``data_samples.target``. ``root`` is the folder that holds the layout. A picture without its pair or a
missing folder raises ``FileNotFoundError`` with the names of the files; an unknown choice raises ``ValueError``.

The examples write empty files in place of pictures, because a set opens a picture only when it is asked for an item.
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
    """LOL: 485 training and 15 test pairs of 600x400 pixels (Wei et al., BMVC 2018).

    The layout is ``{our485,eval15}/{low,high}``, or ``{Train,Test}/{input,target}`` as Retinexformer packs it.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/our485/{folder}/2.png": "" for folder in ("low", "high")})
    ...     len(LOLv1(root))
    1

    Args:
        root: Root folder of the set.
        split: ``'train'`` or ``'test'``.
        **options: Arguments of :class:`~training.datasets.base.PictureSet`; names are relative to the folder of inputs.
    """

    def __init__(self, root: str | os.PathLike[str], split: str = "train", **options: Any) -> None:
        super().__init__(layouts.lol_v1(root, split), **options)


@DATASETS.register_module()
class LOLv2(PictureSet):
    """LOL-v2: 689 training and 100 test pairs taken by a camera, 900 and 100 synthetic ones (Yang et al., TIP 2021).

    The layout is ``{Real_captured,Synthetic}/{Train,Test}/{Low,Normal}``. The two pictures of a pair have equal names,
    or, as first released, names like ``low00001.png`` and ``normal00001.png``.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder = f"{root}/Real_captured/Test"
    ...     write_texts({f"{folder}/Low/low00690.png": "", f"{folder}/Normal/normal00690.png": ""})
    ...     len(LOLv2(root, subset="real", split="test"))
    1

    Args:
        root: Root folder of the set.
        subset: ``'real'`` or ``'synthetic'``.
        split: ``'train'`` or ``'test'``.
        **options: Arguments of :class:`~training.datasets.base.PictureSet`; names are relative to the folder of inputs.
    """

    def __init__(
        self, root: str | os.PathLike[str], subset: str = "real", split: str = "train", **options: Any
    ) -> None:
        super().__init__(layouts.lol_v2(root, subset, split), **options)


@DATASETS.register_module()
class LSRW(PictureSet):
    """LSRW: 5,600 training and 50 test pairs of two cameras (Hai et al., R2RNet, 2021).

    The layout is ``{Training data,Eval}/{Huawei,Nikon}/{low,high}``.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/Eval/Huawei/{folder}/1.jpg": "" for folder in ("low", "high")})
    ...     len(LSRW(root, split="test", camera="huawei"))
    1

    Args:
        root: Root folder of the set.
        split: ``'train'`` or ``'test'``.
        camera: ``'both'``, ``'huawei'`` or ``'nikon'``.
        **options: Arguments of :class:`~training.datasets.base.PictureSet`; names look like ``Huawei/low/1.jpg``.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str = "train", camera: str = "both", **options: Any
    ) -> None:
        super().__init__(layouts.lsrw(root, split, camera), **options)


@DATASETS.register_module()
class SICE(PictureSet):
    """SICE: 360 and 229 sequences of exposures; the reference is the sequence's label (Cai et al., TIP 2018).

    The layout is ``Dataset_Part{1,2}/<sequence>/<exposure>.JPG`` and ``Dataset_Part{1,2}/Label/<sequence>.JPG``.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> files = "1/1.JPG", "1/2.JPG", "1/3.JPG", "Label/1.JPG"
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/Dataset_Part1/{file}": "" for file in files})
    ...     len(SICE(root)), len(SICE(root, exposures="under"))
    (3, 1)

    Args:
        root: Root folder of the set.
        part: Part of the set, 1 or 2.
        exposures: ``'all'``, or the darker half (``'under'``) or the brighter half (``'over'``) of each sequence, as
            the exposures are numbered. If their number is odd, the middle exposure is in neither half.
        **options: Arguments of :class:`~training.datasets.base.PictureSet`; names look like ``12/3.JPG``.
    """

    def __init__(self, root: str | os.PathLike[str], part: int = 1, exposures: str = "all", **options: Any) -> None:
        super().__init__(layouts.sice(root, part, exposures), **options)


@DATASETS.register_module()
class ExposureErrors(PictureSet):
    """Exposure errors rendered from MIT-Adobe FiveK (Afifi et al., CVPR 2021).

    The splits have 17,675, 750 and 5,905 pictures. The layout is ``{training,validation}/{INPUT_IMAGES,GT_IMAGES}`` and
    ``testing/{INPUT_IMAGES,expert_{a..e}_testing_set}``; the folders may also have the names ``train``, ``val`` and
    ``test``. The names of inputs end in ``_N1.5``, ``_N1``, ``_0``, ``_P1`` or ``_P1.5``.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/training/INPUT_IMAGES/a1_{ev}.jpg": "" for ev in ("N1", "P1")})
    ...     write_texts({f"{root}/training/GT_IMAGES/a1.jpg": ""})
    ...     len(ExposureErrors(root)), len(ExposureErrors(root, exposures="under"))
    (2, 1)

    Args:
        root: Root folder of the set.
        split: ``'train'``, ``'val'`` or ``'test'``.
        expert: Expert whose retouched pictures are the references of the test split, ``'a'`` to ``'e'``. The other
            splits have the references of a single expert.
        exposures: ``'all'``, ``'under'`` (N1.5 and N1), ``'over'`` (the others, including 0 EV, as in PSENet's
            protocol), or a list of suffixes.
        **options: Arguments of :class:`~training.datasets.base.PictureSet`; names are relative to ``INPUT_IMAGES``.
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
    """RELLISUR: dark low-resolution pictures, and normal ones of one, two and four times the size (Aakerberg, 2021).

    The splits have 3,610, 215 and 425 pairs; the inputs have 625x625 pixels. Items also have
    ``data_samples.target_x1``, the same crop of the reference at the size of the input. CollaBA's illumination term
    needs it.

    The layout is ``{Train,Val,Test}/LLLR`` for the inputs. The references lie in ``NLHR-Duplicates/X{1,2,4}`` under the
    same names (``00266-3.0.png``). If that folder is missing, they lie in ``NLHR/X{1,2,4}`` under the number of the
    scene (``00266.png``).

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/Train/NLHR/X{scale}/00266.png": "" for scale in (1, 2)})
    ...     write_texts({f"{root}/Train/LLLR/00266-3.0.png": ""})
    ...     sorted(RELLISUR(root, scale=2).entries[0])
    ['image', 'target', 'target_x1']

    Args:
        root: Root folder of the set.
        split: ``'train'``, ``'val'`` or ``'test'``.
        scale: Factor by which a reference is wider and higher than its input: 1, 2 or 4.
        target_x1: Whether items have the field ``target_x1``. If not, the folder ``X1`` may be missing, unless
            ``scale`` is 1.
        **options: Arguments of :class:`~training.datasets.base.PictureSet`; names are relative to ``LLLR``.
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
    """Night pictures of VisDrone (Semi-LLIE): real ones, or synthetic ones with the day pictures as references.

    The layout is ``VisDrone2019-DET-<split>/images`` as released, or ``<split>/images``. That folder holds day and
    night pictures together; Semi-LLIE's lists are not public, so ``names`` must choose them. A folder ``dark`` beside
    ``images`` holds darkened versions of day pictures under the same names, made by a day-to-night network.

    >>> import tempfile
    >>> from llie_preproc.files import write_texts
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_texts({f"{root}/VisDrone2019-DET-train/images/{light}.jpg": "" for light in ("day", "night")})
    ...     night = NightVisDrone(root, "unpaired", names=["night.jpg"])
    >>> len(night)
    1

    Args:
        root: Root folder of the set.
        kind: ``'paired'`` has pictures of ``dark`` with references of ``images``; ``'unpaired'`` has pictures of
            ``images`` without reference; ``'synthesised'`` has inputs that are made from ``images``, as in
            :class:`~training.datasets.SynthesisedPairs`.
        split: ``'train'``, ``'val'``, ``'test-dev'``, or any other split that has a folder.
        synthesis: Synthesis of the inputs of ``'synthesised'``, as in :class:`~training.datasets.SynthesisedPairs`.
        **options: Arguments of :class:`~training.datasets.base.PictureSet`; names are relative to ``images``, or to
            ``dark`` for ``'paired'``.
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
            raise ValueError(f"synthesis can only be given with kind='synthesised', got kind={kind!r}")
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
