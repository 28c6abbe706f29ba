"""AP of saved detections, with intervals.

Score a COCO results file in percent, with 95 % intervals of a bootstrap over images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llie_preproc.class_mapping_files import read_mapping
from llie_preproc.class_names import match_classes
from llie_preproc.commands.arguments import add_classes
from llie_preproc.commands.program import say

from ..metrics.bootstrap import differences, intervals
from ..metrics.detection_table import DETECTION_METRICS
from ..metrics.detections import read_detections, read_truth
from ..metrics.hints import coco_hints, print_hints
from ..shared.score_flags import add_bootstrap, add_metrics
from ..shared.score_table import Numbers, plain_number, plain_scores

_PERCENT = Numbers(2, factor=100)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("annotations", type=Path, metavar="ANNOTATIONS", help="COCO annotations of the images")
    parser.add_argument("detections", type=Path, metavar="DETECTIONS", help="COCO results of those images")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="OTHER",
        help="other COCO results; the table also shows their scores and DETECTIONS minus OTHER, paired by image",
    )
    parser.add_argument(
        "--categories",
        type=Path,
        metavar="FILE",
        help="COCO file whose categories name the classes of the detections, if they are not those of ANNOTATIONS; "
        "--classes needs it",
    )
    add_classes(parser)
    add_metrics(parser)
    add_bootstrap(parser, ", 0 for no intervals")
    parser.add_argument(
        "--by-class", action="store_true", help=f"also show the AP of each class, for the metric {_with_classes()}"
    )


def run(args: argparse.Namespace) -> int:
    """Print the scores that the command line asks for."""
    if args.by_class and not any(DETECTION_METRICS[metric].has_classes for metric in args.metrics):
        raise ValueError(f"--by-class needs the metric {_with_classes()}, which --metrics leaves out")
    truth, read = _matched(args)
    found = read(args.detections)
    other = None if args.against is None else read(args.against)
    print(f"{len(truth['images'])} images, {len(truth['annotations'])} annotations, {len(found)} detections")
    print_hints(coco_hints(truth, found))
    for metric in args.metrics:
        own = _scores(metric, truth, found, args.annotations)
        before = None if other is None else _scores(metric, truth, other, args.annotations)
        _print_scores(metric, own, before, {"resamples": args.resamples, "seed": args.bootstrap_seed})
        if args.by_class and DETECTION_METRICS[metric].has_classes:
            _print_classes(own.by_class(), None if before is None else before.by_class())
    return 0


def _matched(args: argparse.Namespace) -> tuple[dict[str, Any], Callable[[Path], list[dict[str, Any]]]]:
    """The annotations of the measured classes, and a function that reads the detections of these classes."""
    truth = read_truth(args.annotations)
    if args.categories is None and args.classes is None:
        return truth, lambda path: read_detections(path, truth)
    if args.categories is None:
        raise ValueError(
            "--classes needs --categories FILE, a COCO file whose categories are the detector's classes with the ids "
            "that the detections have (ANNOTATIONS itself, if the detector was trained on its classes)"
        )
    named = read_truth(args.categories)["categories"]
    names, annotated = ([each["name"] for each in categories] for categories in (named, truth["categories"]))
    match = match_classes(names, annotated, str(args.annotations), read_mapping(args.classes))
    for note in [*match.notes, *match.ignored_note]:
        say(note)
    of_detector, measured = dict(truth, categories=named), match.truth(truth)
    return measured, lambda path: match.detections(read_detections(path, of_detector), named, measured)


def _with_classes() -> str:
    """Name the metrics that have the AP of each class."""
    return ", ".join(name for name, each in DETECTION_METRICS.items() if each.has_classes)


def _scores(metric: str, truth: dict[str, Any], found: list[dict[str, Any]], path: Path) -> Any:
    try:
        return DETECTION_METRICS[metric].scores(truth, found)
    except ValueError as error:
        # The annotations may lack something that only this metric needs.
        raise ValueError(f"{path}: {error}") from None


def _print_scores(metric: str, own: Any, before: Any, resampling: Mapping[str, int]) -> None:
    columns = [intervals([own], **resampling)]
    heads = [metric, "score"]
    if before is not None:
        columns += [intervals([before], **resampling), differences([before], [own], **resampling)]
        heads += ["against", "difference"]
    _print_table(heads, list(map(plain_scores, columns)))


def _print_classes(own: Mapping[str, float], before: Mapping[str, float] | None) -> None:
    heads, columns = ["AP of class", "score"], [own]
    if before is not None:
        heads += ["against", "difference"]
        columns += [before, {name: own[name] - before[name] for name in own}]
    _print_table(heads, [{name: {"value": plain_number(each[name])} for name in own} for each in columns])


def _print_table(heads: Sequence[str], columns: Sequence[Mapping[str, Mapping[str, float | None]]]) -> None:
    """Print a line for each score; the third column is a difference."""
    styles = [_PERCENT, _PERCENT, replace(_PERCENT, sign="+")]
    rows = [
        [name, *(style.with_interval(each[name], between=" ") for style, each in zip(styles, columns, strict=False))]
        for name in columns[0]
    ]
    table = [heads, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    print()
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
