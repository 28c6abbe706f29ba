"""The checkpoint of a training of an enhancer: what it must have, and whether a run may start from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.optim import OptimWrapper, OptimWrapperDict

from llie_preproc.errors import CheckpointError
from llie_preproc.mm.runner_parts import read_checkpoint

WEIGHTS_ALONE = "Weights of an enhancer alone belong into model.enhancer.checkpoint"
"""What messages say to those whose file is no checkpoint of a run."""


def read_run(path: str | Path) -> dict[str, Any]:
    """Read the checkpoint of a training method's run, as :func:`llie_preproc.mm.runner_parts.read_checkpoint` does.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Damaged, of another kind, or with objects that could run code; a URL without its digest.
    """
    try:
        checkpoint = read_checkpoint(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"load_from: no file {path}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{error}. {WEIGHTS_ALONE}") from error
    if not {"meta", "state_dict", "method"} <= set(checkpoint):
        raise CheckpointError(f"{path} is no checkpoint of a run of this package. {WEIGHTS_ALONE}")
    return checkpoint


def optimizer_names(optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, str]:
    """The class of each part's optimiser, by the part."""
    parts = dict(optim_wrapper.items()) if isinstance(optim_wrapper, OptimWrapperDict) else {"enhancer": optim_wrapper}
    return {name: type(part.optimizer).__name__ for name, part in parts.items()}
