"""Does it help to train the enhancer together with the detector?

The detector is trained without an enhancer (raw), behind a frozen enhancer, and jointly with the enhancer. All
trainings have the same budget and start from the same detector.

``python -m benchmarks.joint_training night --out DIR [--seeds 3]``: a small Faster R-CNN learns rendered scenes by
day (:mod:`detection_eval.demo.night_scenes`). It then learns a few other scenes by night.

``python -m benchmarks.joint_training exdark IMAGES BBGT --out DIR [--folds 4] [--seeds 1]``: the same detector learns
a few pictures of ExDark. All classes become one, ``object``, because twelve classes cannot be learnt from so few
pictures. The pictures are split into folds. Each picture is tested once, by a detector that was not trained on it, and
the table covers all pictures.

``python -m benchmarks.joint_training visdrone IMAGES LABELS --out DIR``: Faster R-CNN R50-FPN learns from scratch on
pictures of VisDrone, in folds; this needs a GPU. The pictures are darkened like the demo's scenes
(:func:`llie_preproc.ops.sensor.photograph`). LABELS is a folder of YOLO's text files with car, van, truck, bus
and motor as classes 0 to 4.

``llie compare`` runs the trainings; its mode ``retrained`` is the frozen enhancer. The last checkpoint of each training
is tested. DIR keeps the results, and a second call does not repeat finished trainings.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.joint_training")

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detection_eval.compare.comparison_store import Comparison
from detection_eval.compare.tables import measure, write_tables
from detection_eval.demo.night_scenes import SENSOR, write_night_set
from llie_preproc.commands.llie import main as llie
from llie_preproc.files import write_json, write_text
from llie_preproc.mm.runner_parts import saved_checkpoints
from llie_preproc.ops.sensor import photograph
from llie_preproc.pictures import Picture, picture_size, read_picture, write_picture

from .timing import machine

CONFIGS = Path(__file__).parents[1] / "mm_configs"
NIGHT = CONFIGS / "demo" / "faster_rcnn_r18_night.py"
EXDARK = CONFIGS / "detection" / "faster-rcnn_r18_exdark_small.py"
VISDRONE = CONFIGS / "detection" / "faster-rcnn_r50_fpn_1x_night-visdrone.py"
DAY_SCENES, NIGHT_SCENES, TEST_SCENES = 320, 48, 150
VEHICLES = ("car", "van", "truck", "bus", "motor")
_DAY_SEED, _NIGHT_SEED, _TEST_SEED = 10, 11, 12
_STOPS = (-5.0, -3.0)

CocoFiles = tuple[Path, Path]
"""The file of annotations, and the folder of its pictures."""


def day_detector(folder: Path) -> Path:
    """The checkpoint of the small detector that has learnt scenes by day."""
    day = _scenes(folder / "day", _DAY_SEED, DAY_SCENES, by_day=True)
    test = _scenes(folder / "day_test", _TEST_SEED, TEST_SCENES, by_day=True)
    _compare(NIGHT, day, test, folder / "by_day", ["--modes", "raw"], enhancers=())
    return saved_checkpoints(folder / "by_day" / "cells" / "raw-seed0")[-1]


def night(args: argparse.Namespace) -> Comparison:
    """The comparison on rendered scenes."""
    start = day_detector(args.day or args.out)
    train = _scenes(args.out / "night", _NIGHT_SEED, NIGHT_SCENES)
    test = _scenes(args.out / "night_test", _TEST_SEED, TEST_SCENES)
    options = [*_modes(args), "--cfg-options", f"load_from={start}", *_schedule(args.iterations or 130)]
    _compare(NIGHT, train, test, args.out / "comparison", options)
    return Comparison(args.out / "comparison")


def exdark(args: argparse.Namespace) -> Comparison:
    """The comparison on a few pictures of ExDark."""
    start = day_detector(args.day or args.out)
    converted = args.out / "exdark.json"
    llie(["annotations", "exdark", str(args.images), str(args.annotations), "--out", str(converted)])
    one_class = _as_one_class(converted, args.out / "objects.json")
    options = [*_modes(args), "--cfg-options", f"load_from={start}", *_schedule(args.iterations or 200)]
    return _in_folds(EXDARK, (one_class, args.images), args, options)


def visdrone(args: argparse.Namespace) -> Comparison:
    """The comparison on darkened pictures of VisDrone."""
    converted = _from_yolo(args.images, args.annotations, VEHICLES, args.out / "visdrone.json")
    dark = _darkened(converted, args.images, args.out / "darkened")
    epochs = args.iterations or 40
    steps = f"[{2 * epochs // 3},{11 * epochs // 12}]"
    schedule = [f"train_cfg.max_epochs={epochs}", f"train_cfg.val_interval={epochs}"]
    schedule += [f"param_scheduler.1.end={epochs}", f"param_scheduler.1.milestones={steps}"]
    options = [*_modes(args), "--cfg-options", "model.backbone.init_cfg=None", *schedule]
    return _in_folds(VISDRONE, (converted, dark), args, options)


def _modes(args: argparse.Namespace) -> list[str]:
    return ["--modes", "raw", "zero-shot", "retrained", "joint", "--seeds", str(args.seeds)]


def _schedule(iterations: int) -> list[str]:
    """The options that give the small configs a shorter schedule of the same shape."""
    warm = min(20, iterations // 4)
    return [
        f"train_cfg.max_iters={iterations}",
        f"train_cfg.val_interval={iterations}",
        f"default_hooks.checkpoint.interval={iterations}",
        f"param_scheduler.0.end={warm}",
        f"param_scheduler.1.begin={warm}",
        f"param_scheduler.1.end={iterations}",
        f"param_scheduler.1.T_max={iterations - warm}",
    ]


def _scenes(folder: Path, seed: int, count: int, by_day: bool = False) -> CocoFiles:
    annotations = folder / "annotations.json"
    return annotations if annotations.is_file() else write_night_set(folder, seed, count, by_day), folder


def _compare(
    config: Path,
    train: CocoFiles,
    test: CocoFiles,
    out: Path,
    options: Sequence[str],
    enhancers: Sequence[str] = ("psenet",),
) -> None:
    sets = ["--train", *map(str, train), "--test", *map(str, test)]
    given = ["--detector", str(config), "--enhancer", "none", *enhancers, *sets, "--out", str(out), "--resume"]
    status = llie(["compare", *given, *options])
    if status:
        raise RuntimeError(f"the comparison in {out} failed; its messages above say why")


def _in_folds(config: Path, files: CocoFiles, args: argparse.Namespace, options: Sequence[str]) -> Comparison:
    """Run one comparison for each fold, and merge them into one."""
    truth = json.loads(files[0].read_text(encoding="utf-8"))
    order = np.random.default_rng(0).permutation([image["id"] for image in truth["images"]])
    parts = []
    for number, held_out in enumerate(np.array_split(order, args.folds)):
        chosen = {int(each) for each in held_out}
        sets = [
            (
                _part(truth, {i["id"] for i in truth["images"]} - chosen, args.out / f"fold{number}_train.json"),
                files[1],
            ),
            (_part(truth, chosen, args.out / f"fold{number}_test.json"), files[1]),
        ]
        folder = args.out / f"fold{number}"
        _compare(config, *sets, folder, options)
        parts.append(Comparison(folder))
    return _pooled(parts, truth, args.out / "comparison")


def _part(truth: dict[str, Any], chosen: set[int], path: Path) -> Path:
    images = [image for image in truth["images"] if image["id"] in chosen]
    annotations = [each for each in truth["annotations"] if each["image_id"] in chosen]
    write_json(path, dict(truth, images=images, annotations=annotations))
    return path


def _pooled(parts: Sequence[Comparison], truth: dict[str, Any], folder: Path) -> Comparison:
    """Merge comparisons into one. Each of them tested other pictures of ``truth``."""
    shutil.rmtree(folder, ignore_errors=True)
    first = parts[0]
    pooled = Comparison.begin(folder, dict(first.plan, config=f"{first.plan['config']}, {len(parts)} folds"), truth)
    for cell in first.cells:
        found = [entry for part in parts for entry in json.loads(part.detections_path(cell).read_bytes())]
        write_text(pooled.detections_path(cell), json.dumps(sorted(found, key=lambda entry: -entry["score"])))
        timings = [(part.result(cell) or {})["timing"] for part in parts]
        mean = {k: _mean([timing.get(k) for timing in timings]) for k in timings[0]}
        pooled.finish(cell, dict(metrics={}, checkpoint=None, iterations=None, timing=mean))
    write_tables(pooled, measure(pooled))
    return pooled


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _as_one_class(source: Path, target: Path) -> Path:
    truth = json.loads(source.read_text(encoding="utf-8"))
    annotations = [dict(each, category_id=1) for each in truth["annotations"]]
    write_json(target, dict(truth, annotations=annotations, categories=[{"id": 1, "name": "object"}]))
    return target


def _from_yolo(images: Path, labels: Path, names: Sequence[str], target: Path) -> Path:
    """Convert YOLO's labels to COCO.

    Each picture has a text file with lines ``class x y width height``: the centre and the sides of a box, as shares of
    the picture's sides.
    """
    entries: list[dict] = []
    annotations: list[dict] = []
    for number, file in enumerate(sorted(labels.glob("*.txt")), 1):
        picture = next(images.glob(f"{file.stem}.*"))
        width, height = picture_size(picture)
        entries.append({"id": number, "file_name": picture.name, "width": width, "height": height})
        for line in file.read_text(encoding="utf-8").splitlines():
            label, *shares = line.split()
            x, y, w, h = (float(share) * side for share, side in zip(shares, (width, height) * 2, strict=True))
            box = [x - w / 2, y - h / 2, w, h]
            known = {"id": len(annotations) + 1, "image_id": number, "category_id": int(label) + 1}
            annotations.append({**known, "bbox": box, "area": w * h, "iscrowd": 0})
    categories = [{"id": index, "name": name} for index, name in enumerate(names, 1)]
    write_json(target, {"images": entries, "annotations": annotations, "categories": categories})
    return target


def _darkened(annotations: Path, images: Path, folder: Path) -> Path:
    """Write the pictures of a COCO file as the demo's noisy sensor would take them at night."""
    for entry in json.loads(annotations.read_text(encoding="utf-8"))["images"]:
        rng = np.random.default_rng([0, entry["id"]])
        picture = read_picture(images / entry["file_name"])
        dark = photograph(picture.pixels, rng.uniform(*_STOPS), SENSOR, rng)
        write_picture(folder / entry["file_name"], Picture(dark))
    return folder


def main() -> None:
    """Run the comparison that the command line names, print its table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["night", "exdark", "visdrone"])
    parser.add_argument("images", nargs="?", type=Path)
    parser.add_argument("annotations", nargs="?", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--day", type=Path, help="--out of an earlier call, whose daytime detector is reused")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--iterations", type=int, help="iterations of each training; epochs for visdrone")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.what != "night" and not (args.images and args.annotations):
        parser.error(f"{args.what} needs IMAGES and ANNOTATIONS")
    args.out.mkdir(parents=True, exist_ok=True)
    comparison = {"night": night, "exdark": exdark, "visdrone": visdrone}[args.what](args)
    print((comparison.folder / "table.md").read_text(encoding="utf-8"))
    if args.json:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        plan = {k: v for k, v in comparison.plan.items() if k not in ("command", "image_root")}
        # The result must not show the folders of this machine.
        plan["config"] = Path(plan["config"]).name
        plan["budget"] = {k: v for k, v in plan["budget"].items() if k != "train_set"}
        command = f"python -m benchmarks.joint_training {args.what} --seeds {args.seeds}"
        result = {"what": command, "machine": machine(device), "threads": torch.get_num_threads()}
        write_json(args.json, {**result, "plan": plan, "rows": comparison.table()})
