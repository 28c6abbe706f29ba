"""Folders of pictures, alone or in pairs of equal names."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from llie_preproc.checks import at_least
from llie_preproc.pictures import picture_files
from llie_preproc.registry import DATASETS

from .base import Layout, Pictures, PictureSet


@DATASETS.register_module()
class UnpairedFolder(PictureSet):
    """The pictures below a folder.

    An item is ``dict(inputs=(3, H, W) uint8 RGB tensor, data_samples)`` with ``data_samples.img_path``.

    Args:
        folder: Searched with its subfolders.
        size: An edge or ``(width, height)`` to resize to, bilinear (OpenCV); None keeps each picture's own.
        transforms: As for :class:`PairedFolders`.
        names: As for :class:`PairedFolders`, relative to ``folder``.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        size: int | Sequence[int] | None = None,
        transforms: Sequence[dict | Callable[[Pictures], Pictures]] = (),
        names: Sequence[str] | str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(Layout(Path(folder).expanduser(), picture_files(folder)), size, names, transforms)


@DATASETS.register_module()
class PairedFolders(PictureSet):
    """Pictures of two folders that pair by relative name. ``high`` may hold more.

    An item is ``dict(inputs, data_samples)``: ``inputs`` ``(3, H, W)`` uint8 RGB, ``data_samples.img_path`` and
    ``data_samples.target``, the reference, ``(3, sH, sW)`` with ``s = scale``.

    Args:
        low: Folder of the inputs.
        high: Folder of the references.
        size: An edge or ``(width, height)`` to resize the input to, bilinear (OpenCV), the reference to ``scale`` times
            that; None keeps each picture's own.
        scale: How many times as large as its input a reference is.
        names: The pairs to take: names relative to ``low``, suffix included, or the path of a text file that lists
            them, one a line. None: all.
        transforms: Configs of registered transforms (:mod:`training.datasets.paired_transforms`), or callables, applied
            in turn to both pictures.

    Raises:
        FileNotFoundError: A picture without its pair, both files named; or a name that is not there.
        ValueError: On reading, a pair whose sizes do not agree.
    """

    def __init__(
        self,
        low: str | os.PathLike[str],
        high: str | os.PathLike[str],
        size: int | Sequence[int] | None = None,
        scale: int = 1,
        names: Sequence[str] | str | os.PathLike[str] | None = None,
        transforms: Sequence[dict | Callable[[Pictures], Pictures]] = (),
    ) -> None:
        at_least("scale", scale, 1)
        base, references = Path(low).expanduser(), Path(high).expanduser()
        layout = Layout(
            base,
            picture_files(low),
            lambda path: {"target": references / path.relative_to(base)},
            scales={"target": scale},
        )
        super().__init__(layout, size, names, transforms)
