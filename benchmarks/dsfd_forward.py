"""The time of the face detector DSFD on one image: the paper's VGG-16 and the public release's ResNet-152.

``python -m benchmarks.dsfd_forward [--size 640x640] [--device cpu] [--threads N] [--json FILE]``

The weights are random. *forward* runs the backbone, the neck and the predicting heads. *predict* adds softmax, the
choice of the best 5,000, decoding and NMS. It has no score threshold, which is the slowest case.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.dsfd_forward")

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

# This import must come before mmdet's: it provides a stand-in for mmcv's operators if those are not compiled.
import llie_preproc  # noqa: F401

from .timing import machine, picture_options, report, seconds

CONFIGS = {"paper_vgg16": "dsfd_vgg16_wider-face.py", "release_r152": "dsfd_r152_release.py"}
FOLDER = Path(__file__).parents[1] / "mm_configs" / "faces"


def build(name: str, device: torch.device) -> nn.Module:
    """The config's detector without a threshold, so that every anchor is a candidate."""
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules()
    torch.manual_seed(0)
    model = Config.fromfile(FOLDER / CONFIGS[name]).model
    model.test_cfg.score_thr = 0.0
    return MODELS.build(model).eval().to(device)


def runs(detector: nn.Module, image: Tensor) -> dict[str, Callable[[], Any]]:
    """The functions that are timed, by name."""
    from mmdet.structures import DetDataSample

    height, width = image.shape[-2:]
    sample = DetDataSample(metainfo=dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0)))

    def heads(layout: torch.memory_format) -> Callable[[], Any]:
        def forward() -> Any:
            detector.to(memory_format=layout)
            _, enhanced = detector.extract_feat(image.contiguous(memory_format=layout))
            head = detector.bbox_head
            return (head.second if head.form == "plain" else head.deep)(enhanced)

        return forward

    return {
        "forward_nchw": heads(torch.contiguous_format),
        "forward_channels_last": heads(torch.channels_last),
        "predict_channels_last": lambda: detector.predict(image, [sample]),
    }


def measure(name: str, image: Tensor, repeats: int) -> dict[str, Any]:
    """The median milliseconds of each function, which runs ``repeats`` times in each of two rounds."""
    detector = build(name, image.device)
    measured: dict[str, list[float]] = {}
    with torch.no_grad():
        todo = runs(detector, image)
        for _ in range(2):
            for what, run in todo.items():
                measured.setdefault(what, []).extend(seconds(run, repeats, image.device))
    result = {f"{what}_ms": round(1000 * statistics.median(times), 1) for what, times in measured.items()}
    return {"parameters": sum(p.numel() for p in detector.parameters()), **result}


def main() -> None:
    """Measure, print the result, and write it as JSON if asked to."""
    args = picture_options(__doc__, "640x640", 5)
    device = torch.device(args.device)
    # The noise stands for pixels from which the means have been subtracted.
    noise = torch.rand(1, 3, args.height, args.width, generator=torch.Generator().manual_seed(0))
    image = (noise * 255 - 115).to(device)
    result = {
        "what": f"DSFD {args.size}, one image, float32",
        "machine": machine(device),
        "threads": args.threads,
        "torch": torch.__version__,
        **{name: measure(name, image, args.repeats) for name in CONFIGS},
    }
    report(result, args.json)
