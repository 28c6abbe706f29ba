"""PSNR, SSIM and other metrics of enhanced pictures.

Enhance the pictures of LOW and compare each with the picture of the same name in HIGH, in RGB, 8 bits and full size.
The table has a line for the raw input and one for each enhancer, with means over the pictures. HIGH can be left out if
no metric needs it. An enhancer that enlarges s times needs pictures in HIGH that are s times as wide and high as those
in LOW; the raw input is then enlarged by bicubic interpolation. With --metrics, the exact definition of each metric
follows the table. Pictures that cannot be scored are left out of all lines and listed at the end, and the exit status
is then 1.

With --sequences, each picture of LOW that the lists name is compared with the reference of its scene. There is a table
for each metric then, with means over the pictures of each exposure, over all that are darker and all that are brighter
than their reference, and over the references themselves, which shows how much an enhancer changes a well-exposed
picture.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from llie_preproc.commands.arguments import (
    OnceEach,
    add_cfg_options,
    add_device,
    add_inference_options,
    add_out,
    device_of,
    inference_options,
)
from llie_preproc.commands.program import FAILED, say_failed
from llie_preproc.enhancers.names import enhancer_class, enhancer_in
from llie_preproc.errors import Extras
from llie_preproc.files import write_json
from llie_preproc.pictures import paired_files, picture_files
from llie_preproc.registry import DATASETS

from ..metrics import QualitySuite, metric_names, metric_settings
from ..metrics.arrays import read_levels
from ..self_registration import add_settings, names_of
from ..shared.enhancers import add_enhancers, described, frozen_enhancers, labelled
from ..shared.exposure_sequences import ExposedPicture, read_sequences
from ..shared.exposure_table import exposure_tables
from ..shared.quality_scores import Candidate, Pictures, Scores, enlarged, score_pictures
from ..shared.score_table import plain_number

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
    parser.add_argument(
        "--sequences",
        nargs="+",
        action=OnceEach,
        metavar="FILE",
        help="lists of exposure sequences in LOW, whose references take the place of HIGH "
        "(mm_configs/_base_/sice_part1_sequences_val.json)",
    )
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
    add_out(parser, "file to write the scores of each picture to (default: none is written)", "FILE.json")


def run(args: argparse.Namespace) -> int:
    """Print the scores that the command line asks for; returns the exit status."""
    device = device_of(args)
    settings = {name: getattr(args, name) for name in names_of(metric_settings())}
    suite = QualitySuite(args.metrics or ("psnr", "ssim"), gt_mean=args.gt_mean, **settings)
    config = _config(args)
    exposed = _exposed(args, suite)
    if args.sequences:
        items = [(name, _reader(name, Path(args.low).expanduser() / each.reference)) for name, each in exposed.items()]
    else:
        items = _folder_items(args, suite) if config is None else _set_items(config, args.config)
    scores = score_pictures(items, _candidates(args, config, device), suite, device)
    try:
        if scores.names:
            _print(scores, suite, exposed, described=args.metrics is not None)
            if args.out:
                write_json(args.out, _written(scores, suite, exposed))
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


def _exposed(args: argparse.Namespace, suite: QualitySuite) -> dict[str, ExposedPicture]:
    """List the pictures of the sequences, by path; empty without sequences."""
    if not args.sequences:
        return {}
    if args.low is None or args.high is not None:
        raise ValueError("--sequences needs LOW alone: the references are those that the lists name")
    if of_sets := [name for name, meter in suite.meters.items() if not meter.of_pictures]:
        raise ValueError(f"--sequences needs metrics of single pictures; {of_sets[0]} is one of a whole set")
    root = Path(args.low).expanduser()
    sequences = read_sequences(args.sequences)
    found = {str(root / each.name): each for sequence in sequences for each in sequence.pictures()}
    if missing := [name for name in found if not Path(name).is_file()]:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise FileNotFoundError(f"no picture {missing[0]}{more}, of {', '.join(args.sequences)}")
    return found


def _reader(low: Any, high: Any) -> Callable[[], Pictures]:
    return lambda: (read_levels(low), None if high is None else read_levels(high))


def _folder_items(args: argparse.Namespace, suite: QualitySuite) -> list[tuple[str, Callable[[], Pictures]]]:
    """List the name of each picture, and the function that reads it."""
    if args.high is not None:
        pairs: Sequence[tuple] = paired_files(args.low, args.high)
    elif paired := suite.needed("target"):
        raise ValueError(f"{', '.join(paired)}: this needs HIGH, the folder of references")
    else:
        pairs = [(path, None) for path in picture_files(args.low)]
    return [(str(low), _reader(low, high)) for low, high in pairs]


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
    if args.sequences and scale > 1:
        raise ValueError(
            f"--sequences: the references have the size of the pictures, and {next(iter(scales))} enlarges"
        )
    raw = "raw input" if scale == 1 else f"raw input, bicubic x{scale}"
    return {raw: lambda pixels: enlarged(pixels, scale), **enhancers}


def _print(scores: Scores, suite: QualitySuite, exposed: Mapping[str, ExposedPicture], described: bool) -> None:
    if exposed:
        _print_exposures(scores, suite, exposed)
    else:
        paired = any(meter.beside == "target" for meter in suite.meters.values())
        print(f"{len(scores.names)} {'pairs' if paired else 'pictures'}")
        for row, added in scores.rows.items():
            print(f"{suite.line(suite.summarise(added))}  {row}")
    for row, added in scores.rows.items():
        for metric, text in suite.undefined(added, scores.names).items():
            print(f"{metric} of {row}: {text}")
    for metric, text in suite.describe().items() if described else ():
        print(f"{metric}: {text}")


def _print_exposures(scores: Scores, suite: QualitySuite, exposed: Mapping[str, ExposedPicture]) -> None:
    pictures = [exposed[name] for name in scores.names]
    print(f"{len({picture.reference for picture in pictures})} scenes, {len(pictures)} pictures")
    print(exposure_tables(scores, pictures, suite), end="")


def _written(scores: Scores, suite: QualitySuite, exposed: Mapping[str, ExposedPicture]) -> dict[str, Any]:
    """Collect the scores of each picture for JSON; an undefined or infinite score is None."""
    single = [name for name, meter in suite.meters.items() if meter.of_pictures]
    pictures = []
    for number, name in enumerate(scores.names):
        rows = {row: {key: plain_number(added[number][key]) for key in single} for row, added in scores.rows.items()}
        of = exposed.get(name)
        place = {} if of is None else dict(reference=of.reference, stops=of.stops)
        pictures.append(dict(name=name if of is None else of.name, **place, scores=rows))
    return dict(metrics=suite.describe(), pictures=pictures)
