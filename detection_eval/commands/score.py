"""AP of saved detections, with intervals.

Score a COCO results file, in percent, with the 95 % interval of a bootstrap over images.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..compare.tables import METRICS
from ..metrics.bootstrap import Interval, differences, intervals
from ..metrics.detections import read_detections, read_truth
from ..metrics.hints import coco_hints, print_hints
from ..shared.bootstrap_flags import add_bootstrap


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("annotations", type=Path, metavar="ANNOTATIONS", help="COCO annotations of the images")
    parser.add_argument("detections", type=Path, metavar="DETECTIONS", help="COCO results of those images")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="OTHER",
        help="other COCO results: show DETECTIONS minus OTHER too, paired by image",
    )
    parser.add_argument(
        "--metrics", nargs="+", choices=tuple(METRICS), default=["coco"], help="metrics of the table (default: coco)"
    )
    add_bootstrap(parser, "; 0: no intervals")
    parser.add_argument("--by-class", action="store_true", help="show COCO's AP of each class too")


def run(args: argparse.Namespace) -> int:
    """Print the scores that the command line asks for."""
    if args.by_class and "coco" not in args.metrics:
        raise ValueError("--by-class is of the metric coco, which --metrics leaves out")
    truth = read_truth(args.annotations)
    found = read_detections(args.detections, truth)
    other = None if args.against is None else read_detections(args.against, truth)
    print(f"{len(truth['images'])} images, {len(truth['annotations'])} annotations, {len(found)} detections")
    print_hints(coco_hints(truth, found))
    for metric in args.metrics:
        own = _scores(metric, truth, found, args.annotations)
        before = None if other is None else _scores(metric, truth, other, args.annotations)
        _print_scores(metric, own, before, {"resamples": args.resamples, "seed": args.bootstrap_seed})
        if args.by_class and metric == "coco":
            _print_classes(own.by_class(), None if before is None else before.by_class())
    return 0


def _scores(metric: str, truth: dict[str, Any], found: list[dict[str, Any]], path: Path) -> Any:
    try:
        return METRICS[metric](truth, found)
    except ValueError as error:
        # What a metric needs of the annotations besides what reading them has checked.
        raise ValueError(f"{path}: {error}") from None


def _print_scores(metric: str, own: Any, before: Any, resampling: Mapping[str, int]) -> None:
    columns = [intervals([own], **resampling)]
    heads = [metric, "score"]
    if before is not None:
        columns += [intervals([before], **resampling), differences([before], [own], **resampling)]
        heads += ["against", "difference"]
    rows = [[name, *(_text(column[name], at == 2) for at, column in enumerate(columns))] for name in columns[0]]
    _print_table([heads, *rows])


def _print_classes(own: Mapping[str, float], before: Mapping[str, float] | None) -> None:
    heads, columns = ["AP of class", "score"], [own]
    if before is not None:
        heads += ["against", "difference"]
        columns += [before, {name: own[name] - before[name] for name in own}]
    rows = [[name, *(_percent(column[name], at == 2) for at, column in enumerate(columns))] for name in own]
    _print_table([heads, *rows])


def _text(interval: Interval, signed: bool) -> str:
    value = _percent(interval.value, signed)
    if math.isnan(interval.low):
        return value
    return f"{value} [{_percent(interval.low, signed)}, {_percent(interval.high, signed)}]"


def _percent(value: float, signed: bool) -> str:
    return "-" if math.isnan(value) else f"{100 * value:{'+' if signed else ''}.2f}"


def _print_table(rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print()
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
