"""What every MMEngine run of this project shares: checkpoints that survive a kill, and how processes join."""

from __future__ import annotations

import inspect
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, needs

with needs("llie_preproc.mm.runner_parts"):
    from mmengine.device import get_device
    from mmengine.dist import init_dist, is_distributed
    from mmengine.fileio import LocalBackend, register_backend
    from mmengine.hooks import CheckpointHook
    from mmengine.model import is_model_wrapper
    from mmengine.runner import Runner

from ..checkpoints import DAMAGE, local_file, read_pickle, reason_of
from ..files import atomic_write
from ..message_hub import answers, plain
from ..registry import HOOKS
from ..work_sharing import read_launch


class AtomicLocalBackend(LocalBackend):
    """Local files that appear whole or not at all."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``."""
        with atomic_write(filepath) as file:
            file.write(obj)


register_backend("AtomicLocalBackend", AtomicLocalBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook with atomic writes; an old checkpoint goes only after the new one is on disk.

    Arguments are those of MMEngine's ``CheckpointHook``.

    Raises:
        TypeError: Another argument, which MMEngine would find only when it saves.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        known = {*inspect.signature(CheckpointHook).parameters, *inspect.signature(Runner.save_checkpoint).parameters}
        if unknown := set(kwargs) - known:
            raise TypeError(f"{type(self).__name__} has no {', '.join(map(repr, sorted(unknown)))}")
        kwargs.setdefault("backend_args", {"backend": "AtomicLocalBackend"})
        # Kept from MMEngine, which would remove before it saves.
        self._keep: int = kwargs.pop("max_keep_ckpts", -1)
        super().__init__(*args, **kwargs)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        super()._save_checkpoint_with_step(runner, step, meta)
        if self._keep > 0 and runner.rank == 0:
            for path in saved_checkpoints(self.out_dir)[: -self._keep]:
                path.unlink()


def saved_checkpoints(folder: str | Path) -> list[Path]:
    """Checkpoints of a work folder, ``epoch_N.pth`` or ``iter_N.pth``, by N."""
    found = [p for p in Path(folder).glob("*.pth") if re.fullmatch(r"(epoch|iter)_\d+", p.stem)]
    return sorted(found, key=lambda p: int(p.stem.split("_")[1]))


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the checkpoint of a run by PyTorch's restricted unpickler, which runs no code of the file.

    Args:
        path: A file, or a URL that ends in ``#sha256=<64 hex digits>``.

    Returns:
        Tensors, plain data and :class:`mmengine.logging.HistoryBuffer` with nothing but their numbers: there is no
        function or class in it, nor an object with attributes of the file's.

    Raises:
        FileNotFoundError: No such file.
        CheckpointError: Damaged, of another kind, or with anything else in it; a URL without its digest.
    """
    path = local_file(path)
    try:
        checkpoint = plain(read_pickle(path, answers()))
    except (pickle.UnpicklingError, *DAMAGE) as error:
        raise CheckpointError(f"{path} is damaged, unsafe or no checkpoint of a run ({reason_of(error)})") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path} is no checkpoint of a run: it holds a {type(checkpoint).__name__}")
    return checkpoint


def unwrapped(model: Any) -> Any:
    """The model itself, out of the wrapper that a distributed run puts round it."""
    return model.module if is_model_wrapper(model) else model


def join_processes(launcher: str, **options: Any) -> None:
    """Bring the processes of a launcher together for MMEngine's distributed training, once.

    Args:
        launcher: ``'none'``, or one of MMEngine's: ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        **options: Options of MMEngine's ``init_dist``, such as ``timeout``; not used on the CPU.

    Raises:
        ValueError: As :func:`llie_preproc.work_sharing.read_launch` has it.
    """
    if launcher == "none" or is_distributed():
        return
    if get_device() == "cpu":
        join_without_gpu(launcher)
    else:
        init_dist(launcher, **options)


def join_without_gpu(launcher: str = "pytorch") -> None:
    """MMEngine's own start of distributed training asks for CUDA; without it the processes talk through gloo.

    Args:
        launcher: Out of MMEngine's: ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        ValueError: As :func:`llie_preproc.work_sharing.read_launch` has it.
    """
    if not torch.cuda.is_available() and not torch.distributed.is_initialized():
        read_launch(launcher).export()
        torch.distributed.init_process_group("gloo")
