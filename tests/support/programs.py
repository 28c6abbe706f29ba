"""The programs of the project, as tests start them."""

from __future__ import annotations

_COMMANDS = {
    "llie": ("llie_preproc.cli",),
    "compare": ("detection_eval", "compare"),
    "train": ("training.train",),
    "finetune": ("training.finetune",),
}
# The module that runs, and the words before a user's arguments.

PRELOADED = (
    "llie_preproc.cli",
    "llie_preproc.ranks",
    "mmdet.models",
    "mmdet.datasets",
    "mmdet.evaluation",
    "torch.utils.tensorboard",
    "training.train",
    "training.finetune",
    "detection_eval.compare.command",
    "detection_eval.metrics",
)
"""Modules that the programs import, as far as they are installed: they are imported once for all of them."""


def command_line(name: str, *arguments: object) -> list[str]:
    """The arguments of ``python`` that run a program.

    Args:
        name: Name of the program, such as ``'compare'``.
        arguments: Arguments of the program itself.
    """
    return ["-m", *_COMMANDS[name], *map(str, arguments)]
