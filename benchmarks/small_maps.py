"""The time that small maps save, and the error that they make.

``python -m benchmarks.small_maps --images DIR [--size 1333x800] [--device cpu] [--threads N] [--json FILE]``

Some enhancers predict a map of tone curves, one curve for each pixel. They can predict a small map on a shrunk picture
and apply it at full size. Each picture below DIR is scaled to fit into the size. It is enhanced with its full map, and
with small maps of three sizes. PSNR compares each result of a small map with the result of the full map, both clamped
to [0, 1]. ZeroDCE and SCI take part if their weights are given (``--weights ZeroDCE=FILE``).
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.small_maps")

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from llie_preproc import build_enhancer, enhance
from llie_preproc.enhancers import Enhancer
from llie_preproc.pictures import SUFFIXES, read_picture

from .timing import machine, report, timed

SIDES = (512, 256, 128)


def pictures(folder: Path, width: int, height: int) -> list[np.ndarray]:
    """The pictures of a folder tree, scaled to fit into ``width`` x ``height``, RGB in [0, 1]."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{folder} holds no pictures")
    return [_fitted(read_picture(file).pixels, width, height) for file in files]


def _fitted(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    unit = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
    rows, columns = unit.shape[:2]
    factor = min(max(width, height) / max(rows, columns), min(width, height) / min(rows, columns))
    size = (round(columns * factor), round(rows * factor))
    return cv2.resize(unit, size, interpolation=cv2.INTER_LINEAR).clip(0, 1)


def compare(network: Enhancer, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """The median milliseconds of a picture by size of map, and the PSNR of the small maps' results."""
    enhance(images[0], network)
    full = [timed(lambda image=image: enhance(image, network)) for image in images]
    result: dict[str, Any] = {"full_ms": _milliseconds([t for _, t in full])}
    for side in SIDES:
        small = [timed(lambda image=image, side=side: enhance(image, network, map_side=side)) for image in images]
        quality = [psnr(a, b) for (a, _), (b, _) in zip(full, small, strict=True)]
        result[f"map_{side}"] = {
            "ms": _milliseconds([t for _, t in small]),
            "psnr_db_mean": round(statistics.mean(quality), 2),
            "psnr_db_least": round(min(quality), 2),
        }
    return result


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of pictures in [0, 1], at most 100 dB."""
    return float(-10 * np.log10(max(float(np.mean((a - b) ** 2)), 1e-10)))


def _milliseconds(seconds: Sequence[float]) -> float:
    return round(1000 * statistics.median(seconds), 1)


def main() -> None:
    """Measure, print the result, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--weights", nargs="+", default=[], metavar="ENHANCER=FILE")
    parser.add_argument("--size", default="1333x800", help="width x height")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    images = pictures(args.images, *(int(n) for n in args.size.split("x")))
    networks = {
        "PSENet": build_enhancer("PSENet", device=args.device),
        "AdaptiveGamma": build_enhancer("AdaptiveGamma"),
    }
    for given in args.weights:
        name, _, file = given.partition("=")
        networks[name] = build_enhancer(name, file, device=args.device)
    result = {
        "what": f"{len(images)} pictures within {args.size}, float32",
        "machine": machine(torch.device(args.device)),
        "threads": args.threads,
        "torch": torch.__version__,
        **{name: compare(network, images) for name, network in networks.items()},
    }
    report(result, args.json)
