"""Write the detector and the enhancer of a finetuned checkpoint as two files."""

from __future__ import annotations

import argparse

from llie_preproc.commands.arguments import add_out
from llie_preproc.errors import Extras

from ..finetune_words import DETECTOR, ENHANCER

NEEDS = Extras("mm")
with NEEDS:
    from ..checkpoint_parts import split_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="checkpoint of an EnhancedDetector, or of a detector with the enhancer in its data preprocessor, such as "
        "work_dirs/.../epoch_12.pth",
    )
    add_out(parser, f"folder for {DETECTOR} and {ENHANCER}", required=True)
    parser.add_argument("--overwrite", action="store_true", help="replace these files if they exist")


def run(args: argparse.Namespace) -> None:
    """Split the checkpoint that the command line names."""
    print(*split_checkpoint(args.checkpoint, args.out, args.overwrite), sep="\n")
