"""Printing the results of a training, the only lines that its commands write to standard output."""

from __future__ import annotations

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from llie_preproc.mm.runner_parts import saved_checkpoints

from .hooks.export_enhancer import exported_networks


def print_results(runner: Runner) -> None:
    """Print the last checkpoint of an enhancer's training, the networks beside it, and the scores."""
    if is_main_process():
        print(*saved_checkpoints(runner.work_dir)[-1:], *exported_networks(Path(runner.work_dir)), sep="\n")
        print_scores(runner)


def print_scores(runner: Runner) -> None:
    """Print the scores of the last validation of a run."""
    for name, values in runner.message_hub.log_scalars.items():
        if name.startswith("val/") and not name.endswith("time"):
            print(f"{name.removeprefix('val/')}: {values.current():.4f}")
