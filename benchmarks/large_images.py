"""Seconds and peak memory of the heavy networks on whole large images.

``python -m benchmarks.large_images [--device cpu] [--tile N] [--json FILE]`` runs PSENet on 4000x3000, CollaBA x2 on
1080x720 and Semi-LLIE on 1920x1080. Each runs in a process of its own, so that the peaks are separate.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.large_images")

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from llie_preproc import build_enhancer, enhance

from .timing import machine, report, synchronise

CASES = {
    "PSENet 4000x3000": ("PSENet", 3000, 4000),
    "CollaBA x2 1080x720": ("CollaBA", 720, 1080),
    "SemiLLIE 1920x1080": ("SemiLLIE", 1080, 1920),
}


def run(case: str, device: torch.device, tile: int | None) -> dict[str, Any]:
    """Enhance one random 8-bit image, and measure the seconds and the peak memory in MiB."""
    name, height, width = CASES[case]
    network = build_enhancer(name, checkpoint=None, device=device)
    image = torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).numpy()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    result = enhance(image, network, tile=tile)
    synchronise(device)
    taken = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    measured = {
        "result": list(result.shape),
        "seconds": round(taken, 2),
        "peak_resident_mib": peak // 1024,
        "of_it_before_the_image_mib": before // 1024,
    }
    if device.type == "cuda":
        measured["peak_gpu_mib"] = torch.cuda.max_memory_allocated() // 2**20
    return measured


def main() -> None:
    """Measure, print the result, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = torch.device(args.device)
    if args.case:
        print(json.dumps(run(args.case, device, args.tile)))
        return
    result: dict[str, Any] = {
        "machine": machine(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "tile": args.tile,
    }
    for case in CASES:
        tile = ["--tile", str(args.tile)] if args.tile else []
        command = [sys.executable, "-m", "benchmarks.large_images", "--device", args.device, *tile, "--case", case]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        result[case] = json.loads(done.stdout.splitlines()[-1])
    report(result, args.json)
