"""The annotation formats of ``llie annotations`` by name. Each format registers itself in the module of its reader.

For example::

    @annotation_format("darkface", "DARK FACE")
    def _arguments(parser):
        add_folders(parser, "folder of the texts")
        return lambda args: darkface(args.images, args.annotations)
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..self_registration import SelfRegistered
from .labels import LabelSet

Reader = Callable[[argparse.Namespace], LabelSet]
AddArguments = Callable[[argparse.ArgumentParser], Reader]


@dataclass(frozen=True)
class AnnotationFormat:
    """A format of annotations.

    Attributes:
        title: Name of the format that people read.
        add_arguments: Function that adds the format's arguments to a parser, and returns the function that reads a set
            by their values.
    """

    title: str
    add_arguments: AddArguments


FORMATS: SelfRegistered[AnnotationFormat] = SelfRegistered(
    "detection_eval.datasets.formats", "format", "annotation_format"
)


def annotation_format(name: str, title: str) -> Callable[[AddArguments], AddArguments]:
    """A decorator that registers a format by the function which adds its arguments.

    Args:
        name: Name of the format on the command line.
        title: Name of the format that people read.

    Raises:
        ValueError: A format with that name exists already.
    """
    return FORMATS.decorator(name, partial(AnnotationFormat, title))


def add_folders(parser: argparse.ArgumentParser, annotations: str) -> None:
    """Add the arguments ``IMAGES``, a folder, and ``ANNOTATIONS``; ``annotations`` is the help of the latter."""
    parser.add_argument("images", metavar="IMAGES", help="folder of the pictures")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help=annotations)
