"""FDDB's discrete and continuous ROC of saved detections.

Score detections on FDDB as its own program does: rectangles or ellipses against the annotated ellipses, with one ROC
over all folds. Boxes are clipped at the border of their picture, so exact numbers need the sizes of the pictures, from
--images or --sizes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from llie_preproc.commands.arguments import add_out
from llie_preproc.errors import Extras
from llie_preproc.files import write_texts

from ..datasets.fddb import FOLDS, picture_sizes, read_detections, read_fddb
from ..metrics.hints import print_hints

NEEDS = Extras("mm")
with NEEDS:
    from ..metrics.fddb import KINDS, FddbRoc, fddb_roc, mean_curve, mean_rate_at, ten_fold

# PSENet's paper compares rates at this number.
_FALSE_POSITIVES = 500
# The name of the file of each kind of curve, in the order of KINDS.
_FILES = ("DiscROC.txt", "ContROC.txt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("annotations", type=Path, metavar="FOLDS", help="folder of FDDB-fold-XX-ellipseList.txt")
    parser.add_argument(
        "detections", type=Path, metavar="DETECTIONS", help="folder of fold-XX-out.txt, or one file in that layout"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of the pictures, to read their sizes")
    parser.add_argument(
        "--sizes",
        type=Path,
        metavar="CSV",
        help="table of the sizes of the pictures, with the columns image,width,height",
    )
    add_out(parser, f"folder for {' and '.join(_FILES)} (default: they are not written)")
    parser.add_argument(
        "--folds",
        type=int,
        nargs="+",
        choices=FOLDS,
        metavar="N",
        help="numbers of the folds to score, 1 to 10 (default: all)",
    )
    parser.add_argument(
        "--fp",
        type=int,
        nargs="+",
        default=[_FALSE_POSITIVES],
        metavar="N",
        help=f"numbers of false positives at which rates are printed (default: {_FALSE_POSITIVES})",
    )
    parser.add_argument(
        "--ten-fold", action="store_true", help="also compute the ROC of each fold alone, and the mean of their rates"
    )


def run(args: argparse.Namespace) -> int:
    """Print the rates that the command line asks for, and write the ROC if ``--out`` is given."""
    truth = read_fddb(args.annotations)
    found = read_detections(args.detections)
    sizes = picture_sizes(truth, args.images, args.sizes)
    try:
        roc = fddb_roc(truth, found, sizes, args.folds)
    except ValueError as error:
        raise ValueError(f"{args.detections}, scored by {args.annotations}: {error}") from None
    _print_roc(roc, args.fp)
    rocs = {}
    if args.ten_fold:
        folds = sorted(set(args.folds or truth.folds.values()))
        rocs = dict(zip(folds, ten_fold(truth, found, sizes, folds), strict=True))
        _print_folds(rocs, args.fp)
    if roc.caution:
        print(f"\n{roc.caution}")
    print_hints(roc.hints)
    if args.out is not None:
        _write(args.out.expanduser(), roc, rocs)
    return 0


def _print_roc(roc: FddbRoc, false_positives: Sequence[int]) -> None:
    found, false = int(roc.true_positives[0]), int(roc.false_positives[0])
    print(f"{roc.pictures} pictures, {roc.faces} faces, {found + false} detections: {found} true, {false} false")
    print(f"\n{'true positive rate':<24}{KINDS[0]:>12}{KINDS[1]:>12}")
    for number in false_positives:
        _print_rates(f"at {number} false positives", [roc.rate_at(number, kind) for kind in KINDS])
    _print_rates("of all detections", [roc.discrete[0], roc.continuous[0]])


def _print_folds(rocs: dict[int, FddbRoc], false_positives: Sequence[int]) -> None:
    for number in false_positives:
        title = f"{number} in each fold"
        print(f"\n{title:<24}{KINDS[0]:>12}{KINDS[1]:>12}")
        for fold, roc in rocs.items():
            _print_rates(f"fold {fold}", [roc.rate_at(number, kind) for kind in KINDS])
        _print_rates("mean", [mean_rate_at(list(rocs.values()), number, kind) for kind in KINDS])


def _print_rates(title: str, rates: Sequence[float]) -> None:
    print(f"{title:<24}" + "".join(f"{rate:>12.6f}" for rate in rates))


def _write(folder: Path, roc: FddbRoc, rocs: dict[int, FddbRoc]) -> None:
    texts = roc.texts(*(folder / name for name in _FILES))
    for fold, each in rocs.items():
        texts |= each.texts(*(folder / f"fold-{fold:02d}-{name}" for name in _FILES))
    for kind, name in zip(KINDS, _FILES, strict=True) if rocs else ():
        points = zip(*mean_curve(list(rocs.values()), kind), strict=True)
        texts[folder / f"mean-{name}"] = "".join(f"{rate:g} {number}\n" for number, rate in reversed(list(points)))
    write_texts(texts)
