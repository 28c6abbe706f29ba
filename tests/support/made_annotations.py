"""Pictures of one size, texts and COCO sets for the tests of annotation formats."""

from PIL import Image

from detection_eval.datasets.coco import to_coco
from detection_eval.datasets.labels import Problems
from llie_preproc.commands.llie import main

WIDTH, HEIGHT = 64, 48
"""Size of every picture for which no other size is given."""
EXDARK_HEADER = "% bbGt version=3\n"
"""First line of every annotation of ExDark."""


def write_picture(path, size=(WIDTH, HEIGHT), **options):
    """Save a black picture with Pillow's ``options``; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, **options)


def write_text(path, text):
    """Write the text; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def boxes_of(truth, file_name=None):
    """``(category, left, top, width, height)`` of each box of a COCO set, or of one picture of it."""
    ids = {image["id"] for image in truth["images"] if file_name in (None, image["file_name"])}
    return [(each["category_id"], *each["bbox"]) for each in truth["annotations"] if each["image_id"] in ids]


def convert(labels):
    """The COCO set of the labels; a problem in them is raised."""
    return to_coco(labels, Problems())


def annotations(*arguments):
    """Run ``llie annotations`` with these arguments; returns its status."""
    return main(["annotations", *map(str, arguments)])
