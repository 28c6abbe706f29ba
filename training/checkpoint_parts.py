"""The split of a finetuned detector's checkpoint into a detector and an enhancer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llie_preproc.checkpoints import first_not_finite, save_state_dict
from llie_preproc.errors import CheckpointError
from llie_preproc.files import atomic_path
from llie_preproc.mm.runner_parts import read_checkpoint

from .finetune_words import DETECTOR, ENHANCER

# These parts of an EnhancedDetector are in neither file.
_LEFT_OUT = {"losses", "data_preprocessor"}
_PREPROCESSORS = "data_preprocessor.enhancer."
_META = ("dataset_meta", "epoch", "iter", "mmengine_version")


def split_checkpoint(path: str | Path, out: str | Path, overwrite: bool = False) -> list[Path]:
    """Write the detector and the enhancer of a finetuned ``EnhancedDetector`` to two files.

    The checkpoint may also be that of a detector with the enhancer in its data preprocessor. If the weights were
    averaged (``EMAHook``), the averaged weights are written, which MMEngine saves as ``state_dict``.

    Args:
        path: Checkpoint of the run.
        out: Folder for ``detector.pth``, which the plain detector's config loads, and ``enhancer.safetensors``, which
            ``build_enhancer(..., checkpoint=)`` loads.
        overwrite: Whether existing files are replaced.

    Returns:
        Files that were written. An enhancer without weights (CLAHE, a fixed gamma) has no file.

    Raises:
        FileNotFoundError: The checkpoint does not exist.
        FileExistsError: One of the files exists, and ``overwrite`` is False.
        CheckpointError: The checkpoint has no enhancer, or is damaged or unsafe, or its detector joins two inputs by a
            learned fusion, which has no place in the two files, or holds numbers that are not finite.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> state = {"detector.backbone.weight": torch.ones(1), "enhancer.gamma": torch.ones(1)}
        >>> torch.save(dict(state_dict=state), folder / "epoch_1.pth")
        >>> [file.name for file in split_checkpoint(folder / "epoch_1.pth", folder)]
        ['detector.pth', 'enhancer.safetensors']
    """
    checkpoint = read_checkpoint(path)
    parts = _parts(checkpoint.get("state_dict"), path)
    # Masks of a detector may hold infinities. NaN differs from itself, so it is refused there too.
    if fault := first_not_finite(parts["enhancer"]) or first_not_finite(parts["detector"], parts["detector"]):
        raise CheckpointError(f"{path}: {fault}")
    targets = {name: Path(out) / name for name in (DETECTOR, ENHANCER)}
    if not parts["enhancer"]:
        del targets[ENHANCER]
    existing = [target for target in targets.values() if target.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists already: choose another folder, or use --overwrite")
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    with atomic_path(targets[DETECTOR]) as temporary:
        torch.save({"state_dict": parts["detector"], "meta": {k: meta[k] for k in _META if k in meta}}, temporary)
    if ENHANCER in targets:
        save_state_dict(parts["enhancer"], targets[ENHANCER], {"iterations": str(meta.get("iter", ""))})
    return list(targets.values())


def _parts(state: Any, path: str | Path) -> dict[str, dict[str, Tensor]]:
    """The tensors of detector and enhancer, by the names that they have there."""
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path} is not a checkpoint of an EnhancedDetector: it has no state_dict")
    parts: dict[str, dict[str, Tensor]] = {"detector": {}, "enhancer": {}}
    if any(name.startswith(_PREPROCESSORS) for name in state):
        for name, tensor in state.items():
            parts["enhancer" if name.startswith(_PREPROCESSORS) else "detector"][name.removeprefix(_PREPROCESSORS)] = (
                tensor
            )
        return parts
    for name, tensor in state.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise CheckpointError(f"{path} is not a checkpoint of an EnhancedDetector: {name!r} is not a tensor")
        root, _, rest = name.partition(".")
        if root == "fusion":
            raise CheckpointError(
                f"{path} joins the raw and the enhanced picture by a learned fusion ({name}), which has no place in a "
                "plain detector or an enhancer. Keep the EnhancedDetector"
            )
        if root not in {*parts, *_LEFT_OUT}:
            raise CheckpointError(f"{path} is not a checkpoint of an EnhancedDetector: it has {name}")
        if root in parts:
            parts[root][rest] = tensor
    if not parts["detector"]:
        raise CheckpointError(f"{path} is not a checkpoint of an EnhancedDetector: no name begins with 'detector.'")
    return parts
