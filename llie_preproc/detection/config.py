"""``add_enhancer``: a plain MMDetection config in, an enhanced one out."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config

from ..checks import one_of
from ..configs import find_enhancement, type_name
from ..enhancers.build import DEFAULT_WEIGHTS
from ..inference import check_inference_options
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
    channel_order: str = "bgr",
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
        door: ``'transform'``: in every pipeline, on CPU workers; in a ``TestTimeAug`` it enhances every view.
            ``'preprocessor'``: frozen, on the detector's device. ``'detector'``: a wrapper round the detector, which
            may be trained.
        checkpoint: The enhancer's, as for :func:`llie_preproc.build_enhancer`.
        trainable: Train the enhancer too; ``'detector'`` only.
        channel_order: Order of the images where the enhancer stands: ``'bgr'`` (MMDetection's loading) or ``'rgb'``.
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
        ValueError: An option that is none of its values, or that the door does not have; a config that has an
            enhancer already, that normalises pictures before the enhancer would see them, or that has no pipeline or
            data preprocessor to put it into. What the network cannot run with is refused where it is built.
        TypeError: An option that no door has.
    """
    one_of("door", door, DOORS)
    one_of("position", position, POSITIONS)
    sides: dict[str, Any] = dict(tile=tile, map_side=map_side)
    check_inference_options(channel_order=channel_order, precision=precision, **sides)
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
    if found := find_enhancement(cfg):
        raise ValueError(f"this config has an enhancer already: {found}")
    if position != "after_load":
        _refuse_normalised(cfg)
    cfg = copy.deepcopy(cfg)
    spec: dict[str, Any] = dict(
        enhancer=enhancer if isinstance(enhancer, str) else dict(enhancer), checkpoint=checkpoint
    )
    spec |= {name: side for name, side in sides.items() if side is not None}
    if channel_order != "bgr":
        spec["channel_order"] = channel_order
    if door == "transform":
        _into_pipelines(cfg, dict(spec, cache_dir=cache_dir), position)
    elif door == "preprocessor":
        _into_preprocessor(cfg, dict(spec, precision=precision))
    else:
        _into_wrapper(cfg, dict(spec, precision=precision, trainable=trainable, **options))
    imports = cfg.get("custom_imports") or dict(imports=[], allow_failed_imports=False)
    cfg.custom_imports = dict(imports, imports=[*imports["imports"], "llie_preproc"])
    return cfg


def _wrapper_options() -> set[str]:
    return set(inspect.signature(EnhancedDetector).parameters) - {"detector", "data_preprocessor", "channel_order"}


def _refuse_normalised(cfg: Config) -> None:
    """Refuse pipelines that normalise: what follows them takes levels of 0 to 255."""
    for pipeline, _ in _pipelines(_without_model(cfg)):
        if "Normalize" in _kinds(pipeline):
            raise ValueError(
                "a pipeline of this config normalises its pictures (Normalize) before the enhancer, which takes levels "
                "of 0 to 255: leave that to the data preprocessor (mean and std)"
            )


def _into_wrapper(cfg: Config, options: dict[str, Any]) -> None:
    # Named here, so that MMEngine's Runner does not pass a top-level data_preprocessor on.
    raw = dict(type="mmengine.BaseDataPreprocessor")
    plain = cfg.model
    if "data_preprocessor" in cfg:
        plain.setdefault("data_preprocessor", cfg.data_preprocessor)
    cfg.model = dict(type="llie_preproc.EnhancedDetector", detector=plain, data_preprocessor=raw, **options)


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
    for pipeline, step in _pipelines(_without_model(cfg)):
        pack = _index(pipeline, lambda kind: kind == _PACK)
        load = _index(pipeline, lambda kind: kind.startswith("Load") and "Image" in kind)
        if position == "before_pack" and pack is not None:
            pipeline.insert(pack, step(transform))
            changed += 1
        elif position == "after_load":
            if pack is not None:
                pipeline.insert(pack, step(dict(type="llie_preproc.RestoreScaleFactor")))
            if load is not None:
                pipeline.insert(_loaded(pipeline, load), step(transform))
                changed += 1
    if not changed:
        raise ValueError(f"no pipeline with {_PACK if position == 'before_pack' else 'an image loader'} in this config")


def _without_model(cfg: Config) -> dict[str, Any]:
    """The parts of a config that hold pipelines."""
    return {key: value for key, value in cfg._cfg_dict.items() if key != "model"}


def _single(transform: dict[str, Any]) -> Any:
    return copy.deepcopy(transform)


def _only_alternative(transform: dict[str, Any]) -> Any:
    return [copy.deepcopy(transform)]


def _pipelines(node: Any) -> list[tuple[list, Callable[[dict], Any]]]:
    """Every list of steps in a config, however deep, each once, with what makes a step of a transform.

    A step is a transform; within ``TestTimeAug`` it is a list of transforms, of which each view has one.
    """
    found: dict[int, tuple[list, Callable[[dict], Any]]] = {}
    stack = [node]
    while stack:
        value = stack.pop()
        if type_name(value) == "TestTimeAug":
            found[id(value["transforms"])] = value["transforms"], _only_alternative
            # The alternatives of a step are no pipeline; what they hold may be one.
            stack.extend(alternative for step in value["transforms"] for alternative in step)
        elif isinstance(value, Mapping):
            stack.extend(value.values())
        elif isinstance(value, list | tuple):
            if isinstance(value, list) and any(type_name(v) for v in value):
                found[id(value)] = value, _single
            stack.extend(value)
    return list(found.values())


def _loaded(pipeline: list, load: int) -> int:
    """Where loading ends. Annotations that follow the image are in its frame, and an enlarging enhancer scales both."""
    rest = enumerate(pipeline[load + 1 :], load + 1)
    return next((i for i, step in rest if not all(kind.startswith("Load") for kind in _kinds([step]))), len(pipeline))


def _kinds(steps: list) -> list[str]:
    """The types of steps; of one that is a list of alternatives each."""
    return [type_name(each) for step in steps for each in (step if isinstance(step, list) else [step])]


def _index(pipeline: list, wanted: Callable[[str], bool]) -> int | None:
    return next((i for i, step in enumerate(pipeline) if any(map(wanted, _kinds([step])))), None)
