"""A small detector on night scenes: raw, behind an enhancer without retraining, and retrained behind the enhancer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from llie_preproc import InferenceOptions

from ..compare import comparison_store
from ..compare.plan import Request
from ..compare.run_cells import compare
from ..shared.enhancers import enhancer_specs
from .night_scenes import CLASSES, write_night_set

RAW, ZERO_SHOT, RETRAINED = "raw", "enhanced, zero-shot", "enhanced, retrained"
_PROTOCOLS = {comparison_store.RAW: RAW, comparison_store.ZERO_SHOT: ZERO_SHOT, comparison_store.RETRAINED: RETRAINED}
_CONFIG = files("mm_configs") / "demo" / "faster_rcnn_r18_night.py"


@dataclass(frozen=True)
class Budget:
    """Numbers of scenes and iterations, which are the same for both trainings.

    Attributes:
        train_scenes: Number of pictures for training.
        val_scenes: Number of pictures for evaluation, which have another seed.
        iterations: Number of batches of a training; None for that of the config.
    """

    train_scenes: int = 320
    val_scenes: int = 150
    iterations: int | None = None


@dataclass(frozen=True)
class Boxes:
    """Boxes of one picture.

    Attributes:
        boxes: Corners ``(n, 4)`` x1 y1 x2 y2 in pixels.
        labels: Name of the class of each box.
        scores: Score of each box; 1 for an annotated one.
    """

    boxes: np.ndarray
    labels: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Comparison:
    """Results of the three protocols.

    Attributes:
        scores: AP, AP50 and AP75 in [0, 1], by protocol.
        detections: Detections in the validation pictures, by protocol and file name.
        truth: Annotated boxes of the validation pictures, by file name.
        val_folder: Folder of the validation pictures.
    """

    scores: dict[str, dict[str, float]]
    detections: dict[str, dict[str, Boxes]]
    truth: dict[str, Boxes]
    val_folder: Path


def compare_protocols(
    folder: Path, enhancer: str, options: InferenceOptions, device: str, seed: int, budget: Budget
) -> Comparison:
    """Make the night scenes, train the detector on raw and on enhanced pictures, and evaluate the three protocols.

    Args:
        folder: Folder for scenes, logs, checkpoints and detections.
        enhancer: Name or config file of the enhancer; ``@`` and weights may follow.
        options: Options that the enhancer runs with.
        device: Device that the enhancer runs on.
        seed: Seed of the scenes and of both trainings.
        budget: Numbers of scenes and iterations.
    """
    scenes = folder / "night_scenes"
    # Sets of different seeds share no scene. The offset keeps validation seeds apart from all small training seeds.
    write_night_set(scenes / "train", seed, budget.train_scenes)
    annotations = write_night_set(scenes / "val", seed + 1_000_000, budget.val_scenes)
    # Each run of the demo starts again.
    shutil.rmtree(folder / "comparison", ignore_errors=True)
    request = Request(
        config=str(_CONFIG),
        plain=_plain_config(folder, budget),
        specs=enhancer_specs([f"enhanced={enhancer}"], options),
        modes=comparison_store.MODES[:3],
        seeds=[seed],
        folder=folder / "comparison",
        options=options,
        device=device,
    )
    comparison, failed = compare(request)
    if failed:
        raise RuntimeError(f"the demo's detector failed: {failed[0]}")
    truth = json.loads(annotations.read_bytes())
    names = {image["id"]: image["file_name"] for image in truth["images"]}
    return Comparison(
        {_PROTOCOLS[row["mode"]]: _scores(row) for row in comparison.table()},
        {
            _PROTOCOLS[cell.mode]: _by_picture(json.loads(comparison.detections_path(cell).read_bytes()), names)
            for cell in comparison.cells
        },
        _by_picture(truth["annotations"], names),
        scenes / "val",
    )


def detector_config() -> Config:
    """Read ``mm_configs/demo/faster_rcnn_r18_night.py``."""
    return Config.fromfile(str(_CONFIG))


def _plain_config(folder: Path, budget: Budget) -> Config:
    cfg = detector_config()
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(folder / "night_scenes")
    cfg.test_evaluator.ann_file = str(folder / "night_scenes" / "val" / "annotations.json")
    if budget.iterations is not None:
        cfg.train_cfg.max_iters = cfg.default_hooks.checkpoint.interval = budget.iterations
    return cfg


def _scores(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: row["scores"]["coco"][name]["value"] for name in ("AP", "AP50", "AP75")}


def _by_picture(entries: list[dict], names: dict[int, str]) -> dict[str, Boxes]:
    """Collect COCO annotations or results by file name."""
    collected: dict[str, list[dict]] = {name: [] for name in names.values()}
    for entry in entries:
        collected[names[entry["image_id"]]].append(entry)
    return {name: _boxes(of_one) for name, of_one in collected.items()}


def _boxes(entries: list[dict]) -> Boxes:
    corners = np.array([e["bbox"] for e in entries], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    labels = [CLASSES[e["category_id"]] for e in entries]
    return Boxes(corners, labels, [float(e.get("score", 1.0)) for e in entries])
