"""``add_enhancer``, which turns a plain MMDetection config into an enhanced one."""

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
        cfg: Config of a detector; it is not changed.
        enhancer: Network, as for :func:`llie_preproc.enhancers.names.enhancer_config`: a name in any spelling
            (``@WEIGHTS`` may follow it), a config, or a config file. The enhancer of a config file is written into the
            result.
        door: Place of the enhancer: ``'transform'`` puts it into every pipeline, where it runs on CPU workers and, in
            a ``TestTimeAug``, enhances every view. ``'preprocessor'`` puts it, frozen, into the data preprocessor,
            where it runs on the detector's device. ``'detector'`` puts a wrapper around the detector, in which the
            enhancer can be trained.
        checkpoint: Weights of the enhancer, as for :func:`llie_preproc.build_enhancer`.
        trainable: Whether the enhancer is trained too; only for ``'detector'``.
        position: Place in the pipeline; only for ``'transform'``. ``'before_pack'`` enhances the images that the
            detector sees, without rounding, and agrees with the other doors. ``'after_load'`` enhances the whole
            pictures as they are stored, right after the transforms that load them and their annotations.
        cache_dir: Folder in which enhanced pictures are kept; only for ``'transform'``.
        **others: Options of :class:`~llie_preproc.InferenceOptions`, whose channel order is that of the images at the
            enhancer's place, by default ``'bgr'``, as MMDetection loads images. For ``'detector'`` only, also the
            other arguments of :class:`~llie_preproc.detection.EnhancedDetector`, such as ``train_detector``,
            ``detector_input``, ``losses`` and ``checkpointing``.

    Returns:
        A new config. Its ``custom_imports`` name this package, so that a dumped config runs by itself.

    Raises:
        ValueError: An option has an unknown value or does not belong to the door. Or the config has an enhancer
            already, normalises pictures before the enhancer would see them, or has no pipeline or data preprocessor
            for the enhancer. Options that the network cannot run with are refused when the network is built.
        KeyError: There is no such enhancer; the message has the nearest names.
        TypeError: There is no such option.

    Examples:
        >>> pipeline = [dict(type="LoadImageFromFile"), dict(type="Resize"), dict(type="PackDetInputs")]
        >>> plain = Config(dict(model=dict(type="RetinaNet"), test_pipeline=pipeline))
        >>> enhanced = add_enhancer(plain, "psenet", trainable=True)
        >>> enhanced.model.type, enhanced.model.detector.type, enhanced.model.enhancer
        ('llie_preproc.EnhancedDetector', 'RetinaNet', 'PSENet')
        >>> enhanced = add_enhancer(plain, "gamma-correction", door="transform")
        >>> [step["type"] for step in enhanced.test_pipeline]
        ['LoadImageFromFile', 'Resize', 'llie_preproc.Enhance', 'PackDetInputs']
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
        raise ValueError(f"{', '.join(sorted(others))} belong to door='detector', not to {door!r}")
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


def insert_after_loading(part: Mapping[str, Any], transform: Mapping[str, Any], name: str) -> None:
    """Insert a transform into every pipeline of a part of a config, right after the picture is loaded.

    An :class:`Enhance` of the pipeline then sees what the transform gives.

    Args:
        part: Part of a config, such as ``test_dataloader``, which is changed.
        transform: Config of the transform.
        name: Name of the part, for the message.

    Raises:
        ValueError: No pipeline of the part loads a picture.

    Examples:
        >>> loader = dict(dataset=dict(pipeline=[dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")]))
        >>> insert_after_loading(loader, dict(type="llie_preproc.GammaShift", gamma=2.0), "test_dataloader")
        >>> [step["type"] for step in loader["dataset"]["pipeline"]]
        ['LoadImageFromFile', 'llie_preproc.GammaShift', 'LoadAnnotations']
    """
    found = [(pipeline, step, _image_loader(pipeline)) for pipeline, step in _pipelines(part)]
    if all(load is None for _, _, load in found):
        raise ValueError(f"{name}: no pipeline has a transform that loads a picture, such as LoadImageFromFile")
    for pipeline, step, load in found:
        if load is not None:
            pipeline.insert(load + 1, step(dict(transform)))


def _wrapper_options() -> set[str]:
    return set(inspect.signature(EnhancedDetector).parameters) - {"detector", "data_preprocessor", "channel_order"}


def _refuse_normalised(cfg: Config) -> None:
    """Refuse pipelines that normalise, because an enhancer needs levels of 0 to 255."""
    for pipeline, _ in _pipelines(_without_model(cfg)):
        if "Normalize" in _kinds(pipeline):
            raise ValueError(
                "a pipeline of this config normalises its pictures (Normalize) before the enhancer, which needs levels "
                "of 0 to 255: let the data preprocessor normalise instead (mean and std)"
            )


def _into_wrapper(cfg: Config, options: dict[str, Any]) -> None:
    # MMEngine's Runner passes a top-level data_preprocessor on to a model that does not name its own.
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
    # Right after loading, results are rounded to the stored dtype, so that the cache is small; before packing, no
    # precision may be lost.
    transform = dict(type="llie_preproc.Enhance", keep_dtype=position == "after_load", **options)
    changed = 0
    for pipeline, step in _pipelines(_without_model(cfg)):
        pack = _index(pipeline, lambda kind: kind == _PACK)
        load = _image_loader(pipeline)
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
    """List every pipeline of a config once, each with a function that makes a transform a step of that pipeline.

    A step is a transform; within ``TestTimeAug`` it is a list of transforms, one of which is used for each view.
    """
    found: dict[int, tuple[list, Callable[[dict], Any]]] = {}
    # A list of alternatives is not a pipeline, but may hold pipelines.
    alternatives: set[int] = set()
    for _, value in walk(node):
        if type_name(value) == "TestTimeAug":
            found[id(value["transforms"])] = value["transforms"], _only_alternative
            alternatives.update(map(id, value["transforms"]))
        elif isinstance(value, list) and id(value) not in alternatives and any(map(type_name, value)):
            found[id(value)] = value, _single
    return list(found.values())


def _loaded(pipeline: list, load: int) -> int:
    """Index of the first step after loading.

    Annotations must be loaded before the enhancer, because an enlarging enhancer scales them with the image.
    """
    rest = enumerate(pipeline[load + 1 :], load + 1)
    return next((i for i, step in rest if not all(kind.startswith("Load") for kind in _kinds([step]))), len(pipeline))


def _image_loader(pipeline: list) -> int | None:
    return _index(pipeline, lambda kind: kind.startswith("Load") and "Image" in kind)


def _kinds(steps: list) -> list[str]:
    """Types of the steps, and of all alternatives where a step is a list of them."""
    return [type_name(each) for step in steps for each in (step if isinstance(step, list) else [step])]


def _index(pipeline: list, wanted: Callable[[str], bool]) -> int | None:
    return next((i for i, step in enumerate(pipeline) if any(map(wanted, _kinds([step])))), None)
