"""The training of a small SAM, and the effect of darkness on its masks, in raw and in enhanced pictures.

``python -m benchmarks.small_sam train --out DIR`` trains ``build_sam("small")`` from random weights on rendered scenes
by day (:mod:`detection_eval.demo.mask_scenes`). ``python -m benchmarks.small_sam measure --weights FILE --out DIR``
measures the IoU of its masks on other scenes, by day and in the dark, raw and enhanced. It also compares two treatments
of larger pictures: resizing and crops. Scores are means over all masks, with 95 % bootstrap intervals over scenes.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.small_sam")

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from detection_eval.demo.mask_scenes import MaskScene, at_night, mask_scene, write_mask_set
from detection_eval.metrics.bootstrap import differences, intervals
from detection_eval.metrics.masks import ItemScores
from detection_eval.shared.score_table import Numbers, markdown_table, plain_scores
from llie_preproc import build_enhancer
from llie_preproc.files import write_text
from llie_preproc.segmentation import EnhancedSamPredictor, build_sam

from .small_sam_training import Recipe, boxes_of, mask_iou, save_half, train, training_batches
from .timing import machine, report, timed

WEIGHTS = "small_sam.safetensors"
HELD_OUT = 1_000_000
"""Seed of the scenes on which masks are measured."""

STOPS = (0, -2, -3, -4, -5, -6)
ENHANCERS: Mapping[str, str] = {
    "raw": "Identity",
    "gamma": "GammaCorrection",
    "clahe": "CLAHE",
    "adaptivegamma": "AdaptiveGamma",
    "psenet": "PSENet",
}
REFERENCE_WEIGHTS: Mapping[str, tuple[str, str]] = {
    "zero_dce": ("ZeroDCE", "zero_dce_official.safetensors"),
    "sci": ("SCI", "sci_medium_official.safetensors"),
}
_LARGE = (256, 512)
_LARGE_SCENES, _LARGE_OBJECTS = 15, (5, 10)
_SIDES = (38.0, 83.0)
_VIEWS = ("Identity, resize", "Identity, crops", "Upscale x2, resize", "Upscale x2, crops")


def prompt_iou(predictor: EnhancedSamPredictor, picture: np.ndarray, masks: np.ndarray) -> dict[str, np.ndarray]:
    """The IoU of SAM's masks with the true masks ``(n, H, W)``, for two prompts: a box and a point.

    A prompt is the box or the innermost pixel of a true mask. A box is answered by SAM's single mask. A point is
    answered by three masks, of which the one with the highest predicted IoU is taken.
    """
    truth = torch.from_numpy(masks).to(predictor.device)
    predictor.set_image(picture)
    corners = torch.from_numpy(boxes_of(masks)).float().to(predictor.device)
    boxes = predictor.transform.apply_boxes_torch(corners, masks.shape[1:])
    by_box, _, _ = predictor.predict_torch(None, None, boxes, multimask_output=False)
    innermost = torch.from_numpy(innermost_pixels(masks)).float().to(predictor.device)[:, None]
    points = predictor.transform.apply_coords_torch(innermost, masks.shape[1:])
    by_point, predicted, _ = predictor.predict_torch(points, torch.ones_like(points[..., 0]), multimask_output=True)
    best = by_point[torch.arange(len(masks)), predicted.argmax(dim=1)]
    return {"box": _numbers(mask_iou(by_box[:, 0], truth)), "point": _numbers(mask_iou(best, truth))}


def innermost_pixels(masks: np.ndarray) -> np.ndarray:
    """The pixel of each mask that is farthest from the mask's border, ``(n, 2)`` x y."""
    padded = np.pad(masks, [(0, 0), (1, 1), (1, 1)]).astype(np.uint8)
    depths = [cv2.distanceTransform(mask, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1] for mask in padded]
    return np.array([np.unravel_index(depth.argmax(), depth.shape)[::-1] for depth in depths])


def inscribed_ellipses(masks: np.ndarray) -> np.ndarray:
    """The ellipse in the box of each mask, ``(n, H, W)`` bool: the guess of a mask from its box alone."""
    y, x = np.mgrid[: masks.shape[1], : masks.shape[2]] + 0.5
    left, top, right, bottom = boxes_of(masks).T[..., None, None]
    across, down = (2 * x - left - right) / (right - left), (2 * y - top - bottom) / (bottom - top)
    return across**2 + down**2 <= 1


def _numbers(values: Tensor) -> np.ndarray:
    return values.double().cpu().numpy()


def in_the_dark(sam: Any, scenes: Sequence[MaskScene], reference_weights: Path | None) -> list[dict[str, Any]]:
    """A row for each input and exposure: the IoU, and its difference to raw pictures at the same exposure."""
    networks = {name: build_enhancer(kind) for name, kind in ENHANCERS.items()}
    if reference_weights is not None:
        known = REFERENCE_WEIGHTS.items()
        networks |= {name: build_enhancer(kind, reference_weights / file) for name, (kind, file) in known}
    rows = []
    for stops in STOPS:
        pictures = [
            at_night(scene, stops, HELD_OUT, index) if stops else scene.day for index, scene in enumerate(scenes)
        ]
        scores = {
            name: _scores(EnhancedSamPredictor(sam, network), pictures, scenes, f"{name}, {stops} EV")
            for name, network in networks.items()
        }
        rows += [
            {"input": name, "stops": stops, **_summary(each, scores["raw"] if name != "raw" else None)}
            for name, each in scores.items()
        ]
    return rows


def in_large_scenes(sam: Any, count: int) -> list[dict[str, Any]]:
    """A row for each size, scale and treatment of larger scenes by day, with objects as large as in training."""
    rows = []
    for size in _LARGE:
        scenes = [
            mask_scene(HELD_OUT, index, size, objects=_LARGE_OBJECTS, longer_side=_SIDES) for index in range(count)
        ]
        pictures = [scene.day for scene in scenes]
        resized: ItemScores | None = None
        for view in _VIEWS:
            enhancer, oversize = view.split(", ")
            network = build_enhancer("Identity" if enhancer == "Identity" else {"type": "Upscale", "scale": 2})
            scores = _scores(EnhancedSamPredictor(sam, network, oversize=oversize), pictures, scenes, f"{size}, {view}")
            resized = scores if oversize == "resize" else resized
            row = {"size": size, "enhancer": enhancer, "oversize": oversize, "masks": _count(scenes)}
            rows.append(row | _summary(scores, resized if oversize == "crops" else None))
    return rows


def _scores(
    predictor: EnhancedSamPredictor, pictures: Sequence[np.ndarray], scenes: Sequence[MaskScene], title: str
) -> ItemScores:
    progress = tqdm(zip(pictures, scenes, strict=True), desc=title, total=len(scenes), unit="scene")
    return ItemScores({at: prompt_iou(predictor, picture, scene.masks) for at, (picture, scene) in enumerate(progress)})


def _summary(scores: ItemScores, before: ItemScores | None) -> dict[str, Any]:
    change = None if before is None else plain_scores(differences([before], [scores]))
    return {"scores": plain_scores(intervals([scores])), "difference": change}


def _count(scenes: Sequence[MaskScene]) -> int:
    return sum(len(scene.masks) for scene in scenes)


def dark_table(rows: Sequence[Mapping[str, Any]], prompt: str) -> str:
    """A table by exposure: mean IoU, and for enhanced pictures the difference to raw ones with its interval."""
    inputs = list(dict.fromkeys(row["input"] for row in rows))
    cells = {(row["input"], row["stops"]): row for row in rows}
    lines = [[prompt, *("day" if stops == 0 else f"{stops} EV" for stops in STOPS)]]
    for name in inputs:
        lines.append([name, *(_cell(cells[name, stops], prompt) for stops in STOPS)])
    return markdown_table(lines)


def crop_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table by size of picture: mean IoU, and for crops the difference to resizing with its interval."""
    lines = [["side", "enhancer", "oversize", "box", "point"]]
    for row in rows:
        lines.append([str(row["size"]), row["enhancer"], row["oversize"], _cell(row, "box"), _cell(row, "point")])
    return markdown_table(lines)


def _cell(row: Mapping[str, Any], prompt: str) -> str:
    value = f"{row['scores'][prompt]['value']:.3f}"
    return (
        value
        if row["difference"] is None
        else f"{value}, {Numbers(3, sign='+').with_interval(row['difference'][prompt])}"
    )


def train_command(args: argparse.Namespace) -> None:
    """Train the small SAM, and write its weights and the curve of its loss."""
    recipe = Recipe(seed=args.seed, iterations=args.iterations)
    torch.manual_seed(recipe.seed)
    sam = build_sam("small", device=args.device)
    side = sam.image_encoder.img_size
    metadata = {"recipe": json.dumps(asdict(recipe))}
    args.out.mkdir(parents=True, exist_ok=True)

    def keep(row: dict[str, float]) -> None:
        print(json.dumps(row), flush=True)
        save_half(sam, args.out / WEIGHTS, metadata | {"iteration": str(row["iteration"])})

    _, rendering = timed(lambda: [mask_scene(recipe.seed, index, side) for index in range(100)])
    curve = train(sam, recipe, training_batches(recipe, side), keep)
    result = {
        "recipe": asdict(recipe),
        "seconds_of_100_scenes": round(rendering, 2),
        "sha256": save_half(sam, args.out / WEIGHTS, metadata),
        "curve": curve,
    }
    report(_about(args) | result, args.out / "training.json")


def measure_command(args: argparse.Namespace) -> None:
    """Measure the masks, and write the results and the tables."""
    sam = build_sam("small", args.weights, args.device)
    scenes = [mask_scene(HELD_OUT, index) for index in range(args.scenes)]
    ellipse = np.concatenate([_ellipse_iou(scene.masks) for scene in scenes])
    dark = in_the_dark(sam, scenes, args.reference_weights)
    large = in_large_scenes(sam, min(args.scenes, _LARGE_SCENES))
    args.out.mkdir(parents=True, exist_ok=True)
    result = {"seed": HELD_OUT, "scenes": len(scenes), "masks": _count(scenes), "ellipse_in_the_box": ellipse.mean()}
    report(_about(args) | result | {"dark": dark, "large": large}, args.out / "results.json")
    tables = [dark_table(dark, "box"), dark_table(dark, "point"), crop_table(large)]
    write_text(args.out / "table.md", "\n".join(tables))


def _ellipse_iou(masks: np.ndarray) -> np.ndarray:
    return _numbers(mask_iou(torch.from_numpy(inscribed_ellipses(masks)), torch.from_numpy(masks)))


def _about(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": f"python -m benchmarks.small_sam {args.command}",
        "options": {name: value for name, value in vars(args).items() if isinstance(value, int) or name == "device"},
        "machine": machine(torch.device(args.device)),
        "torch": torch.__version__,
    }


def scenes_command(args: argparse.Namespace) -> None:
    """Write scenes with their masks."""
    print(write_mask_set(args.out, args.seed, args.scenes, args.stops))


def main() -> None:
    """Train, measure or write scenes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    training = commands.add_parser("train", help="train the small SAM on scenes by day")
    training.add_argument("--seed", type=int, default=Recipe.seed)
    training.add_argument("--iterations", type=int, default=Recipe.iterations)
    training.set_defaults(run=train_command)
    measuring = commands.add_parser("measure", help="measure SAM's masks by day and in the dark, raw and enhanced")
    measuring.add_argument("--weights", type=Path, required=True, metavar="FILE")
    measuring.add_argument("--scenes", type=int, default=100)
    measuring.add_argument(
        "--reference-weights",
        type=Path,
        metavar="DIR",
        help="folder of the weights of Zero-DCE and SCI (default: none)",
    )
    measuring.set_defaults(run=measure_command)
    writing = commands.add_parser("scenes", help="write scenes with their masks for other trainings and measurements")
    writing.add_argument("--seed", type=int, default=0)
    writing.add_argument("--scenes", type=int, default=100)
    writing.add_argument("--stops", type=float, nargs="+", default=[-2.0, -4.0, -6.0], metavar="EV")
    writing.set_defaults(run=scenes_command)
    for command in (training, measuring, writing):
        command.add_argument("--out", type=Path, required=True, metavar="DIR")
        command.add_argument("--device", default="cpu")
        command.add_argument("--threads", type=int, default=torch.get_num_threads(), help="number of CPU threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    args.run(args)
