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
        title: Name of the format in help and messages.
        add_arguments: Function that adds the format's arguments to a parser. It returns a function that takes the
            parsed arguments and reads the set.
    """

    title: str
    add_arguments: AddArguments


FORMATS: SelfRegistered[AnnotationFormat] = SelfRegistered(
    "detection_eval.datasets.formats", "format", "annotation_format"
)


def annotation_format(name: str, title: str) -> Callable[[AddArguments], AddArguments]:
    """A decorator of the function that adds a format's arguments. It registers the format.

    Args:
        name: Name of the format on the command line.
        title: Name of the format in help and messages.

    Raises:
        ValueError: A format with that name exists already.
    """
    return FORMATS.decorator(name, partial(AnnotationFormat, title))


def add_folders(parser: argparse.ArgumentParser, annotations: str) -> None:
    """Add the arguments ``IMAGES`` and ``ANNOTATIONS``. The help of ``ANNOTATIONS`` is ``annotations``."""
    parser.add_argument("images", metavar="IMAGES", help="folder of the pictures")
    parser.add_argument("annotations", metavar="ANNOTATIONS", help=annotations)
