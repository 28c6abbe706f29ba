"""``python -m detection_eval``: measurements from the shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from llie_preproc import build_enhancer, enhance
from llie_preproc.inference import DEFAULT_WEIGHTS
from llie_preproc.pictures import convert_depth, paired_files, picture_files, read_picture

from .metrics import QualitySettings, QualitySuite, metric_names


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
        help="PSNR, SSIM and other metrics of enhanced pictures",
        description="Enhance the pictures of LOW and compare them with those of the same name in HIGH: RGB, full size, "
        "8-bit results, mean over pictures. One line for each checkpoint, after one for the raw input. HIGH may be "
        "left out where no metric compares with it.",
    )
    parser.add_argument("low", metavar="LOW")
    parser.add_argument("high", metavar="HIGH", nargs="?")
    parser.add_argument("--enhancer", default="PSENet")
    parser.add_argument("--checkpoint", nargs="+", default=[DEFAULT_WEIGHTS])
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"default: psnr ssim. Of: {' '.join(metric_names())}. Their variants are printed below the table",
    )
    parser.add_argument("--niqe-model", metavar="FILE", help="niqe_pris_params.npz, for niqe")
    parser.add_argument("--lpips-trunk", metavar="FILE", help="alexnet-owt-7be5be79.pth, for lpips")
    parser.add_argument("--fid-trunk", metavar="FILE", help="pt_inception-2015-12-05-6726825d.pth, for fid")
    parser.add_argument("--fid-reference", metavar="DIR", help="pictures that fid compares with instead of HIGH's")
    parser.add_argument("--eme-block", type=int, default=8, metavar="SIDE", help="side of EME's blocks")
    parser.add_argument("--eme-log", choices=("ln", "log10"), default="ln")
    parser.add_argument(
        "--gt-mean", action="store_true", help="match the mean brightness to HIGH's before comparing, and say so"
    )
    parser.set_defaults(run=_quality)


def _quality(args: argparse.Namespace) -> int:
    settings: dict[str, Any] = {field.name: getattr(args, field.name) for field in fields(QualitySettings)}
    suite = QualitySuite(args.metrics or ("psnr", "ssim"), **settings)
    pairs = _pairs(args.low, args.high, suite)
    candidates = {"raw input": build_enhancer("Identity")}
    for checkpoint in args.checkpoint:
        name = f"{args.enhancer}, {checkpoint}"
        candidates[name] = build_enhancer(args.enhancer, checkpoint, device=args.device)
    scores: dict[str, list[dict[str, Any]]] = {name: [] for name in candidates}
    for low, high in tqdm(pairs, unit="picture" if args.high is None else "pair", disable=None):
        image = _pixels(low)
        reference = None if high is None else _pixels(high)
        if reference is not None and image.shape != reference.shape:
            raise ValueError(f"{low} and {high} differ in shape: {image.shape}, {reference.shape}")
        target = None if reference is None else _tensor(reference, args.device)
        for name, enhancer in candidates.items():
            result = _tensor(enhance(image, enhancer), args.device)
            scores[name].append(suite.score(result, target, _tensor(image, args.device)))
    print(f"{len(pairs)} {'pictures' if args.high is None else 'pairs'}")
    for name, each in scores.items():
        print(f"{suite.line(suite.summarise(each))}  {name}")
    if args.metrics:
        for name, text in suite.describe().items():
            print(f"{name}: {text}")
    return 0


def _pairs(low: str, high: str | None, suite: QualitySuite) -> Sequence[tuple[Path, Path | None]]:
    if high is not None:
        return paired_files(low, high)
    if paired := suite.needed("target"):
        raise ValueError(f"HIGH, the folder of references, must be given for {', '.join(paired)}")
    return [(path, None) for path in picture_files(low)]


def _pixels(path: Path) -> np.ndarray:
    return convert_depth(read_picture(path).pixels, np.uint8)


def _tensor(pixels: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).to(device)


if __name__ == "__main__":
    sys.exit(main())
