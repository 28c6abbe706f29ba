"""Enhanced images on disk, keyed by what they were made of."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..array_files import read_array, write_array
from ..enhancers.base import Enhancer
from ..files import atomic_write
from ..fingerprints import Digest, fingerprint
from ..version import __version__


class EnhancedCache:
    """Arrays in a folder, one ``.npy`` each.

    The key covers the image's pixels, shape and dtype, the network's code, settings and weights
    (:func:`llie_preproc.fingerprints.fingerprint`), and the parameters given here: another picture, checkpoint, setting
    or line of code is another entry, and nothing goes stale. Entries appear whole (several workers may share the
    folder); one that is not an array of the shape and dtype that are asked for is made anew.

    Args:
        folder: Folder of the entries, created when first written to.
        enhancer: Network that makes them. Its fingerprint is taken now.
        parameters: Values of what else the result depends on, in a fixed order.

    Raises:
        ValueError: The network has a class without a source file, or a setting whose content cannot be seen.
    """

    def __init__(self, folder: str | os.PathLike[str], enhancer: Enhancer, *parameters: object) -> None:
        self.folder = Path(folder)
        made_of = Digest()
        for each in (__version__, _fingerprint(enhancer), parameters):
            made_of.add(each, "a parameter")
        self._made_of = made_of.hexdigest().encode()

    def path(self, image: np.ndarray) -> Path:
        """Where the result for ``image`` lies, or would."""
        digest = hashlib.sha256(self._made_of)
        digest.update(f"{image.shape} {image.dtype}".encode())
        digest.update(np.ascontiguousarray(image).data)
        key = digest.hexdigest()
        return self.folder / key[:2] / f"{key}.npy"

    def read(self, path: Path, shape: Sequence[int], dtype: np.dtype) -> np.ndarray | None:
        """The entry at ``path``, or None where there is no array of ``shape`` and ``dtype`` with finite values."""
        found = read_array(path, shape, dtype)
        return None if found is None or (found.dtype.kind == "f" and not np.isfinite(found).all()) else found

    def write(self, path: Path, result: np.ndarray) -> None:
        """Keep ``result`` at ``path``.

        Raises:
            OSError: The file cannot be written; a folder has its name, for one.
        """
        if path.is_dir() and not path.is_symlink():
            message = "a folder has the name of the cache's entry; remove it"
            raise IsADirectoryError(errno.EISDIR, message, str(path))
        with atomic_write(path) as file:
            write_array(file, result)


def _fingerprint(enhancer: Enhancer) -> str:
    try:
        return fingerprint(enhancer)
    except ValueError as error:
        raise ValueError(f"no cache for {type(enhancer).__name__}: {error}; or leave cache_dir out") from error
