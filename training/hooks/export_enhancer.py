"""The enhancer of a training alone, as a file beside each checkpoint."""

from __future__ import annotations

from pathlib import Path

from mmengine.hooks import Hook
from mmengine.runner import Runner

from llie_preproc.checkpoints import save_state_dict
from llie_preproc.mm.runner_parts import unwrapped
from llie_preproc.registry import HOOKS


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
        method = unwrapped(runner.model)
        metadata = {"enhancer": type(method.enhancer).__name__, "iterations": str(checkpoint["meta"]["iter"])}
        networks = {"enhancer": method.evaluated}
        if method.evaluated is not method.enhancer:
            networks["student"] = method.enhancer
        for name, network in networks.items():
            save_state_dict(network.state_dict(), Path(runner.work_dir) / f"{name}.safetensors", metadata)


def exported_networks(work_dir: Path) -> list[Path]:
    """Files that :class:`ExportEnhancer` has written into a work folder."""
    return [path for name in ("enhancer", "student") if (path := work_dir / f"{name}.safetensors").is_file()]
