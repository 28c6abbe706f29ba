"""Enhanced images on disk, keyed by what they were made of."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import torch

from ..checkpoints import atomic_write
from ..enhancers.base import Enhancer
from ..version import __version__


class EnhancedCache:
    """Arrays in a folder, one ``.npy`` each.

    The key covers the image's pixels, shape and dtype, the network's class, settings and weights, and the
    parameters given here: another picture, checkpoint or setting is another entry, and nothing goes stale. Entries
    appear whole (several workers may share the folder); one that does not read is made anew.

    Args:
        folder: Created when first written to.
        enhancer: Its fingerprint is taken now.
        parameters: What else the result depends on, in a fixed order.
    """

    def __init__(self, folder: str | os.PathLike[str], enhancer: Enhancer, *parameters: object) -> None:
        self.folder = Path(folder)
        self._made_of = f"{__version__} {fingerprint(enhancer)} {parameters!r}".encode()

    def path(self, image: np.ndarray) -> Path:
        """Where the result for ``image`` lies, or would."""
        digest = hashlib.sha256(self._made_of)
        digest.update(f"{image.shape} {image.dtype}".encode())
        digest.update(np.ascontiguousarray(image).data)
        key = digest.hexdigest()
        return self.folder / key[:2] / f"{key}.npy"

    def read(self, path: Path) -> np.ndarray | None:
        """The entry at ``path``, or None where there is none that reads."""
        try:
            return np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None

    def write(self, path: Path, result: np.ndarray) -> None:
        """Keep ``result`` at ``path``."""
        with atomic_write(path) as file:
            np.save(file, result, allow_pickle=False)


def fingerprint(enhancer: Enhancer) -> str:
    """A digest of an enhancer's classes, settings and weights."""
    digest = hashlib.sha256()
    for name, module in enhancer.named_modules():
        settings = {k: v for k, v in vars(module).items() if k[0] != "_" and k != "training"}
        digest.update(f"{name} {type(module).__module__}.{type(module).__qualname__} {settings!r}\n".encode())
    for name, tensor in enhancer.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
