"""The time of PSENet's inference in this package, against a plain eager evaluation in NCHW.

``python -m benchmarks.psenet_inference [--size 1080x720] [--device cpu] [--threads N] [--json FILE]``
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.psenet_inference")

import statistics

import torch
from torch import Tensor

from llie_preproc import build_enhancer
from llie_preproc.enhancers import PSENet
from llie_preproc.inference import enhance_batch

from .timing import machine, picture_options, report, seconds


def plain(network: PSENet, image: Tensor) -> Tensor:
    """The output of a direct call of the network on a contiguous NCHW image."""
    with torch.no_grad():
        return network(image).clamp(0, 1)


def ours(network: PSENet, image: Tensor) -> Tensor:
    """The output of the function that ``llie_preproc.enhance`` and all integrations call."""
    with torch.no_grad():
        return enhance_batch([image[0]], network)[0][None]


def main() -> None:
    """Measure, print the result, and write it as JSON if asked to."""
    args = picture_options(__doc__, "1080x720", 7)
    device = torch.device(args.device)
    network = build_enhancer("PSENet", device=device)
    image = torch.rand(1, 3, args.height, args.width, generator=torch.Generator().manual_seed(0)).to(device)

    difference = float((plain(network, image) - ours(network, image)).abs().max())
    # The two take turns, so that changes in the machine's speed affect both equally.
    measured: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(3):
        measured["plain"] += seconds(lambda: plain(network, image), args.repeats, device)
        measured["ours"] += seconds(lambda: ours(network, image), args.repeats, device)
    median = {name: statistics.median(times) for name, times in measured.items()}
    result = {
        "what": f"PSENet {args.size}, one image, float32",
        "machine": machine(device),
        "threads": args.threads,
        "torch": torch.__version__,
        "plain_nchw_ms": round(1000 * median["plain"], 2),
        "ours_ms": round(1000 * median["ours"], 2),
        "ratio": round(median["plain"] / median["ours"], 2),
        "largest_difference": difference,
    }
    report(result, args.json)
