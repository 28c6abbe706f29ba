"""A small detector on night scenes: raw, behind an enhancer without retraining, and retrained behind it."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from tqdm import tqdm

from llie_preproc.detection import add_enhancer

from .night_scenes import CLASSES, write_night_set

RAW, ZERO_SHOT, RETRAINED = "raw", "enhanced, zero-shot", "enhanced, retrained"
_METRICS = {"AP": "coco/bbox_mAP", "AP50": "coco/bbox_mAP_50", "AP75": "coco/bbox_mAP_75"}


@dataclass(frozen=True)
class Budget:
    """How much is made and trained; both trainings get the same.

    Attributes:
        train_scenes: Pictures to train on.
        val_scenes: Pictures to evaluate on, of another seed.
        iterations: Batches of a training; None: as many as the config says.
    """

    train_scenes: int = 320
    val_scenes: int = 150
    iterations: int | None = None


@dataclass(frozen=True)
class Boxes:
    """Boxes of one picture: ``boxes`` ``(n, 4)`` x1 y1 x2 y2 in pixels, ``labels`` and ``scores`` of length n."""

    boxes: np.ndarray
    labels: list[str]
    scores: list[float]


@dataclass(frozen=True)
class Comparison:
    """What the three protocols gave.

    Attributes:
        scores: AP, AP50 and AP75 in [0, 1], by protocol.
        detections: Detections of each validation picture by file name, by protocol.
        truth: Annotated boxes of each validation picture, by file name.
        val_folder: Where these pictures are.
    """

    scores: dict[str, dict[str, float]]
    detections: dict[str, dict[str, Boxes]]
    truth: dict[str, Boxes]
    val_folder: Path


def compare_protocols(folder: Path, enhancer: str, checkpoint: str, seed: int, budget: Budget) -> Comparison:
    """Make the night scenes, train the detector on raw and on enhanced pictures, and evaluate it thrice.

    Args:
        folder: Scenes, logs, checkpoints and detections go here.
        enhancer: Registered name.
        checkpoint: As for :func:`llie_preproc.build_enhancer`.
        seed: Of the scenes and of both trainings.
        budget: How much.
    """
    scenes = folder / "night_scenes"
    # Sets of different seeds share no scene; validation takes one that no --seed near this one trains on.
    write_night_set(scenes / "train", seed, budget.train_scenes)
    annotations = write_night_set(scenes / "val", seed + 1_000_000, budget.val_scenes)
    raw = _raw_config(folder, seed, budget)
    # The enhancer is frozen and the pictures come round many times: each is enhanced once and kept.
    enhanced = add_enhancer(
        raw, enhancer, door="transform", checkpoint=checkpoint, position="after_load", cache_dir=str(folder / "cache")
    )
    scores: dict[str, dict[str, float]] = {}
    raw_weights = _train(raw, folder / "raw", scores, RAW)
    _evaluate(enhanced, folder / "zero_shot", scores, ZERO_SHOT, raw_weights)
    _train(enhanced, folder / "retrained", scores, RETRAINED)
    names = {i["id"]: i["file_name"] for i in json.loads(annotations.read_bytes())["images"]}
    outputs = {RAW: "raw", ZERO_SHOT: "zero_shot", RETRAINED: "retrained"}
    detections = {
        protocol: _by_picture(json.loads((folder / place / "detections.bbox.json").read_bytes()), names)
        for protocol, place in outputs.items()
    }
    truth = _by_picture(json.loads(annotations.read_bytes())["annotations"], names)
    return Comparison(scores, detections, truth, scenes / "val")


class ProgressBar(Hook):
    """A tqdm bar over the iterations of a training or test."""

    def __init__(self, name: str) -> None:
        self.name = name

    def before_train(self, runner: Runner) -> None:
        """Open the bar."""
        self.bar = tqdm(total=runner.max_iters, desc=f"training ({self.name})", unit="batch")

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance, and show the loss."""
        self.bar.set_postfix(loss=f"{float(outputs['loss'].detach()):.2f}", refresh=False)
        self.bar.update()

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self.bar.close()

    def before_test(self, runner: Runner) -> None:
        """Open the bar."""
        self.bar = tqdm(total=len(runner.test_dataloader), desc=f"evaluation ({self.name})", unit="batch")

    def after_test_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Advance."""
        self.bar.update()

    def after_test(self, runner: Runner) -> None:
        """Close the bar."""
        self.bar.close()


def detector_config() -> Config:
    """``mm_configs/demo/faster_rcnn_r18_night.py``."""
    return Config.fromfile(str(files("mm_configs") / "demo" / "faster_rcnn_r18_night.py"))


def _raw_config(folder: Path, seed: int, budget: Budget) -> Config:
    cfg = detector_config()
    for loader in (cfg.train_dataloader, cfg.test_dataloader):
        loader.dataset.data_root = str(folder / "night_scenes")
    cfg.test_evaluator.ann_file = str(folder / "night_scenes" / "val" / "annotations.json")
    cfg.randomness = dict(seed=seed)
    if budget.iterations is not None:
        cfg.train_cfg.max_iters = cfg.default_hooks.checkpoint.interval = budget.iterations
    return cfg


def _train(cfg: Config, work_dir: Path, scores: dict[str, dict[str, float]], protocol: str) -> str:
    """Train and evaluate; returns the path of the weights."""
    runner = _runner(cfg, work_dir, protocol)
    with contextlib.redirect_stdout(io.StringIO()):
        runner.train()
        scores[protocol] = _scores(runner.test())
    return str(work_dir / f"iter_{runner.max_iters}.pth")


def _evaluate(cfg: Config, work_dir: Path, scores: dict[str, dict[str, float]], protocol: str, weights: str) -> None:
    cfg = copy.deepcopy(cfg)
    cfg.load_from = weights
    with contextlib.redirect_stdout(io.StringIO()):
        scores[protocol] = _scores(_runner(cfg, work_dir, protocol).test())


def _runner(cfg: Config, work_dir: Path, protocol: str) -> Runner:
    cfg = copy.deepcopy(cfg)
    cfg.work_dir = str(work_dir)
    cfg.test_evaluator.outfile_prefix = str(work_dir / "detections")
    # MMEngine and pycocotools print pages to the console; the same stands in the log of the work folder.
    with contextlib.redirect_stdout(io.StringIO()):
        runner = Runner.from_cfg(cfg)
    runner.register_hook(ProgressBar(protocol))
    return runner


def _scores(metrics: dict[str, float]) -> dict[str, float]:
    # CocoMetric gives -1 where a size class is empty, never for these; an untrained detector gives no entry at all.
    return {name: float(metrics.get(key, 0.0)) for name, key in _METRICS.items()}


def _by_picture(entries: list[dict], names: dict[int, str]) -> dict[str, Boxes]:
    """COCO annotations or results, collected by file name."""
    collected: dict[str, list[dict]] = {name: [] for name in names.values()}
    for entry in entries:
        collected[names[entry["image_id"]]].append(entry)
    return {name: _boxes(of_one) for name, of_one in collected.items()}


def _boxes(entries: list[dict]) -> Boxes:
    corners = np.array([e["bbox"] for e in entries], np.float32).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    labels = [CLASSES[e["category_id"]] for e in entries]
    return Boxes(corners, labels, [float(e.get("score", 1.0)) for e in entries])
