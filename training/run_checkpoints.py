"""Reading a checkpoint of an enhancer's training, to resume or to start a run from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict

from llie_preproc.errors import CheckpointError
from llie_preproc.mm.runner_parts import read_checkpoint

WEIGHTS_ALONE = "The weights of an enhancer alone belong into model.enhancer.checkpoint"
"""Sentence in messages about a file that is not the checkpoint of a run."""


def read_run(path: str | Path) -> dict[str, Any]:
    """Read the checkpoint of a training method's run, with :func:`llie_preproc.mm.runner_parts.read_checkpoint`.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged, is not the checkpoint of such a run, or holds objects that could run code,
            or the path is a URL without a digest.

    Examples:
        >>> import tempfile
        >>> import torch
        >>> path = Path(tempfile.mkdtemp()) / "iter_5.pth"
        >>> torch.save(dict(meta=dict(iter=5), state_dict={}, method={}), path)
        >>> read_run(path)["meta"]
        {'iter': 5}
    """
    try:
        checkpoint = read_checkpoint(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"load_from: there is no file {path}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{error}. {WEIGHTS_ALONE}") from error
    if not {"meta", "state_dict", "method"} <= set(checkpoint):
        raise CheckpointError(f"{path} is not a checkpoint of a run of this package. {WEIGHTS_ALONE}")
    return checkpoint


def optimizer_names(optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, str]:
    """Class name of the optimiser of each part that is trained.

    Examples:
        >>> import torch
        >>> optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1)
        >>> optimizer_names(OptimWrapper(optimizer))
        {'enhancer': 'SGD'}
    """
    parts = dict(optim_wrapper.items()) if isinstance(optim_wrapper, OptimWrapperDict) else {"enhancer": optim_wrapper}
    return {name: type(part.optimizer).__name__ for name, part in parts.items()}
