"""The config of a finetuning run, made from a detector's config and the options of the command line."""

from __future__ import annotations

import argparse
import contextlib
import copy
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.dist import get_world_size
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIMIZERS, DefaultScope, Registry

from llie_preproc.checkpoints import local_file
from llie_preproc.config_doors import find_enhancement, refuse_second_door
from llie_preproc.config_files import naming_missing_files, read_config_file
from llie_preproc.config_nodes import nodes, type_name
from llie_preproc.detection import add_enhancer
from llie_preproc.detection.coco_sets import (
    CocoSet,
    check_detector_config,
    checkpoint_classes,
    starting_classes,
    use_sets,
)
from llie_preproc.enhancers.build import DEFAULT_WEIGHTS, build_enhancer
from llie_preproc.enhancers.names import enhancer_config
from llie_preproc.errors import weights_named_by
from llie_preproc.files import real_path
from llie_preproc.inference_options import option_names
from llie_preproc.mm.run_settings import set_checkpoints, set_enhancer_lr
from llie_preproc.mm.runner_parts import read_checkpoint

from .config_checks import check_enhancer, check_names, check_options, list_evaluators
from .finetune_words import LOSSES
from .schedule import counts_iterations, set_epochs, shorten_warmup

_WRAPPER = "EnhancedDetector"
_PACK_PAIRS = "llie_preproc.PackPairedDetInputs"
_PACKS = ("PackDetInputs", "PackPairedDetInputs")
_AMP = "llie_preproc.AutocastOptimWrapper"
_HOOKS = ("llie_preproc.EpochSeed", "llie_preproc.AverageStatistics")
_STAGED = "llie_preproc.StagedTraining"
_CONSTRUCTOR = "DefaultOptimWrapperConstructor"
_EMA = "EMAHook"
# Some presets set these keys. They are removed before a preset is applied, because it may not set all of them.
_OF_PRESETS = ("trainable", "train_detector")
# Other wrappers for mixed precision have these options, which bfloat16 does not need.
_OF_OTHER_WRAPPERS = ("loss_scale", "dtype", "use_fsdp")


def finetuning_config(args: argparse.Namespace) -> Config:
    """Make the whole config of a run, except for its folder and the checkpoint that it resumes.

    A result that is given again as ``args.detector``, without options, stays the same.

    Raises:
        FileNotFoundError: The config, an annotation file or a folder does not exist.
        KeyError: The enhancer or the optimiser is not registered.
        ValueError: The config is not that of a detector, has another enhancer than the options name, or an option is
            wrong.
    """
    cfg = read_config_file(args.detector)
    check_detector_config(args.detector, cfg, ("train_dataloader", "train_cfg", "optim_wrapper"))
    cfg.setdefault("default_scope", "mmdet")
    cfg = _with_enhancer(cfg, args)
    cfg = _with_sets(cfg, args)
    _set_model(cfg, args)
    _set_optimiser(cfg, args)
    _set_hooks(cfg, args)
    check_options(cfg, args.cfg_options)
    # Only the options are checked, because configs of MMDetection have all kinds of names.
    check_names(Config({path.split(".")[0]: {} for path in args.cfg_options}))
    cfg.merge_from_dict(args.cfg_options)
    _check_optimiser(cfg)
    _set_schedule(cfg, args)
    list_evaluators(cfg)
    return cfg


def _with_enhancer(cfg: Config, args: argparse.Namespace) -> Config:
    """The config with its own ``EnhancedDetector``, or with a new one that trains as the preset says."""
    preset = args.preset
    if type_name(cfg.model) == _WRAPPER:
        check_enhancer(cfg, args.detector)
        if args.enhancer:
            _replace_weights(cfg.model, args)
        refuse_second_door(cfg, args.detector)
    elif found := find_enhancement(cfg):
        raise ValueError(f"{args.detector} enhances by {found}, which cannot be trained: give the plain config")
    elif not args.enhancer:
        raise ValueError(f"{args.detector} has no enhancer: name one with --enhancer")
    else:
        spec = enhancer_config(args.enhancer)
        checkpoint = _absolute(spec.pop("checkpoint", None) or DEFAULT_WEIGHTS)
        with weights_named_by("--enhancer NAME@WEIGHTS"):
            build_enhancer(spec, checkpoint)
        cfg = add_enhancer(cfg, spec, checkpoint=checkpoint)
        _replace_schedule(cfg)
        preset = preset or "joint"
    if preset:
        _set_preset(cfg, preset)
    if args.detector_checkpoint:
        cfg.load_from = args.detector_checkpoint
    if cfg.get("load_from"):
        cfg.load_from = _absolute(cfg.load_from)
        if cfg.model.get("strict", True):
            _leave_out_pretrained(cfg.model.detector)
    cfg.resume = False
    return cfg


def _replace_weights(model: Any, args: argparse.Namespace) -> None:
    """Let the enhancer of a config start from the weights of ``--enhancer NAME@WEIGHTS``."""
    own, given = enhancer_config(model.enhancer), enhancer_config(args.enhancer)
    weights = given.pop("checkpoint", None)
    if weights is None or given != {"type": own["type"]}:
        raise ValueError(
            f"{args.detector} has an enhancer already: remove --enhancer, give the plain config, or name other weights "
            f"for it with --enhancer {own['type']}@WEIGHTS"
        )
    if isinstance(model.enhancer, dict):
        model.enhancer.pop("checkpoint", None)
    model.checkpoint = _absolute(weights)


def _leave_out_pretrained(detector: Any) -> None:
    """Remove pretrained weights from a config, because the checkpoint replaces all of them."""
    for node in nodes(detector):
        if type_name(node.get("init_cfg")) == "Pretrained":
            node["init_cfg"] = None


def _replace_schedule(cfg: Config) -> None:
    schedule = _fragment("schedule")
    if "max_epochs" in cfg.train_cfg:
        # Hooks that switch the pipeline keep their relative place in the training.
        set_epochs(cfg, schedule["train_cfg"]["max_epochs"], batches=1)
    _leave_out_averages(cfg)
    if type_name(cfg.optim_wrapper.get("optimizer") or {}) != "SGD":
        _keep_own_optimiser(cfg, schedule)
    _merge(cfg, schedule)


def _keep_own_optimiser(cfg: Config, schedule: dict[str, Any]) -> None:
    """Keep a detector's own optimiser: a detector that needs AdamW, such as a transformer, would not learn by SGD."""
    del schedule["optim_wrapper"]["optimizer"], schedule["auto_scale_lr"]
    if cfg.optim_wrapper.get("clip_grad"):
        del schedule["optim_wrapper"]["clip_grad"]


def _leave_out_averages(cfg: Config) -> None:
    cfg.custom_hooks = [hook for hook in cfg.get("custom_hooks") or [] if type_name(hook) != _EMA]
    hooks = cfg.get("default_hooks") or {}
    cfg.default_hooks = {name: hook for name, hook in hooks.items() if not hook or type_name(hook) != _EMA}


def _set_preset(cfg: Config, preset: str) -> None:
    for key in _OF_PRESETS:
        cfg.model.pop(key, None)
    cfg.pop("find_unused_parameters", None)
    hooks = cfg.get("default_hooks") or {}
    for name in [name for name, hook in hooks.items() if hook and hook.get("type") == _STAGED]:
        del hooks[name]
    _merge(cfg, _fragment(preset))


def _merge(cfg: Config, fragment: dict[str, Any]) -> None:
    cfg.merge_from_dict(fragment)
    # MMEngine keeps this key where there was nothing to delete.
    for node in nodes(cfg):
        node.pop("_delete_", None)


def _fragment(name: str) -> dict[str, Any]:
    path = files("mm_configs") / "_base_" / "joint" / f"{name.replace('-', '_')}.py"
    return Config.fromfile(str(path)).to_dict()


def _with_sets(cfg: Config, args: argparse.Namespace) -> Config:
    train, val = CocoSet.given(args.train), CocoSet.given(args.val)
    list_evaluators(cfg)
    evaluators = [each for key in ("val_evaluator", "test_evaluator") for each in cfg.get(key) or []]
    # The weights of --detector-checkpoint are named as the user gave them, not by the key that they have in the config.
    with contextlib.nullcontext() if args.detector_checkpoint else naming_missing_files(cfg):
        classes = starting_classes(cfg, train)
    if not cfg.model.get("train_detector", True):
        # The layers of a frozen detector that tell classes apart do not change, so its checkpoint names the classes.
        classes = checkpoint_classes(read_checkpoint(local_file(cfg.load_from))) if cfg.get("load_from") else ()
    cfg = use_sets(cfg, train, val, classes or None)
    if val is None:
        return cfg
    if not cfg.get("val_dataloader"):
        if not cfg.get("test_dataloader"):
            raise ValueError(f"--val: {args.detector} has neither a val_dataloader nor a test_dataloader for it")
        cfg.val_dataloader, cfg.val_cfg = copy.deepcopy(cfg.test_dataloader), dict(type="ValLoop")
    # Instance masks are scored if the config scored them.
    scored = [each["metric"] for each in evaluators if "metric" in each]
    cfg.test_evaluator.metric = scored[0] if scored else "bbox"
    cfg.val_evaluator = copy.deepcopy(cfg.test_evaluator)
    return cfg


def _set_model(cfg: Config, args: argparse.Namespace) -> None:
    for key in ("detector_input", "fusion", "checkpointing", *option_names()):
        if (value := getattr(args, key, None)) is not None:
            cfg.model[key] = value
    if args.fusion and cfg.model.get("detector_input") != "both":
        raise ValueError(f"--fusion {args.fusion} joins two inputs: it needs --detector-input both")
    if (args.losses or args.pairs) and not cfg.model.get("trainable"):
        raise ValueError("--losses and --pairs need an enhancer that is trained, which --preset frozen does not do")
    losses = dict(cfg.model.get("losses") or {}) | _losses(args.losses, cfg.model.get("map_side"))
    if args.pairs:
        if not Path(args.pairs).is_dir():
            raise FileNotFoundError(f"--pairs: there is no folder {args.pairs}")
        losses["paired"] = dict(type="llie_preproc.PairedLoss")
        pack = dict(type=_PACK_PAIRS, folder=str(real_path(args.pairs)), scale=_scale(cfg.model.enhancer))
        packing = [each for each in nodes([cfg.train_dataloader, cfg.get("custom_hooks")]) if type_name(each) in _PACKS]
        if not packing:
            raise ValueError(f"--pairs: no training pipeline of {args.detector} has PackDetInputs")
        for each in packing:
            each.update(pack)
    if losses:
        cfg.model.losses = losses


def _losses(given: Sequence[str], map_side: int | None) -> dict[str, dict[str, Any]]:
    """The configs of losses that are given as ``NAME[=WEIGHT]``."""
    configs = {}
    for each in given:
        name, _, weight = each.partition("=")
        if name not in LOSSES:
            raise ValueError(f"--losses: {name!r} must be one of {', '.join(LOSSES)}")
        config: dict[str, Any] = dict(type=LOSSES[name])
        if weight:
            config["loss_weight"] = _weight(each, weight)
        if name == "fidelity" and map_side:
            # The enhancement and its reference must be made in the same way, to be equal before the first step.
            config["map_side"] = map_side
        configs[name.replace("-", "_")] = config
    return configs


def _weight(given: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ValueError(f"--losses {given}: the weight must be a number of at least 0, got {text!r}")
    return weight


def _scale(enhancer: str | Mapping[str, Any]) -> int:
    return build_enhancer(dict(enhancer_config(enhancer), checkpoint=None)).scale


def _set_optimiser(cfg: Config, args: argparse.Namespace) -> None:
    wrapper = cfg.optim_wrapper
    if args.train_batch_size is not None:
        cfg.train_dataloader.batch_size = args.train_batch_size
    if args.lr is not None:
        wrapper.optimizer.lr = args.lr
        cfg.pop("auto_scale_lr", None)
    if args.enhancer_lr_mult is not None:
        set_enhancer_lr(cfg, args.enhancer_lr_mult)
    before = wrapper.get("accumulative_counts", 1)
    if args.accumulate is not None:
        wrapper.accumulative_counts = args.accumulate
    if args.amp:
        wrapper.type = _AMP
        for key in _OF_OTHER_WRAPPERS:
            wrapper.pop(key, None)
    if scaling := cfg.get("auto_scale_lr"):
        # MMEngine compares the base with the batch of one iteration.
        base = scaling.base_batch_size * before / (args.accumulate or before)
        cfg.auto_scale_lr = dict(enable=True, base_batch_size=base)


def _set_hooks(cfg: Config, args: argparse.Namespace) -> None:
    if args.ema is not None:
        _leave_out_averages(cfg)
    if args.ema:
        cfg.default_hooks.ema = _fragment("schedule")["default_hooks"]["ema"]
    hooks = list(cfg.get("custom_hooks") or [])
    there = [hook.get("type") for hook in hooks]
    cfg.custom_hooks = [*hooks, *(dict(type=name) for name in _HOOKS if name not in there)]
    set_checkpoints(cfg)
    seed = (cfg.get("randomness") or {}).get("seed")
    cfg.randomness = dict(cfg.get("randomness") or {}, seed=args.seed if args.seed is not None else seed or 0)


def _check_optimiser(cfg: Config) -> None:
    """Refuse a constructor of the optimiser that does not support the wrapper's names and multipliers."""
    wrapper, scope = cfg.optim_wrapper, cfg.default_scope
    _registered(OPTIMIZERS, wrapper.get("optimizer", {}).get("type"), scope)
    kind = _registered(OPTIM_WRAPPER_CONSTRUCTORS, wrapper.get("constructor", _CONSTRUCTOR), scope)
    methods = ("__call__", "add_params")
    if any(getattr(kind, method, None) is not getattr(DefaultOptimWrapperConstructor, method) for method in methods):
        raise ValueError(
            f"{kind.__name__} depends on the detector's own parameter names, and has no learning rate for 'enhancer.': "
            "use --cfg-options optim_wrapper.constructor=DefaultOptimWrapperConstructor instead"
        )


def _registered(registry: Registry, name: Any, scope: str) -> Any:
    """The class with a name. If there is none, the error contains the name, unlike MMEngine's error."""
    if not isinstance(name, str):
        return name
    with registry.switch_scope_and_registry(scope) as own:
        kind = own.get(name)
    if kind is None:
        raise KeyError(f"no {registry.name} {name!r} is registered")
    return kind


def _set_schedule(cfg: Config, args: argparse.Namespace) -> None:
    """Fit the schedules to the number of epochs and the batch size of the options."""
    if args.epochs is None and args.train is None and args.train_batch_size is None and args.enhancer is None:
        return
    batches = _batches(cfg) if counts_iterations(cfg) else 1
    if args.epochs is not None:
        set_epochs(cfg, args.epochs, batches)
    shorten_warmup(cfg, batches)


def _batches(cfg: Config) -> int:
    """Number of iterations in an epoch."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        pictures = len(DATASETS.build(cfg.train_dataloader.dataset))
    return max(1, math.ceil(pictures / ((cfg.train_dataloader.get("batch_size") or 1) * get_world_size())))


def _absolute(checkpoint: str) -> str:
    """The whole path of a file, so that the written config runs from any folder; names and URLs are not changed."""
    path, mark, digest = str(checkpoint).partition("#")
    return f"{real_path(path)}{mark}{digest}" if Path(path).is_file() else str(checkpoint)
