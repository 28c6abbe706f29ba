"""Annotations of VisDrone, ExDark, DARK FACE, WIDER FACE or YOLO text to COCO's format.

Check annotations against their pictures and write them in COCO's format: one file that MMDetection's CocoDataset reads.
A malformed line, an unknown class, a picture without an annotation or an annotation without a picture is an error that
names file and line.
'llie annotations FORMAT --help' has the arguments of a format, docs/detection_datasets.md describes them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from llie_preproc.commands.arguments import add_out

from ..datasets.coco import BOUNDS, images_of, summary, to_coco, write_coco
from ..datasets.formats import darkface, exdark, visdrone, wider_face, yolo
from ..datasets.labels import LabelSet, Problems
from ..datasets.night import measure_all
from ..datasets.options import add_rule, add_skip_bad, add_split, print_problems, rule_of, split_of
from ..datasets.splits import TEST, TRAIN, part_path, select


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    formats = parser.add_subparsers(required=True, metavar="FORMAT")
    for name, help_, add_format in _FORMATS:
        each = formats.add_parser(name, help=help_, description=f"Annotations of {help_} to COCO's format.")
        each.set_defaults(label_set=add_format(each))
        _add_options(each)


def _visdrone(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], LabelSet]:
    parser.add_argument("root", metavar="ROOT", help="folder with images and annotations, or a folder of such folders")
    parser.add_argument(
        "--ignored-regions",
        choices=visdrone.IGNORED_REGIONS,
        default="crowd",
        help="treatment of ignored regions: a box of a crowd for every class (default), or none (drop); VisDrone's own "
        "metric knows of them in both cases",
    )
    return lambda args: visdrone.visdrone(args.root, args.ignored_regions)


def _exdark(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], LabelSet]:
    _add_folders(parser, "folder of bbGt texts")
    parser.add_argument(
        "--list",
        metavar="FILE",
        help="file imageclasslist.txt, which says of each picture its light, indoor or outdoor, and its part",
    )
    parser.add_argument(
        "--part", choices=(*exdark.PARTS, "all"), default="all", help="part of the set, by --list (default: all)"
    )
    return lambda args: exdark.exdark(args.images, args.annotations, args.list, args.part)


def _darkface(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], LabelSet]:
    _add_folders(parser, "folder of the texts, or HLA-Face's list of pseudo-labels")
    return lambda args: darkface.darkface(args.images, args.annotations)


def _wider_face(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], LabelSet]:
    _add_folders(parser, "file wider_face_train_bbx_gt.txt or wider_face_val_bbx_gt.txt")
    return lambda args: wider_face.wider_face(args.images, args.annotations)


def _yolo(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], LabelSet]:
    _add_folders(parser, "folder of the texts; a picture without one has no objects")
    parser.add_argument(
        "--classes",
        nargs="+",
        required=True,
        metavar="NAME",
        help="names of the classes, by number from 0; or a file with one a line, or data.yaml",
    )
    return lambda args: yolo.yolo(args.images, args.annotations, yolo.class_names(args.classes))


def _add_folders(parser: argparse.ArgumentParser, annotations: str) -> None:
    parser.add_argument("images", metavar="IMAGES", help="folder of the pictures")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help=annotations)


_FORMATS: tuple[tuple[str, str, Any], ...] = (
    ("visdrone", "VisDrone-DET", _visdrone),
    ("exdark", "ExDark", _exdark),
    ("darkface", "DARK FACE", _darkface),
    ("wider-face", "WIDER FACE", _wider_face),
    ("yolo", "YOLO text", _yolo),
)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_out(parser, "COCO file to write", "FILE.json", required=True)
    parser.add_argument("--names", metavar="FILE", help="list of the pictures to take, one name a line")
    parser.add_argument(
        "--night", action="store_true", help="take night pictures alone, told by brightness, unless --names lists them"
    )
    add_rule(parser)
    add_split(parser, "the parts FILE_train.json and FILE_test.json")
    parser.add_argument(
        "--out-of-bounds",
        choices=BOUNDS,
        default="clip",
        help="treatment of boxes that leave the picture: cut at its border, and left out where wholly outside (clip, "
        "default); kept; or an error",
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
            print(f"night: by the list {args.names}, not by brightness")
        return labels.only(select(args.names, {key: labels.name(key) for key in labels.pictures}, problems))
    if not args.night:
        return labels
    # A picture that is missing might be night.
    labels = labels.complete(problems)
    rule = rule_of(args)
    lights = measure_all(labels.pictures, problems)
    night = [key for key, light in lights.items() if rule(light)]
    print(f"night: {len(night)} of {len(labels.pictures)} pictures, {rule}")
    return labels.only(night)
