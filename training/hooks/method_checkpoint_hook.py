"""Writing and checking the checkpoints of the training methods."""

from __future__ import annotations

from mmengine.runner import Runner
from torch import nn

from llie_preproc.checkpoints import match_report
from llie_preproc.mm.runner_parts import AtomicCheckpointHook, unwrapped
from llie_preproc.registry import HOOKS

from ..feature_encoders import FrozenModule
from ..run_checkpoints import WEIGHTS_ALONE, optimizer_names


@HOOKS.register_module()
class MethodCheckpointHook(AtomicCheckpointHook):
    """The checkpoint hook of the training methods.

    Frozen encoders, SAMs and detectors are not saved, because they may be hundreds of times larger than the enhancer
    and never change. The state that a method needs besides its weights is saved too. Loading refuses a checkpoint of
    another network or method.

    Examples:
        >>> MethodCheckpointHook(interval=5, by_epoch=False).interval
        5
    """

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remove the encoders, and add the state of the method."""
        super().before_save_checkpoint(runner, checkpoint)
        method = unwrapped(runner.model)
        encoders = encoder_prefixes(method)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if not k.startswith(encoders)}
        checkpoint["method"] = method.training_state()
        checkpoint["optimizers"] = optimizer_names(runner.optim_wrapper)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check the names and shapes, add this run's encoders, and restore the state of the method.

        Raises:
            CheckpointError: The checkpoint is not that of this enhancer and method.
        """
        method = unwrapped(runner.model)
        encoders = encoder_prefixes(method)
        own = method.state_dict()
        state = checkpoint.get("state_dict", {})
        kinds = f"{type(method.enhancer).__name__}, {type(method).__name__}"
        match_report(method, state).without(lambda name: name in own and name.startswith(encoders)).check(
            f"the checkpoint is not that of this run's enhancer and method ({kinds})", cure=WEIGHTS_ALONE
        )
        state.update({k: v for k, v in own.items() if k.startswith(encoders)})
        if runner.cfg.get("resume"):
            method.load_training_state(checkpoint["method"])


def encoder_prefixes(method: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of the tensors in frozen encoders, SAMs and detectors.

    Examples:
        >>> encoder_prefixes(nn.Sequential(nn.Linear(1, 1)))
        ()
    """
    # Several losses may share an encoder, which then has several names.
    modules = method.named_modules(remove_duplicate=False)
    return tuple(f"{name}." for name, module in modules if isinstance(module, FrozenModule))
