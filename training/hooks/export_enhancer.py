"""Writing the enhancer of a training to a file of its own with each checkpoint."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from llie_preproc.checkpoints import first_not_finite, save_state_dict
from llie_preproc.errors import DivergedError
from llie_preproc.mm.runner_parts import unwrapped
from llie_preproc.registry import HOOKS
from llie_preproc.stored_arguments import describe


@HOOKS.register_module()
class ExportEnhancer(Hook):
    """A hook that writes the enhancer alone to ``enhancer.safetensors`` in the work folder with each checkpoint.

    The file holds the network that validation scores. If the method has an average or a teacher, that is this network,
    and the network that the optimiser trains is written to ``student.safetensors``. Both files hold the arguments of
    the network, load with ``build_enhancer(..., checkpoint=path)``, and are replaced atomically.

    Examples:
        >>> HOOKS.build(dict(type="llie_preproc.ExportEnhancer")).priority
        'VERY_LOW'
    """

    priority = "VERY_LOW"

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write the current weights; MMEngine calls this on rank 0.

        Raises:
            DivergedError: The weights are not finite. No file is changed then.
        """
        method = unwrapped(runner.model)
        described = describe(type(method.enhancer).__name__, method.enhancer.arguments)
        metadata = {**described, "iterations": str(checkpoint["meta"]["iter"])}
        networks = {"enhancer": method.evaluated}
        if method.evaluated is not method.enhancer:
            networks["student"] = method.enhancer
        for name, network in networks.items():
            # A checkpoint hook that is not this package's does not notice a training that has diverged.
            if fault := first_not_finite(network.state_dict(), dict(network.named_buffers())):
                raise DivergedError(f"the training diverged: {name}.safetensors is not written, because {fault}")
        for name, network in networks.items():
            save_state_dict(network.state_dict(), Path(runner.work_dir) / f"{name}.safetensors", metadata)


def exported_networks(work_dir: Path) -> list[Path]:
    """List the files that :class:`ExportEnhancer` has written into a work folder.

    Examples:
        >>> import tempfile
        >>> exported_networks(Path(tempfile.mkdtemp()))
        []
    """
    return [path for name in ("enhancer", "student") if (path := work_dir / f"{name}.safetensors").is_file()]
