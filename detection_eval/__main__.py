"""``python -m detection_eval``: measurements from the shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from llie_preproc import build_enhancer, enhance
from llie_preproc.inference import DEFAULT_WEIGHTS
from llie_preproc.pictures import convert_depth, paired_files, read_picture

from .metrics import image_quality


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m detection_eval", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_quality(commands)
    args = parser.parse_args(argv)
    try:
        return args.run(args)
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _add_quality(commands: argparse._SubParsersAction) -> None:
    parser = commands.add_parser(
        "quality",
        help="PSNR and SSIM of enhanced pictures against references",
        description="Enhance the pictures of LOW and compare them with those of the same name in HIGH: RGB, full size, "
        "8-bit results, mean over pictures. One line for each checkpoint, after one for the raw input.",
    )
    parser.add_argument("low", metavar="LOW")
    parser.add_argument("high", metavar="HIGH")
    parser.add_argument("--enhancer", default="PSENet")
    parser.add_argument("--checkpoint", nargs="+", default=[DEFAULT_WEIGHTS])
    parser.add_argument("--device", default="cpu")
    parser.set_defaults(run=_quality)


def _quality(args: argparse.Namespace) -> int:
    pairs = paired_files(args.low, args.high)
    candidates = {"raw input": build_enhancer("Identity")}
    for checkpoint in args.checkpoint:
        name = f"{args.enhancer}, {checkpoint}"
        candidates[name] = build_enhancer(args.enhancer, checkpoint, device=args.device)
    scores: dict[str, list[dict[str, float]]] = {name: [] for name in candidates}
    for low, high in tqdm(pairs, unit="pair", disable=None):
        image, reference = (convert_depth(read_picture(path).pixels, np.uint8) for path in (low, high))
        if image.shape != reference.shape:
            raise ValueError(f"{low} and {high} differ in shape: {image.shape}, {reference.shape}")
        target = _tensor(reference)
        for name, enhancer in candidates.items():
            scores[name].append(image_quality(_tensor(enhance(image, enhancer)).float() / 255, target))
    print(f"{len(pairs)} pairs")
    for name, each in scores.items():
        mean = {key: np.mean([score[key] for score in each]) for key in each[0]}
        print(f"PSNR {mean['psnr']:6.3f} dB  SSIM {mean['ssim']:.4f}  {name}")
    return 0


def _tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


if __name__ == "__main__":
    sys.exit(main())
