"""Trainings of the networks whose weights are shipped, each as long as the given time allows.

``python -m benchmarks.timed_training DATA --minutes 10``: DATA holds ``lol_v1/our485``, ``lol_v1/our485_more``,
``sice_part1_256``, ``unpaired``, ``coco/train128/images`` and ``reference_weights/perceptual``. Every training first
takes a few steps, all trainings side by side, to measure the time of a step. It then trains as many steps as fit into
the minutes, with the learning rates of its config stretched over them. What a training leaves, and its last
validation, is that of ``llie train``; ``llie convert --half`` makes the files that are shipped. On a GPU the trainings
share it. On a CPU give ``--only`` one name.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.timed_training")

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from .timing import machine, report

CONFIGS = Path(__file__).parents[1] / "mm_configs" / "enhancers"
TRAININGS = {
    "iaml": "lol238/mirror_iaml.py",
    "semi-llie": "lol238/mean_teacher_semi_llie.py",
    "collaba-x2": "lol238/bilevel_collaba_x2.py",
    "psenet": "psenet_sice_scenes.py",
}
SQUEEZENET = "squeezenet1_1_caffe_torchvision_keys_fp16.safetensors"
_PROBE = 20


def main() -> None:
    """Measure the steps, train, and print what was trained, how long, and the last validation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, required=True, help="time of all trainings together, probes included")
    parser.add_argument("--only", nargs="+", choices=TRAININGS, default=list(TRAININGS), help="trainings to run")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="options of the configs")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/weights"))
    parser.add_argument("--out", type=Path, help="JSON file to write the result to")
    args = parser.parse_args()
    start = time.monotonic()
    side_by_side({name: [*args.set, *steps_of(_PROBE)] for name in args.only}, args, "probe")
    times = {name: step_time(args.work_dir / name / "probe") for name in args.only}
    # Starting a process and validating take time too: a tenth of what is left.
    left = 0.9 * (60 * args.minutes - (time.monotonic() - start))
    steps = {name: max(_PROBE, int(left / seconds)) for name, seconds in times.items()}
    side_by_side({name: [*args.set, *steps_of(steps[name])] for name in args.only}, args, "run")
    rows = [
        {"training": name, "config": TRAININGS[name], "steps": steps[name], "seconds_per_step": round(times[name], 4)}
        | validation(args.work_dir / name / "run")
        for name in args.only
    ]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report({"machine": machine(device), "torch": torch.__version__, "minutes": args.minutes, "rows": rows}, args.out)


def steps_of(number: int) -> list[str]:
    """The options that make a training as long as ``number`` steps."""
    keys = ("train_cfg.max_iters", "train_cfg.val_interval", "param_scheduler.0.total_steps")
    return [*(f"{key}={number}" for key in keys), f"default_hooks.logger.interval={max(1, min(50, number // 2))}"]


def side_by_side(options: dict[str, list[str]], args: argparse.Namespace, kind: str) -> None:
    """Run the trainings at once, each in a process of its own; end if one fails."""
    processes = {}
    for name, each in options.items():
        out = args.work_dir / name / kind
        out.mkdir(parents=True, exist_ok=True)
        command = ["train", str(CONFIGS / TRAININGS[name]), "--amp", "--out", str(out), "--cfg-options", *each]
        with (out / "log.txt").open("w") as log:
            processes[name] = subprocess.Popen(
                [sys.executable, "-m", "llie_preproc", *command],
                env=os.environ | roots(args.data),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    failed = [name for name, process in processes.items() if process.wait()]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; see log.txt in {args.work_dir}/<training>/{kind}")


def roots(data: Path) -> dict[str, str]:
    """The environment variables by which the configs find the sets."""
    return {
        "LOLV1_ROOT": str(data / "lol_v1"),
        "LOLV1_MORE": str(data / "lol_v1/our485_more"),
        "COCO_TRAIN_ROOT": str(data / "coco/train128/images"),
        "SICE_PART1_ROOT": str(data / "sice_part1_256"),
        "UNPAIRED_ROOT": str(data / "unpaired"),
        "SQUEEZENET_CAFFE": str(
            data / "reference_weights/perceptual/squeezenet1_1_caffe_torchvision_keys_fp16.safetensors"
        ),
    }


def step_time(folder: Path) -> float:
    """Seconds of a step, without those of the start."""
    return float([row["time"] for row in scalars(folder) if "loss" in row][-1])


def validation(folder: Path) -> dict[str, Any]:
    """Scores of the last validation."""
    return [{k: v for k, v in row.items() if k.startswith("iqa/")} for row in scalars(folder) if "iqa/psnr" in row][-1]


def scalars(folder: Path) -> list[dict[str, Any]]:
    """What the training of a folder logged last, one dict for each line."""
    newest = max(folder.rglob("scalars.json"), key=lambda path: path.stat().st_mtime)
    return [json.loads(line) for line in newest.read_text(encoding="utf-8").splitlines()]
