"""Segment Anything on dark pictures, raw and behind enhancers.

Segment pictures with SAM, raw and behind each enhancer, and score the masks. With --reference, automatic masks are
compared with those of the same pictures in good light. With --boxes, the masks of box prompts are scored by SAM's own
estimate, by their stability, by their agreement with the box, and by annotated masks if there are any. After an
interruption, or with more enhancers, --resume keeps the masks of the earlier run and makes only the others. The command
writes results.json, table.md, table.csv, report.html and COCO mask files, and prints the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from llie_preproc.commands.arguments import (
    add_device,
    add_inference_options,
    add_out,
    add_resume,
    device_of,
    inference_options,
    positive,
)
from llie_preproc.commands.program import FAILED, resumable
from llie_preproc.errors import Extras
from llie_preproc.files import write_json, write_text
from llie_preproc.segmentation import SAM_SIZES
from llie_preproc.segmentation.crops import OVERSIZE

from ..sam.sam_choice import GENERATOR, PUBLIC, UNTRAINED, SamChoice, generator_parameters
from ..shared import provenance
from ..shared.enhancers import add_enhancers, enhancer_specs, labelled
from ..shared.score_table import GOES_ON, Row, csv_text, say_left_out

NEEDS = Extras("sam,compare")
with NEEDS:
    from ..sam.coco_files import write_coco
    from ..sam.mask_results import asked_of, markdown, notes, rows_of
    from ..sam.masks_page import write_page
    from ..sam.measure_masks import AUTOMATIC, Request, Result, measure
    from ..sam.prompted_pictures import read_pictures

_MODULES = ("torch", "torchvision", "numpy", "segment_anything", "pycocotools", "scipy", "mmengine")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="folder of the pictures")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        help="folder of the same pictures in good light, with the same names, of their size or a whole multiple of it",
    )
    parser.add_argument(
        "--boxes",
        type=Path,
        metavar="PATH",
        help="box prompts: DARK FACE's folder of texts, a list of pseudo-labels, or COCO annotations (.json)",
    )
    parser.add_argument(
        "--sam",
        choices=list(SAM_SIZES),
        default="vit_b",
        help="size of the Segment Anything model (default: %(default)s)",
    )
    parser.add_argument(
        "--sam-checkpoint",
        metavar="FILE",
        help=f"weights of SAM: a file, or {PUBLIC}, which downloads the weights of the authors; by default the weights "
        "are random, and the scores mean nothing",
    )
    add_enhancers(parser)
    add_inference_options(parser)
    parser.add_argument(
        "--oversize",
        choices=OVERSIZE,
        default=OVERSIZE[0],
        help="treatment of pictures larger than SAM's input: resize them (default), or add overlapping crops",
    )
    parser.add_argument(
        "--generator",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="parameters of automatic masks (default: "
        + f"{', '.join(f'{key}={value:.4g}' for key, value in GENERATOR.items())})",
    )
    parser.add_argument(
        "--limit",
        type=positive,
        metavar="N",
        help="number of pictures to use: the first N by name (default: all)",
    )
    add_device(parser, "enhancers and SAM run")
    add_out(parser, "folder to write into", required=True)
    add_resume(parser)


def run(args: argparse.Namespace) -> int:
    """Measure what the command line asks for; returns the exit status."""
    _check(args)
    request = _request(args)
    if not request.sam.trained:
        # The warning must come before hours of work.
        print(UNTRAINED, flush=True)
    with resumable(GOES_ON):
        result = measure(request)
    rows = rows_of(request, result)
    table = markdown(request, result, rows)
    _write(request, result, rows, table, args)
    print(table.removeprefix(UNTRAINED).lstrip())
    print(f"report: {request.folder / 'report.html'}")
    say_left_out(result.failed)
    return FAILED if result.failed else 0


def _check(args: argparse.Namespace) -> None:
    if args.reference is None and args.boxes is None:
        raise ValueError("sam needs --reference (well-lit pictures to compare automatic masks with), --boxes, or both")
    if args.generator and args.reference is None:
        raise ValueError("--generator sets parameters of automatic masks, which need --reference")
    args.device = device_of(args)


def _request(args: argparse.Namespace) -> Request:
    options = inference_options(args)
    return Request(
        sam=SamChoice(args.sam, args.sam_checkpoint, args.device),
        generator=generator_parameters(args.generator, args.oversize),
        oversize=args.oversize,
        pictures=read_pictures(args.images, args.reference, args.boxes, args.limit),
        enhancers=list(labelled(args.enhancer)),
        specs=enhancer_specs(args.enhancer, options),
        folder=args.out.expanduser(),
        options=options,
        resume=args.resume,
    )


def _write(request: Request, result: Result, rows: Sequence[Row], table: str, args: argparse.Namespace) -> None:
    folder, made = request.folder, _provenance(request, result, args)
    write_json(
        folder / "results.json",
        dict(
            trained=request.sam.trained,
            warning=None if request.sam.trained else UNTRAINED,
            notes=notes(request),
            pictures=len(result.names),
            asked=asked_of(request, result),
            rows=list(rows),
            sam=dict(model=args.sam, checkpoint=args.sam_checkpoint),
            oversize=request.oversize,
            generator=dict(request.generator) if AUTOMATIC in request.tasks else None,
            left_out=result.failed,
            enhancers={label: dict(spec) for label, spec in request.specs.items()},
            provenance=made,
        ),
    )
    write_text(folder / "table.md", table)
    write_text(folder / "table.csv", csv_text(rows, ["enhancer"], lambda row: [row["enhancer"]]))
    write_coco(request, result)
    write_page(request, result, rows, made)


def _provenance(request: Request, result: Result, args: argparse.Namespace) -> dict[str, str]:
    given = {"pictures": args.images, "references": args.reference, "boxes": args.boxes}
    settings = {
        "SAM": result.sam,
        "enhancers": provenance.enhancers(request.specs),
        **{what: str(path) for what, path in given.items() if path is not None},
    }
    return provenance.record(settings, _MODULES, args.device)
