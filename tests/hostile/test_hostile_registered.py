"""Registered classes that take a path refuse hostile files and name them; no code runs, and nothing hangs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
import torch
from mmengine.model import BaseModule
from torch.utils.data import Dataset

import llie_preproc
from llie_preproc import registry
from llie_preproc.enhancers import Cascade
from llie_preproc.enhancers.names import enhancer_classes
from llie_preproc.errors import MissingExtraError
from tests.support import mmdet_models
from tests.support.hostile_files import HOSTILE, comes_back, marker
from tests.support.marks import slow_where
from tests.support.networks import SMALL

# Names of arguments that take a path, although their annotation does not say so.
PATHS = {"ann_file", "root", "folder", "checkpoint", "file", "path"}
# Arguments that name an output, which is not read.
WRITTEN = {"test_out_dir", "outfile_prefix"}
SUFFIXES: Mapping[str, Sequence[str]] = {
    "checkpoint": (".pth", ".safetensors"),
    "init_cfg": (".pth",),
    "ann_file": (".json",),
    "names": (".txt",),
}


class Entry(NamedTuple):
    """A registered class and one of its arguments that takes a path."""

    kind: str
    name: str
    argument: str

    def __str__(self) -> str:
        return f"{self.kind}-{self.name}-{self.argument}"


def entries() -> Iterator[Entry]:
    for kind, each in vars(registry).items():
        if not isinstance(each, registry.Registry):
            continue
        each.import_from_location()
        for name, registered in each._module_dict.items():
            for argument in path_arguments(registered):
                yield Entry(kind, name, argument)


def path_arguments(registered: Callable) -> Iterator[str]:
    for parameter in inspect.signature(registered).parameters.values():
        takes = "Path" in str(parameter.annotation) or parameter.name in PATHS
        loads = parameter.name == "init_cfg" and issubclass(registered, BaseModule)  # type: ignore[arg-type]
        if (takes or loads) and parameter.name not in WRITTEN:
            yield parameter.name


# The networks are small, because each file is given to a new one.
_DSFD_PARTS: Mapping[str, dict[str, Any]] = {
    "DSFDVGG": dict(widths=(4, 4, 4, 4, 4), fc_width=4),
    "DSFDNeck": dict(in_channels=(4, 4, 4, 4), extra_channels=((4, 4), (4, 4)), fem_width=4),
    "DSFDHead": dict(in_channels=(4,) * 6, feat_channels=4),
}


def others(entry: Entry, folder: Path) -> dict[str, Any]:
    """Arguments that the class needs besides the one under test."""
    detector = mmdet_models.mmdet_config("retinanet").model if entry.name == "EnhancedDetector" else None
    pictures = made_pictures(folder)
    needed: dict[str, dict[str, Any]] = {
        "EnhancedDetector": dict(detector=detector, enhancer="PSENet"),
        "EnhancedDetDataPreprocessor": dict(enhancer="PSENet"),
        "Enhance": dict(enhancer="PSENet"),
        "Photograph": dict(exposure=-5.0),
        "BoxPromptedSAM": dict(sam=dict(model="small")),
        "DSFD": dict(
            backbone=dict(type="llie_preproc.DSFDVGG", **_DSFD_PARTS["DSFDVGG"]),
            neck=dict(type="llie_preproc.DSFDNeck", **_DSFD_PARTS["DSFDNeck"]),
            bbox_head=dict(type="llie_preproc.DSFDHead", **_DSFD_PARTS["DSFDHead"]),
        ),
        **_DSFD_PARTS,
        "NightVisDrone": dict(kind="paired"),
        "PairedFolders": dict(low=pictures, high=pictures),
        "MaskedPairs": dict(low=pictures, ann_file=pictures / "masks.json"),
        "SynthesisedPairs": dict(folder=pictures),
        "UnpairedFolder": dict(folder=pictures),
        "RAMEncoder": dict(image_size=56, window_size=7, embed_dim=8, depths=(1,), num_heads=(1,)),
        "VGGEncoder": dict(width=4),
        "SqueezeNetEncoder": dict(normalisation="caffe"),
        "CLIPEncoder": dict(embed_dim=8, depth=1, num_heads=1),
        "SAMEncoder": dict(embed_dim=8, depth=1, num_heads=1, global_attn_indexes=(0,), img_size=64),
    }
    return {name: value for name, value in needed.get(entry.name, {}).items() if name != entry.argument}


def made_pictures(folder: Path) -> Path:
    pictures = folder / "pictures"
    if not pictures.exists():
        pictures.mkdir()
        cv2.imwrite(str(pictures / "a.png"), np.full((8, 8, 3), 20, np.uint8))
        (pictures / "masks.json").write_text(
            '{"images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}], "annotations": [], '
            '"categories": [{"id": 1, "name": "thing"}]}',
            encoding="utf-8",
        )
    return pictures


def use(made: Any) -> None:
    """Make an object read its files: a set reads a picture, a module its initial weights, a transform runs once."""
    if isinstance(made, Dataset):
        _ = made[0]
    elif isinstance(made, BaseModule):
        made.init_weights()
    elif callable(made) and not isinstance(made, torch.nn.Module):
        made(dict(img=np.full((8, 8, 3), 20, np.uint8), img_path="a.png", ori_shape=(8, 8), img_shape=(8, 8)))


def refused(error: Exception, path: Path) -> bool:
    """Whether an error is of a type that commands report and names the file."""
    return isinstance(error, OSError | ValueError) and (path.name in str(error) or path.stem in str(error))


def outcome(call: Callable[[], Any], path: Path) -> str | None:
    """A description of what a call did wrong; None if it refused the file, or read it without running code."""
    try:
        with comes_back(60):
            call()
    except MissingExtraError:
        pytest.skip("an extra is not installed")
    except Exception as error:
        if marker(path).exists():
            return "it ran a command"
        return None if refused(error, path) else f"{type(error).__name__}: {str(error)[:150]}"
    return "it ran a command" if marker(path).exists() else None


@pytest.mark.examples(8)
@pytest.mark.parametrize("entry", list(entries()), ids=str)
def test_registered_classes_refuse_hostile_files(entry: Entry, tmp_path: Path) -> None:
    wrong = {}
    for kind, write in HOSTILE.items():
        for suffix in SUFFIXES.get(entry.argument, ("",)):
            folder = tmp_path / f"{kind}{suffix}"
            folder.mkdir()
            path = folder / f"hostile_{kind}{suffix}"
            write(path)
            value = dict(type="Pretrained", checkpoint=str(path)) if entry.argument == "init_cfg" else str(path)

            def build(value: Any = value, folder: Path = folder) -> None:
                arguments = {entry.argument: value, **others(entry, folder)}
                use(getattr(registry, entry.kind).build(dict(type=f"llie_preproc.{entry.name}", **arguments)))

            if found := outcome(build, path):
                wrong[path.name] = found
    assert not wrong


def refuses(spec: dict, checkpoint: str, path: Path) -> str | None:
    return outcome(partial(llie_preproc.build_enhancer, spec, checkpoint), path)


ENHANCERS = [name for name, cls in enhancer_classes().items() if cls is not Cascade]


# CollaBA takes long to build, and is built for each file.
@pytest.mark.examples(4)
@pytest.mark.parametrize("name", slow_where({"CollaBA"}, ENHANCERS))
def test_enhancers_refuse_hostile_checkpoints(name: str, tmp_path: Path) -> None:
    wrong = {}
    for kind, write in HOSTILE.items():
        for suffix in SUFFIXES["checkpoint"]:
            path = tmp_path / f"hostile_{kind}{suffix}"
            write(path)
            if found := refuses({"type": name, **SMALL.get(name, {})}, str(path), path):
                wrong[path.name] = found
    assert not wrong


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_checkpoint_inside_a_config_is_refused_too(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.pth"
    HOSTILE[kind](path)
    alone = {"type": "PSENet", "checkpoint": str(path)}
    assert refuses(alone, "default", path) is None
    assert refuses({"type": "Cascade", "enhancers": [alone]}, "default", path) is None
