"""Enhanced images on disk, keyed by everything that they depend on."""

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
    """A folder of enhanced images, each an array in a ``.npy`` file.

    The key of an entry covers the image's pixels, shape and dtype, the network's code, settings and weights
    (:func:`llie_preproc.fingerprints.fingerprint`), and ``parameters``. A change of any of these leads to another
    entry, so no entry becomes stale. Entries are written whole, so several workers may share the folder. An entry that
    is not an array of the requested shape and dtype is computed again.

    Args:
        folder: Folder of the entries, which is created at the first write.
        enhancer: Network that computes the entries. Its fingerprint is taken now.
        parameters: Other values that the result depends on, in a fixed order.

    Raises:
        ValueError: The network has a class without a source file, or a setting whose content cannot be read.

    Examples:
        >>> import tempfile
        >>> from llie_preproc.enhancers import GammaCorrection
        >>> cache = EnhancedCache(tempfile.mkdtemp(), GammaCorrection())
        >>> image = np.zeros((2, 3, 3), np.uint8)
        >>> path = cache.path(image)
        >>> cache.read(path, image.shape, image.dtype) is None
        True
        >>> cache.write(path, image)
        >>> cache.read(path, image.shape, image.dtype).shape
        (2, 3, 3)
    """

    def __init__(self, folder: str | os.PathLike[str], enhancer: Enhancer, *parameters: object) -> None:
        self.folder = Path(folder)
        made_of = Digest()
        for each in (__version__, _fingerprint(enhancer), parameters):
            made_of.add(each, "a parameter")
        self._made_of = made_of.hexdigest().encode()

    def path(self, image: np.ndarray) -> Path:
        """Path of the result for ``image``, whether it exists or not."""
        digest = hashlib.sha256(self._made_of)
        digest.update(f"{image.shape} {image.dtype}".encode())
        digest.update(np.ascontiguousarray(image).data)
        key = digest.hexdigest()
        return self.folder / key[:2] / f"{key}.npy"

    def read(self, path: Path, shape: Sequence[int], dtype: np.dtype) -> np.ndarray | None:
        """Read the entry at ``path``; None if it is not an array of ``shape`` and ``dtype`` with finite values."""
        found = read_array(path, shape, dtype)
        return None if found is None or (found.dtype.kind == "f" and not np.isfinite(found).all()) else found

    def write(self, path: Path, result: np.ndarray) -> None:
        """Write ``result`` to ``path``.

        Raises:
            OSError: The file cannot be written, for example because a folder has its name.
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
        raise ValueError(f"no cache for {type(enhancer).__name__}: {error}; or do not give cache_dir") from error
