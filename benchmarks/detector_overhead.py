"""The cost of an enhancer in front of a detector: Faster R-CNN R50-FPN, plain and enhanced, one picture at a time.

``python -m benchmarks.detector_overhead [--size 1333x800] [--device cpu] [--threads N] [--repeats N] [--json FILE]``

The detector is MMDetection's own with random weights. Its RPN passes on 1,000 proposals, like the RPN of a trained
detector. Almost no detection passes the score threshold, so the detector is as cheap as it can be. A picture is uint8,
as it comes from a data loader, and goes through ``test_step``: data preprocessor, enhancer, network, post-processing.

The variants take turns: each runs once in each round. The overhead of a variant is its extra time against the plain
detector in the same round, given as median and quartiles over the rounds. A second overhead compares the fastest runs,
because other work on the machine disturbs them less.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.detector_overhead")

import copy
import statistics
from typing import Any

import torch
from mmengine.config import Config
from skimage import data, transform
from torch import Tensor, nn

# This import must come before mmdet's: it provides a stand-in for mmcv's operators if those are not compiled.
import llie_preproc  # noqa: F401
from llie_preproc.config_files import read_config_file
from llie_preproc.detection import add_enhancer

from .timing import machine, picture_options, report, synchronise, timed

CONFIG = "mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py"
VARIANTS: dict[str, dict[str, Any] | None] = {
    "plain": None,
    "psenet_preprocessor": dict(door="preprocessor"),
    "psenet": dict(door="detector"),
    "psenet_map_512": dict(door="detector", map_side=512),
    "psenet_map_256": dict(door="detector", map_side=256),
}


def night_picture(height: int, width: int) -> Tensor:
    """A photograph that is darkened to a night picture, BGR uint8 ``(3, H, W)``."""
    photograph = transform.resize(data.coffee() / 255, (height, width), anti_aliasing=True)
    night = (255 * 0.25 * photograph**1.5).round().astype("uint8")
    return torch.from_numpy(night[..., ::-1].copy()).permute(2, 0, 1)


def build(cfg: Config, device: torch.device) -> nn.Module:
    """The model of a config with random weights, which are the same in every variant."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    torch.manual_seed(0)
    return MODELS.build(cfg.model).eval().to(device)


def batch(image: Tensor) -> dict[str, Any]:
    """The batch of one picture, as a data loader gives it."""
    from mmdet.structures import DetDataSample

    shape = tuple(image.shape[-2:])
    sample = DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0), img_id=0))
    return {"inputs": [image], "data_samples": [sample]}


def measure(image: Tensor, device: torch.device, repeats: int) -> dict[str, Any]:
    """The milliseconds of each variant, and its overhead over the plain detector in per cent."""
    plain = read_config_file(CONFIG)
    plain.model.backbone.init_cfg = None
    models = {}
    for name, options in VARIANTS.items():
        models[name] = build(plain if options is None else add_enhancer(plain, "PSENet", **options), device)
    rounds: dict[str, list[float]] = {name: [] for name in models}
    with torch.no_grad():
        # The first round warms up.
        for number in range(repeats + 1):
            for name, model in models.items():
                time = _time(model, image, device)
                if number:
                    rounds[name].append(time)
    base = rounds["plain"]
    overheads = {k: [100 * (t / b - 1) for t, b in zip(times, base, strict=True)] for k, times in rounds.items()}
    return {
        name: {
            "median_ms": round(1000 * statistics.median(rounds[name]), 1),
            "fastest_ms": round(1000 * min(rounds[name]), 1),
            "overhead_percent_of_fastest": round(100 * (min(rounds[name]) / min(base) - 1), 1),
            "overhead_percent": round(statistics.median(overheads[name]), 1),
            "overhead_percent_quartiles": [round(q, 1) for q in statistics.quantiles(overheads[name], n=4)[::2]],
        }
        for name in models
    }


def _time(model: nn.Module, image: Tensor, device: torch.device) -> float:
    data = copy.deepcopy(batch(image))
    synchronise(device)

    def run() -> None:
        model.test_step(data)
        synchronise(device)

    return timed(run)[1]


def main() -> None:
    """Measure, print the result, and write it as JSON if asked to."""
    args = picture_options(__doc__, "1333x800", 7)
    device = torch.device(args.device)
    result = {
        "what": f"{CONFIG}, {args.size}, one picture, float32, {args.repeats} rounds",
        "machine": machine(device),
        "threads": args.threads,
        "torch": torch.__version__,
        **measure(night_picture(args.height, args.width), device, args.repeats),
    }
    report(result, args.json)
