"""Functions that the benchmarks share: timing, the command line, the name of the machine, and the report."""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from llie_preproc.files import write_text


def seconds(run: Callable[[], Any], repeats: int, device: torch.device) -> list[float]:
    """Wall-clock seconds of each of ``repeats`` runs, after one run to warm up."""
    run()
    times = []
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return times


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """The result of ``run``, and its wall-clock seconds."""
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def picture_options(description: str | None, size: str, repeats: int) -> argparse.Namespace:
    """Parse the command line of a benchmark on one picture of ``width`` x ``height``, and set PyTorch's threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", default=size, help="width x height")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.width, args.height = (int(n) for n in args.size.split("x"))
    return args


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def machine(device: torch.device) -> str:
    """The name of the processor or GPU on which the numbers are measured."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    described = Path("/proc/cpuinfo")
    lines = described.read_text(encoding="utf-8").splitlines() if described.is_file() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def report(result: dict[str, Any], path: Path | None) -> None:
    """Print a result as JSON, and write it to ``path`` if there is one."""
    text = json.dumps(result, indent=2)
    print(text)
    if path:
        write_text(path, text + "\n")
