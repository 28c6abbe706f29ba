"""``add_enhancer``: a plain MMDetection config in, an enhanced one out."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config

from ..checks import one_of
from ..config_doors import find_enhancement
from ..config_nodes import type_name, walk
from ..enhancers.build import DEFAULT_WEIGHTS
from ..enhancers.names import enhancer_config
from ..inference_options import InferenceOptions, shows_options
from .enhanced_detector import EnhancedDetector

DOORS = ("transform", "preprocessor", "detector")
POSITIONS = ("before_pack", "after_load")
_PACK = "PackDetInputs"


@shows_options(channel_order="bgr")
def add_enhancer(
    cfg: Config,
    enhancer: str | os.PathLike[str] | Mapping,
    *,
    door: str = "detector",
    checkpoint: str | os.PathLike[str] | None = DEFAULT_WEIGHTS,
    trainable: bool = False,
    position: str = "before_pack",
    cache_dir: str | os.PathLike[str] | None = None,
    **others: Any,
) -> Config:
    """Put an enhancer into an MMDetection config.

    Args:
        cfg: A detector's config; it is not changed.
        enhancer: Network, as for :func:`llie_preproc.enhancers.names.enhancer_config`: a name in any spelling, with
            ``@`` and weights or without, a config, or a config file, whose enhancer is written into the result.
        door: ``'transform'``: in every pipeline, on CPU workers; in a ``TestTimeAug`` it enhances every view.
            ``'preprocessor'``: frozen, on the detector's device. ``'detector'``: a wrapper round the detector, which
            may be trained.
        checkpoint: The enhancer's, as for :func:`llie_preproc.build_enhancer`.
        trainable: Train the enhancer too; ``'detector'`` only.
        position: ``'transform'`` only: ``'before_pack'`` enhances what the detector sees, unrounded, and agrees with
            the other doors; ``'after_load'`` enhances the whole picture as stored, right after what loads it and its
            annotations.
        cache_dir: ``'transform'`` only: keep enhanced pictures in this folder.
        **others: Options of :class:`~llie_preproc.InferenceOptions`, the channel order that of the images where the
            enhancer stands, ``'bgr'`` (MMDetection's loading) unless given; and, for ``'detector'`` only, the other
            arguments of :class:`~llie_preproc.detection.EnhancedDetector`, such as ``train_detector``,
            ``detector_input``, ``losses``, ``checkpointing``.

    Returns:
        A new config. ``custom_imports`` names this package, so that a dumped config runs by itself.

    Raises:
        ValueError: An option that is none of its values, or that the door does not have; a config that has an
            enhancer already, that normalises pictures before the enhancer would see them, or that has no pipeline or
            data preprocessor to put it into. What the network cannot run with is refused where it is built.
        KeyError: No such enhancer; the message has the nearest names.
        TypeError: An option that no door has.
    """
    one_of("door", door, DOORS)
    one_of("position", position, POSITIONS)
    network = enhancer_config(enhancer)
    options = InferenceOptions.taken_from(others, channel_order="bgr")
    if trainable and door != "detector":
        raise ValueError(f"trainable needs door='detector': through the {door} no gradient reaches the enhancer")
    if door != "transform" and (cache_dir is not None or position != "before_pack"):
        raise ValueError(f"cache_dir and position belong to door='transform', not to {door!r}")
    if unknown := set(others) - _wrapper_options():
        raise TypeError(f"add_enhancer has no {', '.join(sorted(unknown))}")
    if others and door != "detector":
        raise ValueError(f"{', '.join(sorted(others))}: of door='detector' only, not of {door!r}")
    if found := find_enhancement(cfg):
        raise ValueError(f"this config has an enhancer already: {found}")
    if position != "after_load":
        _refuse_normalised(cfg)
    cfg = copy.deepcopy(cfg)
    named_alone = isinstance(network["type"], str) and len(network) == 1
    spec: dict[str, Any] = dict(enhancer=network["type"] if named_alone else network, checkpoint=checkpoint)
    spec |= options.keywords(channel_order="bgr")
    if door == "transform":
        _into_pipelines(cfg, dict(spec, cache_dir=cache_dir), position)
    elif door == "preprocessor":
        _into_preprocessor(cfg, spec)
    else:
        _into_wrapper(cfg, dict(spec, trainable=trainable, **others))
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
    # The alternatives of a step are no pipeline; what they hold may be one.
    alternatives: set[int] = set()
    for _, value in walk(node):
        if type_name(value) == "TestTimeAug":
            found[id(value["transforms"])] = value["transforms"], _only_alternative
            alternatives.update(map(id, value["transforms"]))
        elif isinstance(value, list) and id(value) not in alternatives and any(map(type_name, value)):
            found[id(value)] = value, _single
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
