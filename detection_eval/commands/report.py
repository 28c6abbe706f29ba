"""Write one HTML page of a comparison.

Write the results of 'compare' as one HTML file that needs no network and no other file. The page says in words and in
a table whether enhancement helps, and shows AP by class, object size and brightness, precision and recall, the pictures
whose detections changed most, and image-quality scores. Rows whose runs are not finished are named and left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llie_preproc.commands.arguments import add_device, add_out, device_of
from llie_preproc.errors import Extras

from ..shared import provenance

NEEDS = Extras("compare")
with NEEDS:
    from ..compare.comparison_report import write_comparison_report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="folder of the comparison: the --out of 'compare'")
    add_out(parser, "page to write (default: FOLDER/report.html)", "FILE")
    parser.add_argument(
        "--changed",
        type=_count,
        default=8,
        metavar="N",
        help="number of pictures to show among those whose detections improved most, and as many among those whose "
        "detections worsened most (default: %(default)s)",
    )
    parser.add_argument(
        "--quality-images",
        type=_count,
        default=50,
        metavar="N",
        help="largest number of test pictures whose image quality is scored; 0 leaves these scores out (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of the choice of pictures for --quality-images (default: %(default)s)",
    )
    parser.add_argument(
        "--brightness-edges",
        type=float,
        nargs="+",
        metavar="LUMA",
        help="borders between the bins of brightness, 0 to 255 (default: three bins of equally many test pictures)",
    )
    parser.add_argument(
        "--niqe-model", metavar="FILE", help="file niqe_pris_params.npz of NIQE's model; without it NIQE is left out"
    )
    add_device(parser, "pictures are enhanced")


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {number}")
    return number


def run(args: argparse.Namespace) -> None:
    """Write the page that the command line asks for."""
    out = args.out or args.folder / "report.html"
    write_comparison_report(
        args.folder,
        out,
        command=provenance.command_line(),
        changed=args.changed,
        quality_images=args.quality_images,
        seed=args.seed,
        brightness_edges=args.brightness_edges,
        niqe_model=args.niqe_model,
        device=device_of(args),
    )
    print(f"report: {out}")
