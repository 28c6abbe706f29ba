"""Enhance the pictures of a detector's config ahead of its training.

Enhance the pictures of each dataset of CONFIG whose pipeline has an Enhance transform with a cache_dir, and keep the
results where the data loaders' workers look for them. Results that exist already are not made again. Pictures that
cannot be read are listed at the end, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from llie_preproc.commands.arguments import add_cfg_options, add_device, add_launcher, device_of
from llie_preproc.commands.program import FAILED, resumable, say_failed
from llie_preproc.errors import Extras
from llie_preproc.work_sharing import join_ranks

NEEDS = Extras("mm")
with NEEDS:
    from llie_preproc.config_files import naming_missing_files, read_config_file

    from ..shared.fill_cache import CacheReport, fill_cache


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("config", metavar="CONFIG", help="MMDetection config with the datasets")
    add_cfg_options(parser)
    add_device(parser, "the enhancer runs")
    add_launcher(parser)


def run(args: argparse.Namespace) -> int:
    """Fill the caches of the config that the command line names; returns the exit status."""
    with resumable("the same command goes on"), join_ranks(args.launcher) as ranks:
        cfg = read_config_file(args.config, args.cfg_options)
        with naming_missing_files(cfg):
            report = _sum(ranks.gather(asdict(fill_cache(cfg, device_of(args), ranks, progress=ranks.main))))
        if ranks.main:
            _print(report)
    return FAILED if report.failed else 0


def _sum(reports: Sequence[Mapping[str, Any]]) -> CacheReport:
    """Sum the reports of all ranks, which worked at the same time."""
    return CacheReport(
        found=sum(each["found"] for each in reports),
        made=sum(each["made"] for each in reports),
        seconds=max(each["seconds"] for each in reports),
        failed=sorted(line for each in reports for line in each["failed"]),
    )


def _print(report: CacheReport) -> None:
    print(f"{report.made} enhanced, {report.found} there already, {report.seconds:.1f} s", flush=True)
    if report.failed:
        total = report.made + report.found + len(report.failed)
        say_failed(f"{len(report.failed)} of {total} failed", report.failed)
