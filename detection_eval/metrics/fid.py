"""FID, the distance between the feature distributions of two sets of pictures.

Source: Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs Trained by a Two Time-Scale Update Rule Converge to a
Local Nash Equilibrium, 2017.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from llie_preproc.checkpoints import check_weights, read_state_dict
from llie_preproc.errors import CheckpointError, needs, one_line, require
from llie_preproc.pictures import picture_files, picture_size

from ..self_registration import Setting
from .arrays import read_levels, to_bytes
from .meters import Meter, meter_builder

_BATCH = 8
TRUNK = "pt_inception-2015-12-05-6726825d.pth of pytorch-fid and torch-fidelity"


def read_inception(trunk: str | os.PathLike[str]) -> nn.Module:
    """Read torch-fidelity's Inception-v3 with the weights that define the original FID.

    Args:
        trunk: Path of ``pt_inception-2015-12-05-6726825d.pth``, which pytorch-fid and torch-fidelity publish.

    Raises:
        FileNotFoundError: The file is missing.
        CheckpointError: The file is unsafe or damaged, or holds the weights of another network.
        MissingExtraError: torch-fidelity is not installed.
    """
    require("torch_fidelity", "the metric 'fid'")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # The library would load the file as a pickle that may run code, so it gets a copy of what was read safely.
    buffer = io.BytesIO()
    state = read_state_dict(trunk)
    torch.save(state, buffer)
    buffer.seek(0)
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=buffer)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(f"{trunk} is no Inception trunk ({first[:200]}); expected {TRUNK}") from error
    check_weights(state, network, trunk)
    return network


@torch.no_grad()
def inception_features(image: Tensor, network: nn.Module) -> np.ndarray:
    """The features ``(2048,)`` float32 of one picture, from the last pooling.

    >>> class Mean(nn.Module):  # stands for the network of read_inception
    ...     def forward(self, levels):
    ...         return (levels.float().mean(dim=(2, 3)),)
    >>> inception_features(torch.full((3, 8, 8), 0.2), Mean()).tolist()
    [51.0, 51.0, 51.0]

    Args:
        image: Picture ``(3, H, W)`` RGB, uint8 or floating in [0, 1]. It is converted to 8-bit levels; the network
            resizes it to 299x299 as TensorFlow 1 did.
        network: Network from :func:`read_inception`; it is moved to the device of ``image``.
    """
    levels = torch.from_numpy(to_bytes(image)).permute(2, 0, 1)[None].to(image.device)
    return network.to(image.device)(levels)[0][0].cpu().numpy()


@torch.no_grad()
def folder_features(files: Sequence[Path], network: nn.Module) -> np.ndarray:
    """The features ``(N, 2048)`` float32 of picture files, as :func:`inception_features` computes them.

    Pictures of the same size go through the network together, so the features are sorted by the size of the pictures.

    Args:
        files: Picture files.
        network: Network from :func:`read_inception`; it stays on its device.

    Raises:
        ImageError: A file is not a picture, or is damaged.
    """
    device = next(network.parameters()).device
    found = [np.empty((0, 2048), np.float32)]
    for _, group in groupby(sorted((picture_size(path), path) for path in files), key=itemgetter(0)):
        equal = [path for _, path in group]
        for start in range(0, len(equal), _BATCH):
            levels = torch.stack([read_levels(path) for path in equal[start : start + _BATCH]])
            found.append(network(levels.to(device))[0].cpu().numpy())
    return np.concatenate(found)


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians that fit two sets of features (sample covariances, ``ddof`` 1).

    The distance contains the trace of the square root of the product of the covariances. This function computes it as
    the sum of the singular values of the product of the centred features. That needs no root of an ill-conditioned
    matrix, and is fast for few pictures.

    >>> features = np.random.default_rng(0).normal(size=(8, 4))
    >>> round(frechet_distance(features, features + 1), 6)
    4.0

    Args:
        first: Features ``(N, D)`` of the first set.
        second: Features ``(M, D)`` of the second set.

    Raises:
        ValueError: A set has fewer than two rows, or the sets differ in ``D``.
    """
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:] or first.ndim != 2:
        raise ValueError(f"FID takes two sets of 2 pictures or more each, got features {first.shape}, {second.shape}")
    means, roots = zip(*(_moments(np.asarray(x, dtype=np.float64)) for x in (first, second)), strict=True)
    cross = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    return float(((means[0] - means[1]) ** 2).sum() + sum((r**2).sum() for r in roots) - 2 * cross)


def _moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean, and a matrix ``R`` of at most ``D`` rows such that ``R^T R`` is the covariance."""
    mean = features.mean(axis=0)
    root = (features - mean) / np.sqrt(len(features) - 1)
    if len(root) > root.shape[1]:
        root = np.asarray(np.linalg.qr(root, mode="r"))
    return mean, root


@meter_builder(
    "fid",
    Setting("fid_trunk", f"file {TRUNK}", needed=True, metavar="FILE"),
    Setting("fid_reference", "folder of the pictures to compare with instead of the targets", metavar="DIR"),
)
def _meter(fid_trunk: str | os.PathLike[str], fid_reference: str | os.PathLike[str] | None) -> Meter:
    network = read_inception(fid_trunk)
    features = partial(inception_features, network=network)
    reference = "the targets" if fid_reference is None else f"the pictures of {fid_reference}"
    description = f"Inception-v3 2048, 8-bit, resized to 299 as TensorFlow 1, against {reference}"
    made = partial(Meter, description, "FID {:.3f}", of_pictures=False)
    if fid_reference is None:
        return made(lambda *pair: np.stack([*map(features, pair)]), "target", _fid_of_pairs)
    folder = _FidAgainstFolder(fid_reference, network)
    return made(features, summary=folder, prepare=folder.prepare)


def _fid_of_pairs(added: Sequence[np.ndarray]) -> float:
    features = np.stack(added)
    return frechet_distance(features[:, 0], features[:, 1])


class _FidAgainstFolder:
    """FID against a folder. The folder's features are computed once, at their first use; each process takes a share."""

    def __init__(self, folder: str | os.PathLike[str], network: nn.Module) -> None:
        self._files, self._network = picture_files(folder), network
        self._reference: np.ndarray | None = None

    def prepare(self) -> np.ndarray:
        """The features of the folder's pictures."""
        if self._reference is None:
            with needs("the metric fid"):
                from mmengine.dist import all_gather_object, get_dist_info
            rank, processes = get_dist_info()
            shares = all_gather_object(self._share(self._files[rank::processes]))
            # All processes raise the error here together, because one that stops alone would leave the others waiting.
            if failed := [share for share in shares if isinstance(share, str)]:
                raise ValueError(f"fid_reference: {'; '.join(failed)}")
            self._reference = np.concatenate(shares)
        return self._reference

    def _share(self, files: Sequence[Path]) -> np.ndarray | str:
        try:
            return folder_features(files, self._network)
        except (OSError, ValueError) as error:
            return one_line(error)

    def __call__(self, added: Sequence[np.ndarray]) -> float:
        return frechet_distance(np.stack(added), self.prepare())
