"""Enhance a picture, a folder or a video.

If SRC is a folder, OUT gets the same subfolders. Files that are not pictures are left out. Videos are left out too:
each video needs its own call. Pictures keep their depth, grey, alpha channel, EXIF and colour profile as far as the
format of the result can hold them. Inputs are never overwritten. With --resume, results that exist are kept, whichever
weights and options made them. Files that hold several pictures (animations, stacks of pages) are reported as failed.
Links to folders outside of SRC are not followed, and are reported as failed too. If a killed run left unfinished files
of the same results, they are removed.

If PyAV is installed (pip install "llie-preproc[video]"), the frames of a video keep the times at which players show
them, and sound and subtitles are copied as they are. Without PyAV, only the frames are written, at one frame rate, and
videos with uneven frame times are refused. The command says what the source has and the result lacks.

Processes that torchrun, SLURM or Open MPI started share the pictures, batch by batch. Together they write what one
process would write. Examples: 'torchrun --nproc_per_node 4 --no-python llie enhance SRC --out OUT --launcher pytorch',
'srun -n 4 llie enhance SRC --out OUT --launcher slurm'. All processes must see the same files. A video is one file: the
first process enhances it, and the others wait.

Exit status: 0, all is done; 1, some pictures or folders failed (they are listed at the end, and all others are done);
2, the call is wrong, the video failed, the disk of OUT is full or read-only, or another process was lost; 130, the
command was interrupted. After 2 and 130, the files that were written are whole, and --resume does the rest. Processes
that share the work end with the same status.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import video
from ..enhance_files import MAX_WHOLE_PIXELS, Plan, enhance_files, plan_jobs
from ..enhancers import Enhancer
from ..inference import FrozenEnhancer
from ..pictures import MAX_PIXELS, SUFFIXES
from ..work_sharing import LostRankError, Ranks, join_ranks
from .arguments import (
    add_device,
    add_enhancer,
    add_inference_options,
    add_launcher,
    add_resume,
    device_of,
    inference_options,
    positive,
    trained_enhancer,
)
from .program import FAILED, resumable, say_failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("src", metavar="SRC", help="picture, folder, or video")
    # This stays a text, because a path would lose the '/' at the end that marks a folder.
    parser.add_argument(
        "--out",
        required=True,
        help="file to write, or folder to write into (if SRC is a file, the folder must exist or end in '/')",
    )
    add_enhancer(parser)
    add_device(parser, "the network runs")
    add_inference_options(parser)
    parser.add_argument(
        "--max-pixels",
        type=positive,
        metavar="N",
        help="limit of a picture's or frame's width times height; larger ones are only reported (default: "
        f"{MAX_WHOLE_PIXELS}; for videos, and with --tile or --map-side, which bound the memory, {MAX_PIXELS})",
    )
    parser.add_argument(
        "--format", choices=["bmp", "jpg", "png", "tif", "webp"], help="format of the pictures to write"
    )
    existing = parser.add_mutually_exclusive_group()
    add_resume(existing)
    existing.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument(
        "--ignore-orientation",
        action="store_true",
        help="leave pictures as they are stored, whatever orientation their EXIF declares",
    )
    add_launcher(parser)


def run(args: argparse.Namespace) -> int:
    """Enhance what the command line names, and return the exit status."""
    with resumable("--resume goes on"), join_ranks(args.launcher) as ranks:
        return _enhance_shared(args, ranks)


def _enhance_shared(args: argparse.Namespace, ranks: Ranks) -> int:
    if not args.src or not args.out:
        raise ValueError("SRC and --out must not be empty")
    is_video = not Path(args.src).is_dir() and Path(args.src).suffix.lower() in video.SUFFIXES
    if is_video and args.format:
        raise ValueError("--format is for pictures; the suffix of --out chooses the format of a video")
    plan = plan_jobs(
        args.src,
        args.out,
        format=args.format,
        resume=args.resume,
        overwrite=args.overwrite,
        suffixes=video.written_suffixes() if is_video else SUFFIXES,
    )
    if not plan.jobs and not plan.skipped and not plan.problems:
        raise ValueError(f"{args.src} holds no pictures ({plan.ignored} other files)")
    chosen, device = inference_options(args), device_of(args)
    enhancer = trained_enhancer(args).to(device)
    # This finds out whether the network runs before any file is touched.
    FrozenEnhancer(enhancer, chosen)(np.zeros((1, 1, 3), np.uint8))
    plan.remove_leftovers()
    # No process may write before all have planned, because results that exist change the plans.
    ranks.require_same("what they find in SRC and --out", _digest(plan))
    options = dict(chosen.keywords(), ignore_orientation=args.ignore_orientation)
    if args.max_pixels:
        options["max_pixels"] = args.max_pixels
    return (_enhance_videos if is_video else _enhance_pictures)(plan, enhancer, options, ranks)


def _digest(plan: Plan) -> str:
    digest = hashlib.sha256()
    for job in plan.jobs:
        digest.update(os.fsencode(job.source) + b"\0" + os.fsencode(job.target) + b"\0")
    for problem in plan.problems:
        digest.update(os.fsencode(problem) + b"\0")
    return digest.hexdigest()


def _enhance_pictures(plan: Plan, enhancer: Enhancer, options: dict[str, Any], ranks: Ranks) -> int:
    failed: list[str] = []
    with tqdm(total=len(plan.jobs), unit="picture", disable=None if ranks.main else True) as bar:
        try:
            for job, reason in enhance_files(plan.jobs, enhancer, ranks=ranks, **options):
                if reason is not None:
                    failed.append(f"{job.source}: {reason}")
                ranks.tally("done" if reason is None else "failed")
                _show(bar, ranks)
            failed = sorted(itertools.chain.from_iterable(ranks.gather(failed)))
            _show(bar, ranks)
        finally:
            bar.close()
            with contextlib.suppress(LostRankError):
                _report(plan, ranks, failed)
    return FAILED if failed or plan.problems else 0


def _show(bar: tqdm, ranks: Ranks) -> None:
    """Show the progress of all ranks, on the rank that has the progress bar."""
    if not bar.disable:
        bar.update(ranks.tally("done", 0) + ranks.tally("failed", 0) - bar.n)


def _report(plan: Plan, ranks: Ranks, failed: Sequence[str]) -> None:
    """Print, on the first rank, what all ranks have done."""
    if not ranks.main:
        return
    done, failures = ranks.tally("done", 0), ranks.tally("failed", 0)
    left = len(plan.jobs) - done - failures
    failures += len(plan.problems)
    counts = {
        "enhanced": done,
        "failed": failures,
        "not done (--resume goes on)": left,
        "existed already": plan.skipped,
        "other files left out": plan.ignored,
    }
    print("; ".join(f"{count} {what}" for what, count in counts.items() if count or what == "enhanced"), flush=True)
    if lines := [*plan.problems, *failed]:
        say_failed(f"{failures} of {len(plan.jobs) + len(plan.problems)} failed", lines)


def _enhance_videos(plan: Plan, enhancer: Enhancer, options: dict[str, Any], ranks: Ranks) -> int:
    if not ranks.main:
        return 0
    # FFmpeg's own messages are switched off, because problems that matter are raised as exceptions.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    for job in plan.jobs:
        with tqdm(total=video.declared_frames(job.source), unit="frame", disable=None) as bar:
            result = video.enhance_video(job.source, job.target, enhancer, progress=bar.update, **options)
        print(result)
        for sentence in result.lost:
            print(f"llie: warning: {job.source}: {sentence}", file=sys.stderr)
    return 0
