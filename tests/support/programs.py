"""The programs of the project, as tests start them."""

from __future__ import annotations

PRELOADED = (
    "llie_preproc.commands.enhance",
    "llie_preproc.ranks",
    "mmdet.models",
    "mmdet.datasets",
    "mmdet.evaluation",
    "torch.utils.tensorboard",
    "training.commands.train",
    "training.commands.finetune",
    "detection_eval.commands.compare",
    "detection_eval.metrics",
)
"""Modules that the programs import, as far as they are installed: they are imported once for all of them."""


def command_line(name: str, *arguments: object) -> list[str]:
    """The arguments of ``python`` that run a command of ``llie``.

    Args:
        name: Name of the command, such as ``'compare'``.
        arguments: Arguments of the command.
    """
    return ["-m", "llie_preproc", name, *map(str, arguments)]
