"""Face detection in extreme light, raw and behind enhancers.

Darken or brighten the pictures of a data set by each gamma, and find faces in them, raw and behind each enhancer. Score
the detections by the rules of the data set. For FDDB that is the true positive rate. For DARK FACE and WIDER FACE it is
the AP of the set's own tool, and COCO's AP. For a folder without labels, the faces found at gamma 1 without
an enhancer are the reference, and the score is the share of them that is found again. After an interruption, or with
more enhancers or gammas, --resume keeps the detections of the earlier run and makes only the others. The command writes
results.json, table.md, table.csv, plot.svg and report.html, and prints the table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llie_preproc.commands.arguments import (
    add_device,
    add_inference_options,
    add_out,
    add_resume,
    device_of,
    inference_options,
)
from llie_preproc.commands.program import FAILED, resumable
from llie_preproc.errors import Extras
from llie_preproc.files import write_json, write_text

from ..faces.detectors import DEFAULT, PASSES, DetectorChoice
from ..faces.named_detectors import FACE_DETECTORS
from ..faces.protocols import FACE_SETS
from ..self_registration import Setting, add_settings, flag_of, lacking, misplaced, names_of, values_of
from ..shared import provenance
from ..shared.enhancers import add_enhancers, enhancer_specs, labelled
from ..shared.score_table import GOES_ON, Row, say_left_out
from .gammas import add_gammas, check_gammas

NEEDS = Extras("compare,face")
with NEEDS:
    from ..faces.faces_page import score_plot, write_page
    from ..faces.sweep import Request, Sweep, sweep
    from ..faces.sweep_results import csv_text, markdown, rows_of
    from ..shared.page.svg_plots import standalone_svg

_MODULES = ("torch", "torchvision", "numpy", "mmengine", "mmdet", "facenet_pytorch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--dataset",
        required=True,
        choices=list(FACE_SETS),
        help="data set; its rules score the detections: "
        + ", ".join(f"{name} ({each.title})" for name, each in FACE_SETS.items()),
    )
    parser.add_argument("--images", required=True, type=Path, metavar="DIR", help="folder of the pictures")
    add_settings(parser, _settings())
    parser.add_argument(
        "--detector",
        default=DEFAULT,
        metavar="CONFIG",
        help=f"MMDetection config of a face detector, or one of {', '.join(FACE_DETECTORS)} (default: {DEFAULT})",
    )
    parser.add_argument(
        "--detector-checkpoint",
        metavar="FILE",
        help="weights of the detector, for a CONFIG or for a named detector that takes some",
    )
    parser.add_argument(
        "--passes",
        choices=PASSES,
        default="base",
        help="views of each picture that the detector sees: the picture alone (base, default), or mirrored and "
        "resized views with a vote over their detections, as in the tests of DSFD's authors on FDDB or WIDER FACE",
    )
    parser.add_argument(
        "--score-thr",
        type=float,
        metavar="S",
        help="least confidence of a detection, if --detector is a CONFIG or --passes is not base (default: "
        f"{_least_scores()}others 0)",
    )
    add_enhancers(parser)
    add_gammas(parser)
    add_inference_options(parser)
    add_device(parser, "enhancers and detector run")
    parser.add_argument(
        "--official-files",
        action="store_true",
        help="also write the detections in the format of the data set's own tool",
    )
    add_out(parser, "folder to write into", required=True)
    add_resume(parser)


def run(args: argparse.Namespace) -> int:
    """Measure what the command line asks for; returns the exit status."""
    _check(args)
    request = _request(args)
    with resumable(GOES_ON):
        result = sweep(request)
    rows = rows_of(result.evaluations)
    _write(request, result, rows, args)
    print(markdown(rows, request.protocol.digits, request.convention))
    print(f"report: {request.folder / 'report.html'}")
    say_left_out(result.failed)
    return FAILED if result.failed else 0


def _check(args: argparse.Namespace) -> None:
    chosen = FACE_SETS[args.dataset]
    if absent := lacking(chosen.settings, vars(args)):
        raise ValueError(f"--dataset {args.dataset} needs {absent.flag}")
    if unused := misplaced(_settings(), [args.dataset], _given(args)):
        flag, owners = flag_of(unused[0]), ", ".join(unused[1])
        raise ValueError(f"{flag} does not belong to --dataset {args.dataset}, but to {owners}")
    if args.score_thr is not None and not 0 <= args.score_thr < 1:
        raise ValueError(f"--score-thr must be in [0, 1), got {args.score_thr}")
    if args.score_thr is not None and not _detector(args).has_threshold:
        raise ValueError(
            f"--score-thr needs a CONFIG as --detector, or --passes other than {PASSES[0]}; "
            f"{args.detector} has its own thresholds"
        )
    if args.official_files and not chosen.has_tool():
        raise ValueError(f"--official-files: {chosen.title} have no tool of their own")
    args.device = device_of(args)


def _request(args: argparse.Namespace) -> Request:
    gammas = check_gammas(args.gammas, args.convention)
    chosen = FACE_SETS[args.dataset]
    protocol = chosen(args.images, **values_of(chosen.settings, _given(args)))
    detector = _detector(args)
    detector.made_with()
    options = inference_options(args)
    return Request(
        protocol=protocol,
        detector=detector,
        enhancers=list(labelled(args.enhancer)),
        specs=enhancer_specs(args.enhancer, options),
        gammas=gammas,
        convention=args.convention,
        folder=args.out.expanduser(),
        options=options,
        resume=args.resume,
    )


def _settings() -> dict[str, tuple[Setting, ...]]:
    """Return the settings of each data set."""
    return {name: each.settings for name, each in FACE_SETS.items()}


def _given(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of all settings."""
    return {name: getattr(args, name) for name in names_of(_settings())}


def _least_scores() -> str:
    return "".join(f"{name} {each.least_score:g}, " for name, each in FACE_SETS.items() if each.least_score)


def _detector(args: argparse.Namespace) -> DetectorChoice:
    return DetectorChoice(args.detector, args.detector_checkpoint, args.passes, _score_thr(args), args.device)


def _score_thr(args: argparse.Namespace) -> float:
    return FACE_SETS[args.dataset].least_score if args.score_thr is None else args.score_thr


def _write(request: Request, result: Sweep, rows: Sequence[Row], args: argparse.Namespace) -> None:
    folder, protocol = request.folder, request.protocol
    made = _provenance(request, args)
    write_json(
        folder / "results.json",
        dict(
            dataset=args.dataset,
            headline=protocol.headline,
            convention=request.convention,
            notes=protocol.notes(),
            pictures=len(result.names),
            faces=sum(len(protocol.faces(name)) for name in result.names),
            rows=list(rows),
            left_out=result.failed,
            enhancers={label: dict(spec) for label, spec in request.specs.items()},
            provenance=made,
        ),
    )
    write_text(folder / "table.md", markdown(rows, protocol.digits, request.convention))
    write_text(folder / "table.csv", csv_text(rows, request.convention))
    write_text(folder / "plot.svg", standalone_svg(score_plot(protocol, rows, request.convention)))
    for (enhancer, gamma), evaluation in result.evaluations.items():
        name = f"gamma_{gamma:g}"
        if evaluation.roc is not None:
            roc = folder / "roc" / enhancer
            roc.mkdir(parents=True, exist_ok=True)
            evaluation.roc.write(roc / f"{name}_disc.txt", roc / f"{name}_cont.txt")
        if args.official_files:
            protocol.write_official(folder / "official" / enhancer / name, result.found[enhancer, gamma])
    write_page(request, result, rows, made)


def _provenance(request: Request, args: argparse.Namespace) -> dict[str, str]:
    weights = f", {args.detector_checkpoint}" if args.detector_checkpoint else ""
    settings = {
        "detector": f"{args.detector}{weights}, passes: {args.passes}",
        "enhancers": provenance.enhancers(request.specs),
        "gammas": f"{' '.join(f'{gamma:g}' for gamma in request.gammas)}, convention: {request.convention}",
        "pictures": str(args.images),
    }
    return provenance.record(settings, _MODULES, args.device)
