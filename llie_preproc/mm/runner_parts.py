"""Parts that every MMEngine run of this project shares: checkpoints that survive a kill, and joining processes."""

from __future__ import annotations

import inspect
import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, DivergedError, needs

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
from .divergence import DivergenceWatch


class AtomicLocalBackend(LocalBackend):
    """MMEngine's backend for local files, changed so that a file appears whole or not at all.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.bin"
        >>> AtomicLocalBackend().put(b"whole", path)
        >>> path.read_bytes()
        b'whole'
    """

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``."""
        with atomic_write(filepath) as file:
            file.write(obj)


register_backend("AtomicLocalBackend", AtomicLocalBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook with atomic writes, which removes an old checkpoint after the new one is on disk.

    It ends a training that has diverged in all its processes (:class:`~llie_preproc.mm.divergence.DivergenceWatch`),
    so no checkpoint has weights that are not finite, and none of them replaces an earlier checkpoint.

    Functions in the state of schedulers (that of ``OneCycleLR`` holds one) are left out: :func:`read_checkpoint` would
    refuse a file that names them, and a resumed run has its own.

    The arguments are those of MMEngine's ``CheckpointHook``.

    Raises:
        TypeError: There is no such argument. (MMEngine would notice that only when it saves.)
        DivergedError: The training has diverged. Hooks of a step, of a validation and of a checkpoint raise it.

    Examples:
        >>> AtomicCheckpointHook(interval=5, max_keep_ckpts=1).interval
        5
        >>> AtomicCheckpointHook(intervall=5)
        Traceback (most recent call last):
        TypeError: AtomicCheckpointHook has no 'intervall'
    """

    _watch: DivergenceWatch | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        known = {*inspect.signature(CheckpointHook).parameters, *inspect.signature(Runner.save_checkpoint).parameters}
        if unknown := set(kwargs) - known:
            raise TypeError(f"{type(self).__name__} has no {', '.join(map(repr, sorted(unknown)))}")
        kwargs.setdefault("backend_args", {"backend": "AtomicLocalBackend"})
        # MMEngine is not given this number, because it would remove a checkpoint before it saves the next one.
        self._keep: int = kwargs.pop("max_keep_ckpts", -1)
        super().__init__(*args, **kwargs)

    def before_train(self, runner: Runner) -> None:
        """Begin to watch the training."""
        super().before_train(runner)
        self._watch = DivergenceWatch(unwrapped(runner.model))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Check the losses, and save a checkpoint at the end of an interval."""
        if self._watch is not None:
            _refuse(self._watch.fault_after_step(outputs or {}), runner, runner.iter + 1)
        super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def before_val_epoch(self, runner: Runner) -> None:
        """Check the weights in a training, because a validation might fail with another message."""
        self._check_weights(runner, runner.iter)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remove functions from the state of the schedulers."""
        schedulers = checkpoint.get("param_schedulers", [])
        for states in schedulers.values() if isinstance(schedulers, dict) else [schedulers]:
            states[:] = [{k: v for k, v in state.items() if not callable(v)} for state in states]

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        # The first process alone saves, but all of them must end.
        self._check_weights(runner, meta["iter"])
        super()._save_checkpoint_with_step(runner, step, meta)
        if self._keep > 0 and runner.rank == 0:
            for path in saved_checkpoints(self.out_dir)[: -self._keep]:
                path.unlink()

    def _check_weights(self, runner: Runner, iteration: int) -> None:
        if self._watch is not None:
            _refuse(self._watch.fault_of_weights(), runner, iteration)


def _refuse(fault: str, runner: Runner, iteration: int) -> None:
    """Raise :class:`DivergedError` if there is a fault after ``iteration`` iterations."""
    if not fault:
        return
    saved = saved_checkpoints(runner.work_dir)
    raise DivergedError(
        f"the training diverged: after iteration {iteration}, {fault}. "
        f"{f'The last good checkpoint is {saved[-1]}' if saved else 'There is no earlier checkpoint'}. A smaller "
        "learning rate or clipped gradients (optim_wrapper.clip_grad) may help"
    )


def saved_checkpoints(folder: str | Path) -> list[Path]:
    """Checkpoints of a work folder, ``epoch_N.pth`` or ``iter_N.pth``, sorted by N.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("iter_10.pth", "iter_9.pth", "best.pth"):
        ...     (folder / name).touch()
        >>> [path.name for path in saved_checkpoints(folder)]
        ['iter_9.pth', 'iter_10.pth']
    """
    found = [p for p in Path(folder).glob("*.pth") if re.fullmatch(r"(epoch|iter)_\d+", p.stem)]
    return sorted(found, key=lambda p: int(p.stem.split("_")[1]))


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the checkpoint of a run with PyTorch's restricted unpickler, which runs no code of the file.

    Args:
        path: Path of a file, or a URL that ends in ``#sha256=<64 hex digits>``.

    Returns:
        Tensors, plain data, and :class:`mmengine.logging.HistoryBuffer` objects that hold only their numbers. There are
        no functions or classes in it, and no objects with attributes from the file.

    Raises:
        FileNotFoundError: The file does not exist.
        CheckpointError: The file is damaged, is not a checkpoint of a run, or holds anything else; or a URL has no
            digest.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "epoch_1.pth"
        >>> torch.save(dict(meta=dict(epoch=1), state_dict=dict(weight=torch.ones(2))), path)
        >>> read_checkpoint(path)["meta"]
        {'epoch': 1}
    """
    path = local_file(path)
    if path.suffix == ".safetensors":
        raise CheckpointError(
            f"{path} is a safetensors file, which holds weights alone: expected a checkpoint that MMEngine or PyTorch "
            "wrote, such as FILE.pth"
        )
    try:
        checkpoint = plain(read_pickle(path, answers()))
    except (pickle.UnpicklingError, *DAMAGE) as error:
        raise CheckpointError(f"{path} is damaged, unsafe or not a checkpoint of a run ({reason_of(error)})") from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{path} is not a checkpoint of a run: it holds a {type(checkpoint).__name__}")
    return checkpoint


def unwrapped(model: Any) -> Any:
    """The model without the wrapper that a distributed run puts around it.

    Examples:
        >>> unwrapped(torch.nn.Identity())
        Identity()
    """
    return model.module if is_model_wrapper(model) else model


def join_processes(launcher: str, **options: Any) -> None:
    """Connect the processes of a launcher for MMEngine's distributed training, if they are not connected yet.

    Args:
        launcher: ``'none'``, or one of MMEngine's launchers: ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        **options: Options of MMEngine's ``init_dist``, such as ``timeout``; they are not used on the CPU.

    Raises:
        ValueError: :func:`llie_preproc.work_sharing.read_launch` refuses the environment.

    Examples:
        >>> join_processes("none")
        >>> is_distributed()
        False
    """
    if launcher == "none" or is_distributed():
        return
    if get_device() == "cpu":
        join_without_gpu(launcher)
    else:
        init_dist(launcher, **options)


def join_without_gpu(launcher: str = "pytorch") -> None:
    """Connect the processes of a launcher through gloo if there is no CUDA, which MMEngine's own start needs.

    Args:
        launcher: One of MMEngine's launchers: ``'pytorch'``, ``'slurm'`` or ``'mpi'``.

    Raises:
        ValueError: :func:`llie_preproc.work_sharing.read_launch` refuses the environment.
    """
    if not torch.cuda.is_available() and not torch.distributed.is_initialized():
        read_launch(launcher).export()
        torch.distributed.init_process_group("gloo")
