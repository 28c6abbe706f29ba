"""Convert annotations of sets such as VisDrone, ExDark or WIDER FACE to COCO's format.

Check annotations against their pictures, and write them to one file that MMDetection's CocoDataset reads. A malformed
line, an unknown class, a picture without an annotation or an annotation without a picture is an error that names file
and line. 'llie annotations FORMAT --help' shows the arguments of a format; docs/detection_datasets.md describes them.
"""

from __future__ import annotations

import argparse

from llie_preproc.commands.arguments import add_out

from ..datasets.annotation_formats import FORMATS
from ..datasets.coco import BOUNDS, images_of, summary, to_coco, write_coco
from ..datasets.labels import LabelSet, Problems
from ..datasets.night import measure_all
from ..datasets.options import add_rule, add_skip_bad, add_split, print_problems, rule_of, split_of
from ..datasets.splits import TEST, TRAIN, part_path, select


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    formats = parser.add_subparsers(required=True, metavar="FORMAT")
    for name, known in FORMATS.items():
        each = formats.add_parser(
            name, help=known.title, description=f"Convert annotations of {known.title} to COCO's format."
        )
        each.set_defaults(label_set=known.add_arguments(each))
        _add_options(each)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "COCO file to write", "FILE.json", required=True)
    parser.add_argument("--names", metavar="FILE", help="list of the pictures to use, one name a line")
    parser.add_argument(
        "--night", action="store_true", help="use only night pictures, chosen by brightness unless --names lists them"
    )
    add_rule(parser)
    add_split(parser, "the parts FILE_train.json and FILE_test.json")
    parser.add_argument(
        "--out-of-bounds",
        choices=BOUNDS,
        default="clip",
        help="treatment of boxes that leave the picture: clip cuts them at its border and leaves out those that are "
        "wholly outside (default), keep keeps them, and error ends with an error",
    )
    add_skip_bad(parser, "lines and files")


def run(args: argparse.Namespace) -> int:
    """Convert the annotations that the command line names."""
    if args.out.suffix != ".json":
        raise ValueError(f"--out must end in .json, got {args.out}")
    split = split_of(args)
    problems = Problems(args.skip_bad)
    labels = _chosen(args.label_set(args), args, problems)
    truth = to_coco(labels, problems, args.out_of_bounds)
    parts = {args.out: truth}
    if split is not None:
        drawn = split.draw(image["file_name"] for image in truth["images"])
        paths = (part_path(args.out, part) for part in (TRAIN, TEST))
        parts = {path: images_of(truth, names) for path, names in zip(paths, drawn, strict=True)}
        if rest := len(truth["images"]) - sum(map(len, drawn)):
            problems.count("images that the split left out", rest)
    for path, part in parts.items():
        write_coco(path, part)
        print(f"{path}: {summary(part)}")
    print_problems(problems)
    return 0


def _chosen(labels: LabelSet, args: argparse.Namespace, problems: Problems) -> LabelSet:
    if args.names is not None:
        if args.night:
            print(f"night: chosen by the list {args.names}, not by brightness")
        return labels.only(select(args.names, {key: labels.name(key) for key in labels.pictures}, problems))
    if not args.night:
        return labels
    # Annotations without a picture are reported first, because the choice of night pictures drops them.
    labels = labels.complete(problems)
    rule = rule_of(args)
    lights = measure_all(labels.pictures, problems)
    night = [key for key, light in lights.items() if rule(light)]
    print(f"night: {len(night)} of {len(labels.pictures)} pictures, {rule}")
    return labels.only(night)
