"""Every public function and class refuses an invalid value of an option as soon as it is given.

The functions and classes are found by their signatures. A new one is tested as well, and fails until this file knows
how to call it.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet", reason="needs the extra 'mm'")
pytest.importorskip("segment_anything", reason="needs the extra 'sam'")

from mmengine.config import Config

import detection_eval
import llie_preproc
import training
from detection_eval.faces.sweep_results import gamma_label
from detection_eval.metrics.fddb import FddbRoc
from llie_preproc.checks import at_least
from llie_preproc.enhancers import PSENet, Upscale
from llie_preproc.inference import FrozenEnhancer, enhance_batch
from llie_preproc.inference_options import InferenceOptions, option_names
from llie_preproc.registry import MODELS
from llie_preproc.segmentation import build_sam

WRONG = {
    "channel_order": ("BGR", "Rgb", "gbr", "", None, 0, ["rgb"]),
    "precision": ("fp16", "half", "FLOAT32", None, torch.float32),
    "tile": (0, -1, True, "512", 512.0),
    "map_side": (0, -1, True, "32", 32.0),
    "batch_size": (0, -1, True, "8", 1.5),
}
NETWORK = PSENet()
DETECTOR = dict(
    type="mmdet.RetinaNet",
    backbone=dict(type="mmdet.ResNet", depth=18, num_stages=4, out_indices=(0, 1, 2, 3)),
    neck=dict(type="mmdet.FPN", in_channels=[64, 128, 256, 512], out_channels=8, num_outs=5),
    bbox_head=dict(type="mmdet.RetinaHead", num_classes=1, in_channels=8, stacked_convs=1, feat_channels=8),
    data_preprocessor=dict(type="mmdet.DetDataPreprocessor"),
)
PIPELINE = [dict(type="LoadImageFromFile"), dict(type="PackDetInputs")]


def modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        # Programs, GPU kernels and commands are left out; the commands' parsers check the options.
        if not found.name.endswith(("__main__", "_kernels", "scan.gpu")) and ".commands" not in found.name:
            yield importlib.import_module(found.name)


def entries(*packages: ModuleType) -> Iterator[tuple[str, Callable, dict[str, inspect.Parameter]]]:
    """Yield name, object and parameters of each public function and of each class with a constructor."""
    for module in (each for package in packages for each in modules(package)):
        for name, each in vars(module).items():
            local = getattr(each, "__module__", "") == module.__name__
            if name.startswith("_") or not local or not (inspect.isfunction(each) or inspect.isclass(each)):
                continue
            if not inspect.isclass(each) or "__init__" in vars(each):
                yield f"{module.__name__}.{name}", each, dict(inspect.signature(each).parameters)


ENTRIES = list(entries(llie_preproc))
TAKING = [
    pytest.param(entry, option, id=f"{name}-{option}")
    for name, entry, parameters in ENTRIES
    for option in WRONG
    # Without an enhancer, batch_size has another meaning; the functions of tiles.py get checked options.
    if option in parameters and (option != "batch_size" or "enhancer" in parameters) and ".tiles." not in name
]


@lru_cache
def sam() -> Any:
    sizes = dict(img_size=32, patch_size=8, embed_dim=8, depth=1, num_heads=1, window_size=2, out_chans=8)
    return build_sam("small", **sizes, global_attn_indexes=(), decoder_heads=2, decoder_mlp_dim=8)


def arguments(entry: Callable, given: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Keyword arguments to call an entry: those that it requires and the given option."""
    tensors = entry.__name__ in ("enhance_batch", "enhance_levels", "levels_to_units", "units_to_levels")
    known: dict[str, Any] = dict(
        enhancer=NETWORK,
        images=[torch.zeros(3, 8, 8)] if tensors else np.zeros((8, 8, 3), np.uint8),
        units=[torch.zeros(3, 8, 8)],
        enhanced=[torch.zeros(3, 8, 8)],
        detector=DETECTOR,
        cfg=Config(dict(model=DETECTOR, test_pipeline=PIPELINE)),
        sam_model=sam(),
        model=sam(),
        jobs=[],
        source=tmp_path / "absent.mp4",
        target=tmp_path / "new.mp4",
    )
    if entry.__name__ == "add_enhancer":
        known["enhancer"] = "PSENet"
    if entry.__name__ == "BoxPromptedSAM":
        known.update(detector=None, sam=sam())
    needed = [
        name
        for name, each in inspect.signature(entry).parameters.items()
        if each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    ]
    if "sam" in inspect.signature(entry).parameters:
        needed.append("sam")
    unknown = set(needed) - set(known) - set(given)
    assert not unknown, f"tests/house/test_options.py does not know how to call {entry.__name__}: {unknown}"
    return {name: known[name] for name in needed if name not in given} | given


def call(entry: Callable, options: dict[str, Any], tmp_path: Path) -> Any:
    return entry(**arguments(entry, options, tmp_path))


@pytest.mark.parametrize(("entry", "option"), TAKING)
def test_an_invalid_option_is_refused(entry: Callable, option: str, tmp_path: Path) -> None:
    for value in WRONG[option]:
        if value is None and inspect.signature(entry).parameters[option].default is None:
            continue
        with pytest.raises(ValueError, match=f"^{option} must be .*got"):
            call(entry, {option: value}, tmp_path)


def test_the_entries_are_found() -> None:
    found = {name.rpartition(".")[2] for name, _, parameters in ENTRIES if set(WRONG) & set(parameters)}
    assert found >= {
        "InferenceOptions", "enhance", "enhance_files", "enhance_video", "Enhance", "EnhancedDetDataPreprocessor",
        "EnhancedDetector", "EnhancedVisualizationHook", "add_enhancer", "EnhancedFaceDetector",
        "EnhancedSamPredictor", "EnhancedSamAutomaticMaskGenerator", "BoxPromptedSAM",
    }  # fmt: skip


UNSUPPORTED = {
    "precision": ("float16", "PSENet is not faithful under float16"),
    "tile": (8, "tile must be at least"),
    "map_side": (32, "Upscale has none"),
}


@pytest.mark.parametrize(
    ("entry", "option"),
    [
        pytest.param(entry, option, id=f"{name}-{option}")
        for name, entry, parameters in ENTRIES
        for option in UNSUPPORTED
        # add_enhancer builds no network; the classes that its config names refuse the option.
        if {option, "enhancer"} <= set(parameters) and ".tiles." not in name and entry.__name__ != "add_enhancer"
    ],
)
def test_an_option_that_the_network_does_not_support_is_refused_at_construction(
    entry: Callable, option: str, tmp_path: Path
) -> None:
    value, message = UNSUPPORTED[option]
    options: dict[str, Any] = {option: value, "enhancer": Upscale(2) if option == "map_side" else NETWORK}
    with pytest.raises(ValueError, match=message):
        call(entry, options, tmp_path)


@pytest.mark.parametrize("option", UNSUPPORTED)
def test_unsupported_inference_options_are_refused(option: str) -> None:
    value, message = UNSUPPORTED[option]
    network, options = Upscale(2) if option == "map_side" else NETWORK, InferenceOptions(**{option: value})
    with pytest.raises(ValueError, match=message):
        FrozenEnhancer(network, options)
    with pytest.raises(ValueError, match=message):
        enhance_batch([torch.zeros(3, 8, 8)], network, options)


@pytest.mark.parametrize("entry", [each for _, each, parameters in ENTRIES if "map_side" in parameters])
def test_every_entry_that_takes_options_takes_all_of_them(entry: Callable) -> None:
    if "side" not in inspect.signature(entry).parameters and "losses" not in entry.__module__:
        assert set(option_names()) <= set(inspect.signature(entry).parameters)


def test_tile_and_map_side_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="exclude each other"):
        InferenceOptions(tile=64, map_side=64)


def test_checks_take_numbers_of_numpy() -> None:
    at_least("tile", np.int64(5), 1)
    at_least("share", np.float32(0.5), 0.0)
    with pytest.raises(ValueError, match="whole number"):
        at_least("tile", np.float32(5), 1)


# Options that the test below leaves out: names, paths and other free texts, the options that are tested above, and one
# that MMEngine checks.
OPEN = {
    *WRONG, "checkpoint", "collect_device", "cure", "device", "enhancer", "kept", "map_location", "name", "place",
    "purpose", "sign", "source", "without",
    "suffix", "within",
}  # fmt: skip
ROC = FddbRoc(*np.zeros((4, 1)), faces=1, pictures=1, without_size=0)
LOGITS = torch.zeros(1)
PICTURE = torch.zeros(3, 16, 16)
# Arguments that an entry requires besides the option under test; entries that are not listed require none.
BESIDES: dict[str, dict[str, Any]] = {
    "CLIPEncoder": dict(checkpoint=None),
    "DSFDHead": dict(num_classes=1),
    "EnhancedDetector": dict(detector=DETECTOR, enhancer="Identity"),
    "EnhancedSamAutomaticMaskGenerator": dict(model=None),
    "EnhancedSamPredictor": dict(sam_model=None),
    "GammaShift": dict(gamma=0.5),
    "MirrorDistillation": dict(enhancer="IAMLUNet", losses=dict(mse=dict(type="MSELoss"))),
    "PackPairedDetInputs": dict(folder="."),
    "PerceptualLoss": dict(encoder={}, stages=["a"]),
    "SAMEncoder": dict(checkpoint=None),
    "SamConsistency": dict(enhancer="PSENet", sam=dict(checkpoint=None)),
    "SemiSupervisedMeanTeacher": dict(enhancer="PSENet", losses=dict(mse=dict(type="MSELoss")), discriminator={}),
    "VisDroneScores": dict(truth={}, detections=[]),
    "VotedFaceDetector": dict(detector=None),
    "add_enhancer": dict(cfg=Config(dict(model=DETECTOR)), enhancer="Identity"),
    "discriminator_loss": dict(real=LOGITS, fake=LOGITS),
    "eme": dict(image=PICTURE),
    "enhancer_loss": dict(fake=LOGITS),
    "exdark": dict(images=".", annotations="."),
    "exponent": dict(gamma=0.5),
    "generator_parameters": dict(given=[]),
    "lightness_order_error": dict(enhanced=PICTURE, image=PICTURE),
    "mean_curve": dict(rocs=[ROC]),
    "mean_rate_at": dict(rocs=[ROC], false_positives=0),
    "meter": dict(name="a", layout="A {}", description=""),
    "read_visdrone": dict(path=Path("absent.txt"), problems=None),
    "shift_gamma": dict(image=np.zeros((2, 2, 3), np.uint8), gamma=0.5),
    "to_coco": dict(labels=None, problems=None),
    "visdrone": dict(root="."),
}


def choices() -> Iterator[Any]:
    for name, entry, parameters in entries(llie_preproc, training, detection_eval):
        # Data classes hold values of a command line, which are checked where they are used.
        if is_dataclass(entry):
            continue
        for option, each in parameters.items():
            # A split of VisDrone may be any folder.
            if isinstance(each.default, str) and option not in OPEN and entry.__name__ != "NightVisDrone":
                yield pytest.param(entry, option, id=f"{name}-{option}")


@pytest.mark.parametrize(("entry", "option"), list(choices()))
def test_an_unknown_choice_is_refused(entry: Callable, option: str) -> None:
    besides = BESIDES.get(entry.__name__, {})
    if "root" in inspect.signature(entry).parameters:
        besides = dict(besides, root=".")
    with pytest.raises(ValueError, match="no_such_value"):
        entry(**besides, **{option: "no_such_value"})


def test_an_unknown_convention_or_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="convention must be one of"):
        gamma_label("Power")
    method = MODELS.build(
        dict(type="llie_preproc.SupervisedTraining", enhancer="PSENet", losses=dict(a=dict(type="L1Loss")))
    )
    with pytest.raises(ValueError, match="mode must be one of 'loss', 'predict', 'tensor', got 'Loss'"):
        method(torch.zeros(1, 3, 8, 8), mode="Loss")
