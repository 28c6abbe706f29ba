"""The programs of the project, as tests start them."""

from __future__ import annotations

PRELOADED = (
    "llie_preproc.commands.llie",
    "llie_preproc.ranks",
    "llie_preproc.detection",
    "mmdet.models",
    "mmdet.datasets",
    "mmdet.evaluation",
    "torch.utils.tensorboard",
    *(f"llie_preproc.commands.{name}" for name in ("enhance", "list", "convert", "export")),
    *(f"training.commands.{name}" for name in ("train", "finetune", "split")),
    *(f"detection_eval.commands.{name}" for name in ("compare", "report", "score", "quality")),
)
"""Modules that the programs import, as far as they are installed: they are imported once for all of them."""


def command_line(command: str, *arguments: object) -> list[str]:
    """The arguments of ``python`` that run a command of ``llie``, such as ``compare``, with arguments of its own."""
    return ["-m", "llie_preproc", command, *map(str, arguments)]
