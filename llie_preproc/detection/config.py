"""``add_enhancer``: a plain MMDetection config in, an enhanced one out."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config

from ..inference import DEFAULT_WEIGHTS
from .detector import EnhancedDetector

DOORS = ("transform", "preprocessor", "detector")
POSITIONS = ("before_pack", "after_load")
_PACK = "PackDetInputs"


def add_enhancer(
    cfg: Config,
    enhancer: str | Mapping,
    *,
    door: str = "detector",
    checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
    trainable: bool = False,
    precision: str = "float32",
    tile: int | None = None,
    position: str = "before_pack",
    cache_dir: str | os.PathLike[str] | None = None,
    map_side: int | None = None,
    **options: Any,
) -> Config:
    """Put an enhancer into an MMDetection config.

    Args:
        cfg: A detector's config; it is not changed.
        enhancer: Name or config.
        door: ``'transform'``: in every pipeline, on CPU workers. ``'preprocessor'``: frozen, on the detector's device.
            ``'detector'``: a wrapper round the detector, which may be trained.
        checkpoint: The enhancer's, as for :func:`llie_preproc.build_enhancer`.
        trainable: Train the enhancer too; ``'detector'`` only.
        precision: As for :func:`llie_preproc.enhance`; not for ``'transform'``.
        tile, map_side: As for :func:`llie_preproc.enhance`.
        position: ``'transform'`` only: ``'before_pack'`` enhances what the detector sees, unrounded, and agrees with
            the other doors; ``'after_load'`` enhances the whole picture as stored, right after what loads it and its
            annotations.
        cache_dir: ``'transform'`` only: keep enhanced pictures in this folder.
        **options: ``'detector'`` only: the other arguments of :class:`~llie_preproc.detection.EnhancedDetector`, such
            as ``train_detector``, ``detector_input``, ``losses``, ``checkpointing``.

    Returns:
        A new config. ``custom_imports`` names this package, so that a dumped config runs by itself.

    Raises:
        ValueError: An unknown door or position, an option that the door does not have, a config that has an enhancer
            already, or no pipeline or data preprocessor to put it into.
        TypeError: An option that no door has.
    """
    if door not in DOORS:
        raise ValueError(f"door must be one of {', '.join(DOORS)}, got {door!r}")
    if position not in POSITIONS:
        raise ValueError(f"position must be one of {', '.join(POSITIONS)}, got {position!r}")
    if trainable and door != "detector":
        raise ValueError(f"trainable needs door='detector': through the {door} no gradient reaches the enhancer")
    if door != "transform" and (cache_dir is not None or position != "before_pack"):
        raise ValueError(f"cache_dir and position belong to door='transform', not to {door!r}")
    if unknown := set(options) - _wrapper_options():
        raise TypeError(f"add_enhancer has no {', '.join(sorted(unknown))}")
    if options and door != "detector":
        raise ValueError(f"{', '.join(sorted(options))}: of door='detector' only, not of {door!r}")
    if door == "transform" and precision != "float32":
        raise ValueError("door='transform' runs on the CPU in float32; precision belongs to the other doors")
    cfg = copy.deepcopy(cfg)
    _refuse_second(cfg.model)
    spec: dict[str, Any] = dict(
        enhancer=enhancer if isinstance(enhancer, str) else dict(enhancer), checkpoint=checkpoint
    )
    sides = dict(tile=tile, map_side=map_side)
    spec |= {name: side for name, side in sides.items() if side is not None}
    if door == "transform":
        _into_pipelines(cfg, dict(spec, cache_dir=cache_dir), position)
    elif door == "preprocessor":
        _into_preprocessor(cfg, dict(spec, precision=precision))
    else:
        spec |= dict(precision=precision, trainable=trainable)
        # Named here, so that MMEngine's Runner does not pass a top-level data_preprocessor on.
        raw = dict(type="mmengine.BaseDataPreprocessor")
        plain = cfg.model
        if "data_preprocessor" in cfg:
            plain.setdefault("data_preprocessor", cfg.data_preprocessor)
        cfg.model = dict(type="llie_preproc.EnhancedDetector", detector=plain, data_preprocessor=raw, **spec, **options)
    imports = cfg.get("custom_imports") or dict(imports=[], allow_failed_imports=False)
    cfg.custom_imports = dict(imports, imports=[*imports["imports"], "llie_preproc"])
    return cfg


def _wrapper_options() -> set[str]:
    return set(inspect.signature(EnhancedDetector).parameters) - {"detector", "data_preprocessor"}


def _refuse_second(model: Mapping) -> None:
    preprocessor = model.get("data_preprocessor") or {}
    for part in (model, preprocessor):
        if str(part.get("type", "")).startswith("llie_preproc.Enhanced"):
            raise ValueError(f"this config has an enhancer already: {part['type']}")


def _into_preprocessor(cfg: Config, options: dict[str, Any]) -> None:
    plain = cfg.model.get("data_preprocessor") or cfg.get("data_preprocessor") or {}
    kind = str(plain.get("type", None)).removeprefix("mmdet.")
    if kind != "DetDataPreprocessor":
        raise ValueError(f"door='preprocessor' replaces a DetDataPreprocessor, this config has {kind}: use 'detector'")
    enhanced = dict(plain, type="llie_preproc.EnhancedDetDataPreprocessor", **options)
    cfg.model.data_preprocessor = enhanced
    if "data_preprocessor" in cfg:
        cfg.data_preprocessor = enhanced


def _into_pipelines(cfg: Config, options: dict[str, Any], position: str) -> None:
    # After loading the image is as stored, and rounding keeps a cache small; before packing no precision is lost.
    transform = dict(type="llie_preproc.Enhance", keep_dtype=position == "after_load", **options)
    changed = 0
    for pipeline in _pipelines(cfg._cfg_dict):
        pack = _index(pipeline, lambda kind: kind == _PACK)
        load = _index(pipeline, lambda kind: kind.startswith("Load") and "Image" in kind)
        if position == "before_pack" and pack is not None:
            pipeline.insert(pack, copy.deepcopy(transform))
            changed += 1
        elif position == "after_load":
            if pack is not None:
                pipeline.insert(pack, dict(type="llie_preproc.RestoreScaleFactor"))
            if load is not None:
                pipeline.insert(_loaded(pipeline, load), copy.deepcopy(transform))
                changed += 1
    if not changed:
        raise ValueError(f"no pipeline with {_PACK if position == 'before_pack' else 'an image loader'} in this config")


def _pipelines(node: Any) -> list[list]:
    """Every list of transforms in a config, however deep, each once."""
    found: dict[int, list] = {}
    stack = [node]
    while stack:
        value = stack.pop()
        if isinstance(value, Mapping):
            stack.extend(value.values())
        elif isinstance(value, list | tuple):
            if isinstance(value, list) and any(_kind(v) for v in value):
                found[id(value)] = value
            stack.extend(value)
    return list(found.values())


def _loaded(pipeline: list, load: int) -> int:
    """Where loading ends. Annotations that follow the image are in its frame, and an enlarging enhancer scales both."""
    rest = enumerate(pipeline[load + 1 :], load + 1)
    return next((i for i, transform in rest if not _kind(transform).startswith("Load")), len(pipeline))


def _kind(transform: Any) -> str:
    kind = transform.get("type", "") if isinstance(transform, Mapping) else ""
    return (kind if isinstance(kind, str) else kind.__name__).split(".")[-1]


def _index(pipeline: list, wanted: Callable[[str], bool]) -> int | None:
    return next((i for i, transform in enumerate(pipeline) if wanted(_kind(transform))), None)
