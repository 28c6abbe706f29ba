"""PSNR, SSIM and other metrics of enhanced pictures.

Enhance the pictures of LOW and compare each with the picture of the same name in HIGH, in RGB, 8 bits and full size.
The table has a line for the raw input and one for each enhancer, with means over the pictures. HIGH can be left out if
no metric needs it. An enhancer that enlarges s times needs pictures in HIGH that are s times as wide and high as those
in LOW; the raw input is then enlarged by bicubic interpolation. With --metrics, the exact definition of each metric
follows the table. Pictures that cannot be scored are left out of all lines and listed at the end, and the exit status
is then 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llie_preproc.commands.arguments import (
    OnceEach,
    add_cfg_options,
    add_device,
    add_inference_options,
    device_of,
    inference_options,
)
from llie_preproc.commands.program import FAILED, say_failed
from llie_preproc.enhancers.names import enhancer_class, enhancer_in
from llie_preproc.errors import Extras
from llie_preproc.pictures import paired_files, picture_files
from llie_preproc.registry import DATASETS

from ..metrics import QualitySuite, metric_names, metric_settings
from ..metrics.arrays import read_levels
from ..self_registration import add_settings, names_of
from ..shared.enhancers import add_enhancers, described, frozen_enhancers, labelled
from ..shared.quality_scores import Candidate, Pictures, Scores, enlarged, score_pictures

NEEDS = Extras("mm")
with NEEDS:
    from mmengine.config import Config

    from llie_preproc.config_files import naming_missing_files, read_config_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("low", metavar="LOW", nargs="?", help="folder of the pictures to enhance")
    parser.add_argument("high", metavar="HIGH", nargs="?", help="folder of their references, with the same names")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="config file whose val_dataloader.dataset has the pictures; it replaces LOW and HIGH "
        "(mm_configs/evaluation has SICE, exposure errors and others)",
    )
    add_cfg_options(parser)
    add_enhancers(parser, default=None, shown="psenet, or the enhancer of --config")
    add_inference_options(parser)
    add_device(parser, "enhancers run and metrics are computed")
    parser.add_argument(
        "--metrics",
        nargs="+",
        action=OnceEach,
        metavar="NAME",
        help=f"names of metrics: {' '.join(metric_names())} (default: psnr ssim)",
    )
    add_settings(parser, metric_settings())
    parser.add_argument(
        "--gt-mean",
        action="store_true",
        help="give each result the mean brightness of its picture in HIGH before they are compared; the table says so",
    )


def run(args: argparse.Namespace) -> int:
    """Print the scores that the command line asks for; returns the exit status."""
    device = device_of(args)
    settings = {name: getattr(args, name) for name in names_of(metric_settings())}
    suite = QualitySuite(args.metrics or ("psnr", "ssim"), gt_mean=args.gt_mean, **settings)
    config = _config(args)
    items = _folder_items(args, suite) if config is None else _set_items(config, args.config)
    scores = score_pictures(items, _candidates(args, config, device), suite, device)
    try:
        if scores.names:
            _print(scores, suite, described=args.metrics is not None)
    finally:
        if scores.failed:
            total = len(scores.failed) + len(scores.names)
            say_failed(f"{len(scores.failed)} of {total} failed", scores.failed)
    return FAILED if scores.failed else 0


def _config(args: argparse.Namespace) -> Config | None:
    if (args.low is None) == (args.config is None):
        raise ValueError("give either LOW, a folder of pictures, or --config")
    if args.config is None:
        if args.cfg_options:
            raise ValueError("--cfg-options change a config, but no --config is given")
        return None
    return read_config_file(args.config, args.cfg_options)


def _folder_items(args: argparse.Namespace, suite: QualitySuite) -> list[tuple[str, Callable[[], Pictures]]]:
    """List the name of each picture, and the function that reads it."""
    if args.high is not None:
        pairs: Sequence[tuple] = paired_files(args.low, args.high)
    elif paired := suite.needed("target"):
        raise ValueError(f"{', '.join(paired)}: this needs HIGH, the folder of references")
    else:
        pairs = [(path, None) for path in picture_files(args.low)]

    def reader(low: Any, high: Any) -> Callable[[], Pictures]:
        return lambda: (read_levels(low), None if high is None else read_levels(high))

    return [(str(low), reader(low, high)) for low, high in pairs]


def _set_items(config: Config, name: str) -> list[tuple[str, Callable[[], Pictures]]]:
    given = config.get("val_dataloader", {}).get("dataset")
    if not isinstance(given, Mapping):
        raise ValueError(f"{name} has no val_dataloader.dataset")
    try:
        with naming_missing_files(config):
            pictures = DATASETS.build(given)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"{name}: val_dataloader.dataset: {error}") from error

    def reader(index: int) -> Callable[[], Pictures]:
        def read() -> Pictures:
            item = pictures[index]
            return item["inputs"], item["data_samples"].get("target")

        return read

    entries = getattr(pictures, "entries", None)
    names = [f"picture {i}" if entries is None else str(entries[i]["image"]) for i in range(len(pictures))]
    return [(each, reader(i)) for i, each in enumerate(names)]


def _named(args: argparse.Namespace, config: Config | None) -> Mapping[str, str | Mapping[str, Any]]:
    """Return the enhancers by label."""
    if args.enhancer:
        return labelled(args.enhancer)
    own = None if config is None else enhancer_in(config.to_dict(), args.config)
    return labelled(["psenet"]) if own is None else {enhancer_class(own["type"])[0]: own}


def _candidates(args: argparse.Namespace, config: Config | None, device: str) -> dict[str, Candidate]:
    """Build the functions that make the rows of the table."""
    options = inference_options(args)
    enhancers = frozen_enhancers(described(_named(args, config), options), options, device)
    scales = {label: enhancer.scale for label, enhancer in enhancers.items()}
    if len(set(scales.values())) > 1:
        factors = ", ".join(f"{label} by {scale}" for label, scale in scales.items())
        raise ValueError(f"--enhancer: all enhancers of a call must enlarge by the same factor, got {factors}")
    scale = next(iter(scales.values()), 1)
    raw = "raw input" if scale == 1 else f"raw input, bicubic x{scale}"
    return {raw: lambda pixels: enlarged(pixels, scale), **enhancers}


def _print(scores: Scores, suite: QualitySuite, described: bool) -> None:
    paired = any(meter.beside == "target" for meter in suite.meters.values())
    print(f"{len(scores.names)} {'pairs' if paired else 'pictures'}")
    for row, added in scores.rows.items():
        print(f"{suite.line(suite.summarise(added))}  {row}")
    for row, added in scores.rows.items():
        for metric, text in suite.undefined(added, scores.names).items():
            print(f"{metric} of {row}: {text}")
    for metric, text in suite.describe().items() if described else ():
        print(f"{metric}: {text}")
