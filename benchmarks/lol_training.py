"""The scores of each training method after the same budget on a few pairs of pictures.

``python -m benchmarks.lol_training DATA``: DATA holds ``lol_v1/our485/{low,high}`` and ``unpaired/``. The benchmark
runs every config of ``mm_configs/enhancers/lol40``, or those that ``--only`` names. It then scores the exported
enhancers and the raw input on 8 pairs that no training uses. The scores are computed in RGB, at full size, on 8-bit
results, and are means over the pairs. A GPU is fast enough for ``--crop 256`` and more ``--iterations``.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.lol_training")

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config

from detection_eval.metrics import image_quality
from llie_preproc import build_enhancer, enhance
from llie_preproc.files import write_text
from training.datasets.base import load_tensor

from .timing import machine, report

CONFIGS = Path(__file__).parents[1] / "mm_configs" / "enhancers" / "lol40"


def main() -> None:
    """Train and score every config, print the table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="+", metavar="CONFIG", help="names of the configs to run, without suffix")
    parser.add_argument("--iterations", type=int, help="number of iterations in place of the config's")
    parser.add_argument("--crop", type=int, help="side of the crops in place of the config's 128")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/lol40"))
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="number of CPU threads of each run"
    )
    parser.add_argument("--out", type=Path, help="JSON file to write the result to")
    args = parser.parse_args()
    os.environ |= {"LOLV1_ROOT": str(args.data / "lol_v1"), "UNPAIRED_ROOT": str(args.data / "unpaired")}
    names = args.only or sorted(p.stem for p in CONFIGS.glob("[a-z]*.py"))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = [score("raw input", "Identity", None, args.data) | {"minutes": 0.0}]
    for name in names:
        rows.append(run(name, args))
        print(json.dumps(rows[-1]), flush=True)
    report({"machine": machine(device), "threads": args.threads, "torch": torch.__version__, "rows": rows}, args.out)


def run(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Train one config in a process of its own, and score the enhancer that it exports."""
    work = args.work_dir / name
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    if args.iterations:
        stretch(cfg, args.iterations)
    if args.crop:
        enlarge(cfg.train_dataloader.dataset, args.crop)
    work.mkdir(parents=True, exist_ok=True)
    write_text(work / "run.py", cfg.pretty_text)
    command = [sys.executable, "-m", "llie_preproc", "train", str(work / "run.py"), "--out", str(work)]
    threads = {"OMP_NUM_THREADS": str(args.threads), "OMP_WAIT_POLICY": "PASSIVE"}
    start = time.perf_counter()
    with (work / "log.txt").open("w") as log:
        done = subprocess.run(command, env=os.environ | threads, stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        raise SystemExit(f"{name} ended with status {done.returncode}; see {work / 'log.txt'}")
    minutes = (time.perf_counter() - start) / 60
    row = score(name, cfg.model.enhancer, work / "enhancer.safetensors", args.data)
    return row | {"minutes": round(minutes, 1), "iterations": cfg.train_cfg.max_iters, "method": cfg.model.type}


def score(name: str, enhancer: Any, checkpoint: Path | None, data: Path) -> dict[str, Any]:
    """The PSNR and SSIM of an enhancer on the validation pairs."""
    network = build_enhancer(enhancer, checkpoint)
    folder = data / "lol_v1" / "our485"
    scores = []
    for file in (CONFIGS.parents[1] / "_base_" / "lol_v1_40_val.txt").read_text(encoding="utf-8").split():
        low, target = (load_tensor(folder / kind / file) for kind in ("low", "high"))
        scores.append(image_quality(enhance(low, network).float() / 255, target))
    mean = {key: round(float(np.mean([s[key] for s in scores])), 4) for key in scores[0]}
    parameters = sum(p.numel() for p in network.parameters())
    return {"run": name, "enhancer": type(network).__name__, "parameters": parameters, **mean}


def stretch(config: Config, iterations: int) -> None:
    """Set another number of iterations. The warm-up takes an eighth of them, and the schedule ends with the last."""
    config.train_cfg.update(max_iters=iterations, val_interval=iterations)
    warm_up, cosine = config.param_scheduler
    warm_up.end = cosine.begin = max(1, iterations // 8)
    cosine.end = iterations


def enlarge(dataset: Any, crop: int) -> None:
    """Set the size to which the training pictures are cropped or resized."""
    for part in ("paired", "unpaired"):
        if part in dataset:
            enlarge(dataset[part], crop)
    for transform in dataset.get("transforms", []):
        if "size" in transform:
            transform.size = crop
    if dataset.get("size"):
        dataset.size = (crop, crop)
