"""Hooks and schedules of enhancer training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.optim import ReduceOnPlateauLR
from mmengine.runner import Runner

from llie_preproc.checkpoints import atomic_write, save_state_dict
from llie_preproc.registry import HOOKS, PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class TrainLossPlateauLR(ReduceOnPlateauLR):
    """Reduces the learning rate when the mean training loss of an epoch no longer falls.

    MMEngine's own class watches a validation metric; PSENet's schedule has none. The mean is of what the message hub
    logged as ``train/loss`` since the epoch before, so it resumes with the run.
    """

    need_val_args = False

    def __init__(self, optimizer: object, *args: object, **kwargs: object) -> None:
        super().__init__(optimizer, "loss", *args, **kwargs)

    def step(self, metrics: dict | None = None) -> None:
        """Called once when constructed, then after each epoch."""
        hub = MessageHub.get_current_instance()
        if "train/loss" not in hub.log_scalars:
            return super().step()
        iterations = max(1, hub.get_info("epoch_length", 1))
        return super().step({"loss": float(hub.get_scalar("train/loss").mean(iterations))})


@HOOKS.register_module()
class ExportEnhancer(Hook):
    """Writes the enhancer alone, ``enhancer.safetensors`` in the work folder, after each epoch and at the end.

    The file loads with ``build_enhancer(..., checkpoint=path)``. It is replaced atomically.
    """

    priority = "VERY_LOW"

    def before_train(self, runner: Runner) -> None:
        """Tell schedules how long an epoch is."""
        runner.message_hub.update_info("epoch_length", len(runner.train_dataloader))

    def after_train_epoch(self, runner: Runner) -> None:
        """Export the current weights."""
        if runner.rank == 0:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            enhancer = model.enhancer
            metadata = {"enhancer": type(enhancer).__name__, "epoch": str(runner.epoch + 1)}
            save_state_dict(enhancer.state_dict(), Path(runner.work_dir) / "enhancer.safetensors", metadata)


class AtomicLocalBackend(LocalBackend):
    """Local files that appear whole or not at all."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write ``obj`` to ``filepath``."""
        with atomic_write(filepath) as file:
            file.write(obj)


register_backend("AtomicLocalBackend", AtomicLocalBackend, force=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook, with atomic writes; an old checkpoint goes only after the new one is on disk."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
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
