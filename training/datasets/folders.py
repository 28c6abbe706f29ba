"""Sets from folders of pictures: single pictures, and pairs that have equal names in two folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from llie_preproc.checks import at_least
from llie_preproc.pictures import pair_of, picture_files
from llie_preproc.registry import DATASETS

from .base import Layout, Pictures, PictureSet


@DATASETS.register_module()
class UnpairedFolder(PictureSet):
    """The pictures below a folder.

    An item is ``dict(inputs, data_samples)``: ``inputs`` is the picture ``(3, H, W)`` uint8 RGB, and ``data_samples``
    has its ``img_path``.

    >>> import tempfile
    >>> import numpy as np
    >>> from llie_preproc.pictures import Picture, write_picture
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/night/1.png", Picture(np.zeros((40, 60, 3), np.uint8)))
    ...     UnpairedFolder(root, size=(30, 20))[0]["inputs"].shape
    torch.Size([3, 20, 30])

    Args:
        folder: Folder of the pictures; its subfolders are searched too.
        size: Size to which pictures are resized, an edge or ``(width, height)``, bilinear (OpenCV). None keeps each
            picture's own size.
        transforms: Transforms, as in :class:`PairedFolders`.
        names: Names of the pictures to take, relative to ``folder``, as in :class:`PairedFolders`.
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
    """Pairs of pictures that have the same relative name in two folders. ``high`` may hold more pictures.

    The suffixes of a pair may differ (:func:`llie_preproc.pictures.pair_of`).

    An item is ``dict(inputs, data_samples)``. ``inputs`` is the input ``(3, H, W)`` uint8 RGB; ``data_samples`` has its
    ``img_path`` and the reference ``target``, ``(3, sH, sW)`` uint8 RGB with ``s = scale``.

    >>> import tempfile
    >>> import numpy as np
    >>> from llie_preproc.pictures import Picture, write_picture
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/low/1.png", Picture(np.zeros((4, 6, 3), np.uint8)))
    ...     write_picture(f"{root}/high/1.png", Picture(np.full((8, 12, 3), 200, np.uint8)))
    ...     item = PairedFolders(f"{root}/low", f"{root}/high", scale=2)[0]
    >>> item["inputs"].shape, item["data_samples"].target.shape
    (torch.Size([3, 4, 6]), torch.Size([3, 8, 12]))

    Args:
        low: Folder of the inputs.
        high: Folder of the references.
        size: Size to which the input is resized, an edge or ``(width, height)``, bilinear (OpenCV); the reference gets
            ``scale`` times that size. None keeps each picture's own size.
        scale: Factor by which a reference is wider and higher than its input.
        names: Names of the pairs to take, relative to ``low``; or the path of a text file that lists them, one in each
            line. A name may leave out its suffix if no two pictures differ in the suffix alone. None takes all pairs.
        transforms: Configs of registered transforms (:mod:`training.datasets.paired_transforms`), or callables. They
            are applied in turn, to both pictures alike.
        reduce_input: Factor by which the input is reduced after the transforms, by the mean of blocks of so many pixels
            along each side. Pairs of equal sizes then train a network that enlarges.

    Raises:
        FileNotFoundError: A picture has no pair (the message names both files), or a name is not that of a picture.
        ValueError: ``scale`` or ``reduce_input`` is below 1. When the item is read or the set is checked: the sizes of
            a pair do not agree, or an input cannot be divided into blocks.
    """

    def __init__(
        self,
        low: str | os.PathLike[str],
        high: str | os.PathLike[str],
        size: int | Sequence[int] | None = None,
        scale: int = 1,
        names: Sequence[str] | str | os.PathLike[str] | None = None,
        transforms: Sequence[dict | Callable[[Pictures], Pictures]] = (),
        reduce_input: int = 1,
    ) -> None:
        at_least("scale", scale, 1)
        base, references = Path(low).expanduser(), Path(high).expanduser()
        layout = Layout(
            base,
            picture_files(low),
            lambda path: {"target": pair_of(path, base, references)},
            scales={"target": scale},
        )
        super().__init__(layout, size, names, transforms, reduce_input)
