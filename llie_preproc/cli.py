"""The ``llie`` command."""

from __future__ import annotations

from .commands.program import FAILED, Parser, importing, launch, resumable, run

if __name__ == "__main__":
    launch("llie_preproc.cli", "llie")

import argparse
import contextlib
import hashlib
import itertools
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from . import video
from .batch import MAX_WHOLE_PIXELS, Job, Plan, check_targets, enhance_files, plan_jobs
from .checkpoints import load_checkpoint, save_state_dict, shipped_weights
from .checks import printable
from .complexity import complexity
from .enhancers import Enhancer
from .enhancers.build import DEFAULT_WEIGHTS, build_enhancer
from .enhancers.names import enhancer_classes
from .errors import MissingExtraError, weights_named_by
from .export import check_exportable, export_onnx
from .files import remove_leftovers
from .inference import enhance
from .pictures import MAX_PIXELS, SUFFIXES
from .ranks import LAUNCHERS, LostRankError, Ranks, join_ranks
from .version import __version__

COMMANDS = "llie_preproc.commands"
"""Entry-point group of further subcommands: functions that take argparse's subparsers and add one."""

_LISTED_SIZE = 256

_ENHANCE_HELP = """\
Enhance a picture, a folder tree of pictures, or a video.

A tree is mirrored below DST; files in it that are no pictures (videos too: they go one by one) are left out.
Pictures keep their depth, grey, alpha channel, EXIF and colour profile as far as the format of the result holds
them. Inputs are never overwritten.
Files that hold several pictures (animations, stacks of pages) are reported as failed; so are links to folders outside
of SRC, which are not followed. What an earlier run that was killed left of the same results is removed.

Frames of a video keep the times at which players show them, and sound and subtitles are copied as they are, where PyAV
is installed (pip install "llie-preproc[video]"). Without it the frames alone are carried, at one frame rate, and videos
of uneven frame times are refused. What a result lacks of its video is said.

Processes that torchrun, SLURM or Open MPI started share the pictures, batch by batch, and write what one process
writes: 'torchrun --nproc_per_node 4 --no-python llie enhance SRC DST --launcher pytorch', 'srun -n 4 llie enhance SRC
DST --launcher slurm'. All must see the same files. A video is one file: the first process enhances it, and the others
wait.
"""
_ENHANCE_END = """\
exit status: 0 all is done; 1 some pictures or folders failed (they are listed at the end, the others are done); 2 the
call is wrong, the video failed, the disk of DST is full or read-only, or another process was lost; 130 interrupted.
After 2 and 130 what is written is whole, and --resume goes on. Processes that share the work end with one status.
"""


class _Parser(Parser):
    prefix = "llie: "


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``llie`` command; returns its exit status."""
    return run(partial(_main, sys.argv[1:] if argv is None else list(argv)), "llie")


def _main(arguments: Sequence[str]) -> int:
    # The parser imports the command.
    with importing():
        args = _parser(arguments).parse_args(arguments)
    return args.run(args)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="llie", description="Low-light and extreme-light enhancement.")
    parser.add_argument("--version", action="version", version=f"llie {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_enhance(commands)
    _add_list(commands)
    _add_convert(commands)
    _add_export(commands)
    for entry in sorted(entry_points(group=COMMANDS), key=lambda entry: entry.name):
        if entry.name in arguments[:1]:
            entry.load()(commands)
        else:
            # Loading may take seconds, or an extra that is not installed: only who asks for it pays.
            commands.add_parser(entry.name, help=f"see 'llie {entry.name} --help'", add_help=False)
    return parser


def _add_enhance(commands: Any) -> None:
    parser = commands.add_parser(
        "enhance",
        help="enhance a picture, a folder or a video",
        description=_ENHANCE_HELP,
        epilog=_ENHANCE_END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("src", metavar="SRC", help="a picture, a folder, or a video")
    parser.add_argument("dst", metavar="DST", help="a file, or a folder (for a file: one that exists or ends in '/')")
    parser.add_argument("--enhancer", default="PSENet", help="a name that 'llie list' shows (default: %(default)s)")
    parser.add_argument(
        "--checkpoint", default=DEFAULT_WEIGHTS, help="shipped weights, a file, or a URL that ends in '#sha256=...'"
    )
    parser.add_argument("--device", help="for example cpu or cuda:1 (default: cuda where there is one)")
    parser.add_argument(
        "--batch-size", type=_positive, default=8, help="pictures of one size that run together (default: %(default)s)"
    )
    parser.add_argument("--precision", default="float32", help="float32, bfloat16 or float16 (default: %(default)s)")
    parser.add_argument(
        "--tile", type=_positive, metavar="N", help="enhance in tiles of at most NxN pixels, which takes less memory"
    )
    parser.add_argument(
        "--map-side",
        type=_positive,
        metavar="N",
        help="of a network that predicts curves: predict them on the picture shrunk to N pixels a side",
    )
    parser.add_argument(
        "--max-pixels",
        type=_positive,
        metavar="N",
        help="limit of a picture's or frame's width times height; larger ones are reported, not read (default: "
        f"{MAX_WHOLE_PIXELS}; for videos, and with --tile or --map-side, which bound a network's memory, {MAX_PIXELS})",
    )
    parser.add_argument("--format", choices=["bmp", "jpg", "png", "tif", "webp"], help="write pictures of this kind")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="keep results that exist, and do the others")
    existing.add_argument("--overwrite", action="store_true", help="write results that exist anew")
    parser.add_argument(
        "--ignore-orientation", action="store_true", help="keep the stored frame: do not turn it upright"
    )
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default="none", help="what started the processes that share the pictures"
    )
    parser.set_defaults(run=_enhance)


def _add_list(commands: Any) -> None:
    parser = commands.add_parser("list", help="list the enhancers and their weights")
    parser.add_argument("--backends", action="store_true", help="list what can compute the selective scan instead")
    parser.set_defaults(run=_list)


def _add_convert(commands: Any) -> None:
    parser = commands.add_parser(
        "convert",
        help="turn a checkpoint into safetensors",
        description="Turn public weights or a training checkpoint into a safetensors file of the enhancer alone.",
    )
    parser.add_argument("src", metavar="SRC", help="a checkpoint: a file, or a URL that ends in '#sha256=...'")
    parser.add_argument("dst", metavar="DST", help="the file to write, ending in .safetensors")
    parser.add_argument("--enhancer", required=True, help="whose weights SRC holds, for example PSENet")
    parser.add_argument("--overwrite", action="store_true", help="replace DST where it exists")
    parser.set_defaults(run=_convert)


def _add_export(commands: Any) -> None:
    parser = commands.add_parser(
        "export",
        help="write an enhancer as an ONNX graph",
        description="Write an enhancer as an ONNX graph that takes any size that the enhancer does (or only the one "
        "given), after ONNX Runtime computed the same with it as PyTorch.",
    )
    parser.add_argument("dst", metavar="DST", help="the file to write, ending in .onnx")
    parser.add_argument("--enhancer", required=True, help="a name that 'llie list' shows")
    parser.add_argument(
        "--checkpoint", default=DEFAULT_WEIGHTS, help="shipped weights, a file, or a URL that ends in '#sha256=...'"
    )
    parser.add_argument("--height", type=_positive, help="the only height that the graph takes (with --width)")
    parser.add_argument("--width", type=_positive, help="the only width that the graph takes (with --height)")
    parser.add_argument("--overwrite", action="store_true", help="replace DST where it exists")
    parser.set_defaults(run=_export)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _enhance(args: argparse.Namespace) -> int:
    with resumable("--resume goes on"), join_ranks(args.launcher) as ranks:
        return _enhance_shared(args, ranks)


def _enhance_shared(args: argparse.Namespace, ranks: Ranks) -> int:
    is_video = not Path(args.src).is_dir() and Path(args.src).suffix.lower() in video.SUFFIXES
    if is_video and args.format:
        raise ValueError("--format is for pictures; the suffix of DST chooses the format of a video")
    plan = plan_jobs(
        args.src,
        args.dst,
        format=args.format,
        resume=args.resume,
        overwrite=args.overwrite,
        suffixes=video.written_suffixes() if is_video else SUFFIXES,
    )
    if not plan.jobs and not plan.skipped and not plan.problems:
        raise ValueError(f"{args.src} holds no pictures ({plan.ignored} other files)")
    enhancer = _to_device(_trained_enhancer(args), args.device)
    # Finds out what cannot run before any file is touched.
    enhance(np.zeros((1, 1, 3), np.uint8), enhancer, precision=args.precision, tile=args.tile, map_side=args.map_side)
    plan.remove_leftovers()
    # Nobody writes before all have planned: results that exist would change the plans.
    ranks.require_same("what they find in SRC and DST", _digest(plan))
    options = {k: getattr(args, k) for k in ("batch_size", "precision", "tile", "map_side", "ignore_orientation")}
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
    """The progress of all ranks, on the one that shows it."""
    if not bar.disable:
        bar.update(ranks.tally("done", 0) + ranks.tally("failed", 0) - bar.n)


def _report(plan: Plan, ranks: Ranks, failed: Sequence[str]) -> None:
    """What all ranks have done, by the first of them."""
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
    lines = [printable(line) for line in (*plan.problems, *failed)]
    if lines:
        count = f"{failures} of {len(plan.jobs) + len(plan.problems)}"
        print(f"llie: {count} failed:", *lines, sep="\n  ", file=sys.stderr, flush=True)


def _enhance_videos(plan: Plan, enhancer: Enhancer, options: dict[str, Any], ranks: Ranks) -> int:
    if not ranks.main:
        return 0
    # FFmpeg's own messages: what matters of them comes as an exception.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    for job in plan.jobs:
        with tqdm(total=video.declared_frames(job.source), unit="frame", disable=None) as bar:
            result = video.enhance_video(job.source, job.target, enhancer, progress=bar.update, **options)
        print(result)
        for sentence in result.lost:
            print(f"llie: warning: {job.source}: {sentence}", file=sys.stderr)
    return 0


def _trained_enhancer(args: argparse.Namespace) -> Enhancer:
    """The enhancer that the options name; never with random weights."""
    with weights_named_by("--checkpoint"):
        return _build(args.enhancer, args.checkpoint)


def _to_device(enhancer: Enhancer, name: str | None) -> Enhancer:
    device = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return enhancer.to(device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: {str(error).splitlines()[0]}") from error


def _build(name: str, checkpoint: str | None) -> Enhancer:
    try:
        return build_enhancer(name, checkpoint)
    except KeyError as error:
        raise ValueError(error.args[0]) from error


def _list(args: argparse.Namespace) -> int:
    _print_table(_backends() if args.backends else _enhancers())
    return 0


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _enhancers() -> list[tuple[str, ...]]:
    size = f"{_LISTED_SIZE}x{_LISTED_SIZE}"
    rows: list[tuple[str, ...]] = [("ENHANCER", "PARAMETERS", f"MACS@{size}", "SCALE", "WEIGHTS", "LICENCE OF WEIGHTS")]
    for name in sorted(enhancer_classes()):
        rows += _rows(name)
    return rows


def _rows(name: str) -> list[tuple[str, ...]]:
    """A line for each set of weights, or one for an enhancer that has or needs none."""
    try:
        enhancer = build_enhancer(name, checkpoint=None)
    except MissingExtraError as error:
        return [(name, "?", "?", "?", str(error), "-")]
    size = complexity(enhancer, _LISTED_SIZE, _LISTED_SIZE)
    described = (name, f"{size.parameters:,}", _abbreviated(size.macs), str(enhancer.scale))
    shipped = [
        (f"{w.name} (default)" if w.default else w.name, w.licence) for w in shipped_weights() if w.enhancer == name
    ]
    return [(*described, *weights) for weights in shipped or [(_without_own_weights(enhancer), "-")]]


def _without_own_weights(enhancer: Enhancer) -> str:
    if enhancer.members:
        return "its members'"
    return "none shipped" if any(True for _ in enhancer.parameters()) else "not needed"


def _abbreviated(count: int | None) -> str:
    """With the letter of a power of ten: 1770595434 is ``1.77 G``. None is ``-``."""
    if count is None:
        return "-"
    for unit, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= unit:
            return f"{count / unit:.2f} {letter}"
    return str(count)


def _backends() -> list[tuple[str, ...]]:
    from .ops import scan_backends

    rows = [(b.name, "yes" if b.available else "no", b.reason) for b in scan_backends()]
    return [("BACKEND", "AVAILABLE", "ABOUT"), *rows]


def _convert(args: argparse.Namespace) -> int:
    target = _free_target(args, args.src, ".safetensors")
    enhancer = _build(args.enhancer, None)
    report = load_checkpoint(enhancer, args.src)
    digest = save_state_dict(enhancer.state_dict(), target, {"enhancer": type(enhancer).__name__})
    print(f"{report}; wrote {printable(str(target))}, sha256 {digest}")
    return 0


def _export(args: argparse.Namespace) -> int:
    if (args.height is None) != (args.width is None):
        raise ValueError("--height and --width go together")
    target = _free_target(args, args.checkpoint, ".onnx")
    size = (args.height, args.width) if args.height else None
    # Before asking for weights of a network that cannot be exported anyway.
    check_exportable(_build(args.enhancer, None))
    export_onnx(_trained_enhancer(args), target, size=size)
    sizes = f"{size[0]}x{size[1]}" if size else "any size"
    print(f"wrote {printable(str(target))}, which takes {sizes}; ONNX Runtime agrees")
    return 0


def _free_target(args: argparse.Namespace, source: str, suffix: str) -> Path:
    """``args.dst``, where it may be written."""
    target = Path(args.dst)
    check_targets([Job(Path(source), target)], [suffix])
    if os.path.lexists(target) and not args.overwrite:
        raise ValueError(f"{target} exists already: --overwrite replaces it")
    remove_leftovers([target])
    return target
