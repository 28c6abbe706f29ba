"""List the night pictures of a folder.

Write a list of the night pictures below IMAGES: one name a line, relative to IMAGES. Also write a CSV file with the
brightness of every picture. 'llie annotations --names' and the training sets read such a list. A rule decides by the
brightness of a picture. It was fitted to a few pictures (docs/detection_datasets.md), so check the pictures that it
chooses. --names replaces the rule by your own list.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from llie_preproc.commands.arguments import add_out
from llie_preproc.pictures import picture_files

from ..datasets.labels import Problems
from ..datasets.night import measure_all, write_lights
from ..datasets.options import add_rule, add_skip_bad, add_split, print_problems, rule_of, split_of
from ..datasets.splits import TEST, TRAIN, part_path, select, write_names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("images", metavar="IMAGES", type=Path, help="folder of the pictures, with its subfolders")
    add_out(parser, "list to write; the brightness goes to FILE.csv", "FILE.txt", required=True)
    parser.add_argument(
        "--names", metavar="FILE", help="list of the night pictures, one name a line; it replaces the rule"
    )
    add_rule(parser)
    add_split(parser, "the parts FILE_train.txt and FILE_test.txt")
    add_skip_bad(parser, "pictures and names")


def run(args: argparse.Namespace) -> int:
    """Write the list that the command line asks for."""
    if args.out.suffix != ".txt":
        raise ValueError(f"--out must end in .txt, got {args.out}")
    split, rule, problems = split_of(args), rule_of(args), Problems(args.skip_bad)
    root = args.images.expanduser()
    lights = measure_all({path.relative_to(root).as_posix(): path for path in picture_files(root)}, problems)
    night = sorted(name for name, light in lights.items() if rule(light))
    print(f"{len(night)} of {len(lights)} pictures are night by brightness: {rule}")
    if args.names is not None:
        listed = sorted(select(args.names, {name: name for name in lights}, problems))
        differing = len(set(night) ^ set(listed))
        print(f"{len(listed)} are night by the list {args.names}, which wins; the two differ in {differing}")
        night = listed
    if not night:
        raise ValueError(f"none of the {len(lights)} pictures below {root} is night")
    parts = {args.out: night}
    if split is not None:
        parts.update(zip((part_path(args.out, part) for part in (TRAIN, TEST)), split.draw(night), strict=True))
    for path, names in parts.items():
        write_names(path, names)
        print(f"{path}: {len(names)} names")
    table = args.out.with_suffix(".csv")
    write_lights(table, lights, night)
    print(f"{table}: brightness of {len(lights)} pictures")
    print_problems(problems)
    return 0
