"""Hooks and schedules of enhancer training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict, ReduceOnPlateauLR
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _NormBase

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.checks import at_least
from llie_preproc.errors import CheckpointError
from llie_preproc.mm.runner_parts import AtomicCheckpointHook, read_checkpoint
from llie_preproc.registry import HOOKS, PARAM_SCHEDULERS
from llie_preproc.seeds import derive_seed, seed_everything

from .data_parallel import average_tensors
from .feature_encoders import FeatureEncoder, FrozenSAM
from .randomness import begin_iteration, end_iteration

# What tells the seed of an epoch's data from that of an iteration.
_DATA = 1
_ALONE = "Weights of an enhancer alone belong into model.enhancer.checkpoint"


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
        # As MMEngine's own hook, which each Runner has, tells.
        iterations = hub.get_info("max_iters") // hub.get_info("max_epochs")
        return super().step({"loss": float(hub.get_scalar("train/loss").mean(iterations))})


@HOOKS.register_module()
class ExportEnhancer(Hook):
    """Writes the enhancer alone, ``enhancer.safetensors`` in the work folder, with each checkpoint.

    That is the network which validation scores: the averaged one, or the teacher, where the method has one; what the
    optimiser trains is then written too, ``student.safetensors``. Both load with ``build_enhancer(...,
    checkpoint=path)``, and are replaced atomically.
    """

    priority = "VERY_LOW"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Export the current weights; called on rank 0."""
        method = training_method(runner)
        metadata = {"enhancer": type(method.enhancer).__name__, "iterations": str(checkpoint["meta"]["iter"])}
        networks = {"enhancer": method.evaluated}
        if method.evaluated is not method.enhancer:
            networks["student"] = method.enhancer
        for name, network in networks.items():
            save_state_dict(network.state_dict(), Path(runner.work_dir) / f"{name}.safetensors", metadata)


def exported_networks(work_dir: Path) -> list[Path]:
    """Files that :class:`ExportEnhancer` has written into a work folder."""
    return [path for name in ("enhancer", "student") if (path := work_dir / f"{name}.safetensors").is_file()]


def training_method(runner: Runner) -> Any:
    """The method that the Runner trains, out of its distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


@HOOKS.register_module()
class IterationSeed(Hook):
    """Seeds each iteration by the run's seed and its number, so that a resumed run draws the same random numbers."""

    priority = "VERY_HIGH"

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed PyTorch, NumPy, ``random`` and what the ranks share."""
        begin_iteration(runner.seed, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """What is drawn between iterations comes from PyTorch's own generator."""
        end_iteration()


@HOOKS.register_module()
class EpochSeed(IterationSeed):
    """Seeds each epoch too, for data that draw their random numbers from the process, as MMDetection's do.

    A run that resumes at an epoch's end then goes on as the uninterrupted one. Where workers persist over epochs, what
    they draw is theirs, and begins anew.
    """

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed what the data loader and its transforms draw before the first iteration."""
        seed_everything(derive_seed(runner.seed, runner.iter, get_rank(), _DATA))


@HOOKS.register_module()
class AverageStatistics(Hook):
    """Averages batch norm's running statistics over the processes after each iteration; one process has none to.

    Otherwise each process validates with its own, and those of the first are saved. Layers in evaluation mode, as
    frozen ones are, keep theirs to the last bit, which the mean of equal numbers may not.
    """

    # Before the moving average copies them.
    priority = "HIGH"

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Average."""
        layers = [m for m in runner.model.modules() if isinstance(m, _NormBase) and m.training]
        # Not how many batches there were, which is the same in all.
        average_tensors([b for layer in layers for b in layer.buffers(recurse=False) if b.is_floating_point()])


@HOOKS.register_module()
class EnhancedSamples(Hook):
    """Shows the first validation pictures in the log, TensorBoard's among them: input, enhanced, reference.

    Args:
        number: How many pictures.
        max_side: They are shrunk to at most this many pixels a side.

    Raises:
        ValueError: ``number`` or ``max_side`` is below 1.
    """

    def __init__(self, number: int = 4, max_side: int = 400) -> None:
        at_least("number", number, 1)
        at_least("max_side", max_side, 1)
        self.number, self.max_side = number, max_side
        self._shown = 0

    def before_val_epoch(self, runner: Runner) -> None:
        """Begin with the first again."""
        self._shown = 0

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Add the pictures of a batch while there are too few."""
        for image, sample in zip((data_batch or {})["inputs"], outputs or [], strict=True):
            if self._shown == self.number or runner.rank:
                return
            columns = [image, sample.enhanced * 255, *([sample.target] if "target" in sample else [])]
            picture = torch.cat([self._column(c, sample.enhanced.shape[-2:]) for c in columns], dim=2)
            pixels = picture.byte().permute(1, 2, 0).numpy()
            runner.visualizer.add_image(f"val_{self._shown}", pixels, runner.iter)
            self._shown += 1

    def _column(self, image: Tensor, size: Sequence[int]) -> Tensor:
        """One picture at the common size, shrunk where that is too large."""
        shrink = max(1.0, max(size) / self.max_side)
        height, width = (max(1, round(n / shrink)) for n in size)
        unit = image.detach().cpu().float()[None]
        resized = functional.interpolate(unit, (height, width), mode="bilinear", antialias=True)
        return resized[0].round().clamp(0, 255)


@HOOKS.register_module()
class MethodCheckpointHook(AtomicCheckpointHook):
    """The checkpoint hook of the training methods.

    Frozen encoders and SAMs, which may be hundreds of times larger than the enhancer and never change, are left out;
    what a method needs beside its weights is put in. On loading, a checkpoint of another network or method is refused.
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leave the encoders out, put the method's state in."""
        method = training_method(runner)
        encoders = encoder_prefixes(method)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith(encoders)}
        checkpoint["method"] = method.training_state()
        checkpoint["optimizers"] = optimizer_names(runner.optim_wrapper)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the names and shapes, add this run's encoders, give the method its state.

        Raises:
            CheckpointError: The checkpoint is not of this enhancer and method.
        """
        method = training_method(runner)
        encoders = encoder_prefixes(method)
        own = method.state_dict()
        state = checkpoint.get("state_dict", {})
        expected = {k: v.shape for k, v in own.items() if not k.startswith(encoders)}
        wrong = [k for k, shape in expected.items() if k not in state or state[k].shape != shape]
        wrong += [k for k in state if k not in own]
        if wrong:
            named = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            raise CheckpointError(
                f"the checkpoint is not of this run's enhancer and method ({type(method.enhancer).__name__}, "
                f"{type(method).__name__}): {len(wrong)} tensors are missing, unknown or of another shape ({named}). "
                f"{_ALONE}"
            )
        state.update({k: v for k, v in own.items() if k.startswith(encoders)})
        if runner.cfg.get("resume"):
            method.load_training_state(checkpoint["method"])


def encoder_prefixes(method: nn.Module) -> tuple[str, ...]:
    """What the names of the tensors of frozen encoders and SAMs begin with."""
    # Losses may share an encoder, which then has several names.
    modules = method.named_modules(remove_duplicate=False)
    return tuple(f"{name}." for name, module in modules if isinstance(module, (FeatureEncoder, FrozenSAM)))


def optimizer_names(optim_wrapper: OptimWrapper | OptimWrapperDict) -> dict[str, str]:
    """The class of each part's optimiser, by the part."""
    parts = dict(optim_wrapper.items()) if isinstance(optim_wrapper, OptimWrapperDict) else {"enhancer": optim_wrapper}
    return {name: type(part.optimizer).__name__ for name, part in parts.items()}


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
        raise CheckpointError(f"{error}. {_ALONE}") from error
    if not {"meta", "state_dict", "method"} <= set(checkpoint):
        raise CheckpointError(f"{path} is no checkpoint of a run of this package. {_ALONE}")
    return checkpoint
