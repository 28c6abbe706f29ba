"""The time to convert annotations of VisDrone-DET to COCO. The label files and JPEGs are generated.

``python -m benchmarks.convert_annotations [--files 10000] [--boxes 50] [--json FILE]``
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.convert_annotations")

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detection_eval.datasets.coco import to_coco, write_coco
from detection_eval.datasets.formats.visdrone import visdrone
from detection_eval.datasets.labels import Problems
from llie_preproc.pictures import Picture, picture_size, write_picture

from .timing import machine, report

_WIDTH, _HEIGHT = 1360, 765


def make(root: Path, files: int, boxes: int) -> None:
    """Write a set in VisDrone's layout, with black pictures of a usual size."""
    draw = random.Random(0)
    picture = root / "images" / "0000000.jpg"
    picture.parent.mkdir(parents=True)
    (root / "annotations").mkdir()
    write_picture(picture, Picture(np.zeros((_HEIGHT, _WIDTH, 3), np.uint8)))
    data = picture.read_bytes()
    for number in range(files):
        (root / "images" / f"{number:07d}.jpg").write_bytes(data)
        rows = (
            (draw.randrange(_WIDTH - 100), draw.randrange(_HEIGHT - 100), draw.randint(1, 99), draw.randint(1, 99),
             1, draw.randint(1, 11), 0, draw.randrange(3))
            for _ in range(boxes)
        )  # fmt: skip
        text = "".join(",".join(map(str, row)) + "\n" for row in rows)
        (root / "annotations" / f"{number:07d}.txt").write_text(text)


def main() -> None:
    """Make the set, convert it, print the seconds, and write them as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--boxes", type=int, default=50, help="boxes in each file; VisDrone's training part has 53")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    taken: dict[str, float] = {}

    def timed(what: str, run: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = run()
        taken[what] = time.perf_counter() - start
        return result

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, args.files, args.boxes)
        labels = timed("files found", lambda: visdrone(root))
        truth = timed("headers and texts read, boxes checked", lambda: to_coco(labels, Problems()))
        timed("JSON written", lambda: write_coco(root / "truth.json", truth))
        total = sum(taken.values())
        timed("of which headers alone", lambda: [picture_size(path) for path in labels.pictures.values()])
    for what, seconds in taken.items():
        print(f"{seconds:7.2f} s  {what}")
    print(f"{total:7.2f} s  {args.files} files, {len(truth['annotations'])} boxes")
    result = {"what": f"VisDrone-DET, {args.files} files of {args.boxes} rows", "machine": machine(torch.device("cpu"))}
    report({**result, "seconds": {**taken, "in all": total}}, args.json)
