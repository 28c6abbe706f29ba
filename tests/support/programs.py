"""Modules that are imported before a program starts, and command lines of programs."""

from __future__ import annotations

from collections.abc import Iterable

PRELOADED = (
    "llie_preproc.commands.llie",
    "llie_preproc.work_sharing",
    "llie_preproc.detection",
    "mmdet.models",
    "mmdet.datasets",
    "mmdet.evaluation",
    "torch.utils.tensorboard",
    *(f"llie_preproc.commands.{name}" for name in ("enhance", "list", "convert", "export")),
    *(f"training.commands.{name}" for name in ("train", "finetune", "split")),
    *(f"detection_eval.commands.{name}" for name in ("compare", "report", "score", "quality")),
)
"""Modules that the fork server imports once for all programs, if they are installed."""


LIBRARIES = (
    "torch",
    "torchvision",
    "mmengine.runner",
    "scipy.signal",
    "scipy.stats",
    "matplotlib.pyplot",
    "torchmetrics",
)
"""Modules of other projects that most programs import."""


def hiding(modules: Iterable[str]) -> str:
    """Code after which the modules cannot be imported, as if they were not installed."""
    return (
        f"import sys\nabsent = {sorted(modules)}\n"
        "for name in [name for name in sys.modules if name.partition('.')[0] in absent]:\n"
        "    del sys.modules[name]\n"
        "sys.modules.update(dict.fromkeys(absent))\n"
    )


def command_line(command: str, *arguments: object) -> list[str]:
    """The arguments of ``python`` that run a command of ``llie``, such as ``compare``, with the command's arguments."""
    return ["-m", "llie_preproc", command, *map(str, arguments)]
