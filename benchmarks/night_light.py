"""The light of real night pictures, beside that of day pictures which a config's synthesis has made dark.

``python -m benchmarks.night_light --real NAME=FOLDER ... --day FOLDER [--config FILE] [--draws 2] [--seed 0]
[--json FILE]``

The synthesis is read from the config of a training. Its choices that darken are of two kinds: ``even``, without an
illumination that varies over the picture, and ``uneven``, with one. Each makes ``--draws`` pictures of each day picture
at that picture's own size. Then all pictures, real and made, are measured at one size: a picture whose shorter side
exceeds 480 pixels is shrunk to it by averaging areas. A smaller one stays as it is, because enlarging would smooth its
noise away; the other numbers hardly depend on the size.

The first table has the median over the pictures of each set, with the 10th and 90th percentile. The second has the
earth mover's distance between the sets' mean histograms of luma: the mean number of levels by which the pixels of one
would have to move to become the other. The distances between the real sets say how much such sets differ by themselves.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.night_light")

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from scipy.stats import wasserstein_distance
from tqdm import tqdm

from detection_eval.metrics.arrays import read_levels, to_bytes
from detection_eval.shared.provenance import versions
from detection_eval.shared.score_table import Numbers, markdown_table, plain_number
from llie_preproc.checks import at_least
from llie_preproc.config_files import read_config_file
from llie_preproc.files import write_json
from llie_preproc.luma import BT601
from llie_preproc.ops.sensor import srgb_to_linear
from llie_preproc.pictures import picture_files, read_rgb8
from llie_preproc.registry import TRANSFORMS
from llie_preproc.seeds import derive_seed
from training.datasets import LowLightSynthesis, RandomSynthesis

from .timing import machine

CONFIG = Path(__file__).parents[1] / "mm_configs" / "enhancers" / "detector_consistency_yolox-nano.py"
SIDE = 480
"""Shorter side, in pixels, to which larger pictures are shrunk."""
GRID = 8
"""Number of rows and of columns of blocks over which the light of a picture is compared."""
BINS = 8
"""Number of bins in which the tables show the histogram of luma."""
BLACK, WHITE = 8, 250
"""Luma up to which a pixel counts as black, and from which it counts as white."""

_LEVELS = np.arange(256)
_LIGHT = srgb_to_linear(_LEVELS / 255)
# Weights of red, green and blue in the luminance of linear sRGB (ITU-R BT.709).
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])
# Light of half a level. It bounds the logarithm of blocks that are black.
_LEAST = float(srgb_to_linear(np.array(0.5 / 255)))
# A second difference along both axes. Light that changes evenly gives 0, and noise of the deviation 1 gives 6.
_SECOND_DIFFERENCE = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
_NOISE_BLOCK, _FINE = 16, 4
# Mean luma of the blocks in which noise is measured. Below it, black would cut the noise off.
_DARK = (8, 64)
_FLATTEST = 0.25


@dataclass(frozen=True)
class Statistic:
    """A number that describes a picture.

    Attributes:
        title: Text of its row in the table.
        numbers: Format of the number.
    """

    title: str
    numbers: Numbers


STATISTICS: Mapping[str, Statistic] = {
    "mean": Statistic("mean luma", Numbers(0)),
    "black": Statistic(f"% of pixels at luma {BLACK} or below", Numbers(1, factor=100)),
    "white": Statistic(f"% of pixels at luma {WHITE} or above", Numbers(1, factor=100)),
    "spread": Statistic("spread of light over blocks, stops", Numbers(2)),
    "peak": Statistic("brightest block over median block, stops", Numbers(2)),
    "red": Statistic("red over green, stops", Numbers(2, sign="+")),
    "blue": Statistic("blue over green, stops", Numbers(2, sign="+")),
    "noise": Statistic("noise in dark flat blocks, levels", Numbers(2)),
}


@dataclass(frozen=True)
class Summary:
    """The light of a set of pictures.

    Attributes:
        pictures: Number of pictures.
        histogram: Mean of the pictures' histograms of luma, ``(256,)``, with the sum 1.
        statistics: Percentiles 10, 50 and 90 over the pictures of each of :data:`STATISTICS`; NaN if no picture has the
            statistic.
    """

    pictures: int
    histogram: np.ndarray
    statistics: Mapping[str, tuple[float, float, float]]

    def shares(self) -> np.ndarray:
        """The histogram in :data:`BINS` bins, ``(BINS,)``."""
        return self.histogram.reshape(BINS, -1).sum(axis=1)

    def plain(self) -> dict[str, Any]:
        """The summary as values for JSON."""
        keys = ("p10", "median", "p90")
        percentiles = {
            name: {key: plain_number(round(value, 4)) for key, value in zip(keys, values, strict=True)}
            for name, values in self.statistics.items()
        }
        return {"pictures": self.pictures, "luma_shares": self.shares().round(4).tolist(), **percentiles}


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """A picture ``(H, W, 3)`` whose shorter side is at most :data:`SIDE`, by averaging areas."""
    height, width = pixels.shape[:2]
    factor = SIDE / min(height, width)
    if factor >= 1:
        return pixels
    return cv2.resize(pixels, (round(factor * width), round(factor * height)), interpolation=cv2.INTER_AREA)


def picture_light(pixels: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The histogram of luma ``(256,)``, with the sum 1, and the :data:`STATISTICS` of a picture ``(H, W, 3)`` uint8."""
    luma = pixels @ np.array(BT601)
    histogram = np.bincount(luma.round().astype(np.uint8).ravel(), minlength=256) / luma.size
    light = _LIGHT[pixels]
    blocks = np.log2(cv2.resize(light @ _LUMINANCE, (GRID, GRID), interpolation=cv2.INTER_AREA).clip(_LEAST))
    red, green, blue = np.log2(light.mean(axis=(0, 1)).clip(_LEAST))
    return histogram, {
        "mean": float(luma.mean()),
        "black": float(histogram[: BLACK + 1].sum()),
        "white": float(histogram[WHITE:].sum()),
        "spread": float(blocks.std()),
        "peak": float(blocks.max() - np.median(blocks)),
        "red": float(red - green),
        "blue": float(blue - green),
        "noise": noise_level(luma),
    }


def noise_level(luma: np.ndarray) -> float:
    """The standard deviation of the noise in the dark, flat parts of a picture ``(H, W)``, in levels; NaN without any.

    It follows from the mean magnitude of second differences, which are 0 in even light (Immerkaer, "Fast noise variance
    estimation", 1996), in each block of 16x16 pixels. The result is the median over the flattest quarter of the dark
    blocks. How flat a block is, the means of its 4x4 pixels show, which noise hardly changes.
    """
    if min(luma.shape) < _NOISE_BLOCK:
        return float("nan")
    response = np.abs(cv2.filter2D(luma, cv2.CV_64F, _SECOND_DIFFERENCE))
    levels = _block_means(luma, _NOISE_BLOCK)
    fine = _block_means(luma, _FINE)[: levels.shape[0] * _FINE, : levels.shape[1] * _FINE]
    uneven = _block_means(fine**2, _NOISE_BLOCK // _FINE) - _block_means(fine, _NOISE_BLOCK // _FINE) ** 2
    dark = (levels >= _DARK[0]) & (levels <= _DARK[1])
    if not dark.any():
        return float("nan")
    flat = dark & (uneven <= np.quantile(uneven[dark], _FLATTEST))
    # The mean magnitude of a normal number is sqrt(2 / pi) of its deviation.
    return float(np.sqrt(np.pi / 2) / 6 * np.median(_block_means(response, _NOISE_BLOCK)[flat]))


def _block_means(values: np.ndarray, side: int) -> np.ndarray:
    """The means of whole blocks of ``side`` x ``side``."""
    rows, columns = (edge // side for edge in values.shape)
    return values[: rows * side, : columns * side].reshape(rows, side, columns, side).mean(axis=(1, 3))


def summarised(pictures: Iterable[np.ndarray]) -> Summary:
    """The light of pictures ``(H, W, 3)`` uint8 RGB, of which large ones are :func:`shrunk` first."""
    measured = [picture_light(shrunk(pixels)) for pixels in pictures]
    values = {name: np.array([each[name] for _, each in measured]) for name in STATISTICS}
    histogram = np.mean([each for each, _ in measured], axis=0)
    return Summary(len(measured), histogram, {name: _percentiles(each) for name, each in values.items()})


def _percentiles(values: np.ndarray) -> tuple[float, float, float]:
    defined = values[~np.isnan(values)]
    low, middle, high = np.quantile(defined, (0.1, 0.5, 0.9)) if len(defined) else (np.nan,) * 3
    return float(low), float(middle), float(high)


def levels_apart(one: Summary, other: Summary) -> float:
    """The earth mover's distance between the mean histograms of two sets, in levels."""
    return float(wasserstein_distance(_LEVELS, _LEVELS, one.histogram, other.histogram))


def dark_syntheses(config: str) -> dict[str, RandomSynthesis]:
    """The choices of a config's ``synthesis`` that darken: ``even`` without an illumination, ``uneven`` with one.

    Raises:
        ValueError: The config has no ``RandomSynthesis`` of this name, or it lacks one of the two kinds.
    """
    given = read_config_file(config).get("synthesis")
    synthesis = TRANSFORMS.build(given) if isinstance(given, dict) else given
    if not isinstance(synthesis, RandomSynthesis):
        raise ValueError(f"{config}: 'synthesis' must be the config of a RandomSynthesis, got {given!r}")
    kinds: dict[str, list[dict[str, Any]]] = {"even": [], "uneven": []}
    for share, steps in zip(synthesis.shares.tolist(), synthesis.steps, strict=True):
        darkening = [step for step in steps if isinstance(step, LowLightSynthesis)]
        if darkening:
            varies = any(step.illumination is not None for step in darkening)
            kinds["uneven" if varies else "even"].append(dict(share=share, steps=steps))
    for kind, found in kinds.items():
        if not found:
            raise ValueError(
                f"{config}: 'synthesis' must have a choice with a LowLightSynthesis that has "
                f"{'an' if kind == 'uneven' else 'no'} illumination ({kind}); it has none"
            )
    return {kind: RandomSynthesis(found) for kind, found in kinds.items()}


def darkened(
    files: Sequence[Path], synthesis: Callable[[torch.Tensor], torch.Tensor], draws: int, seed: int
) -> Iterator[np.ndarray]:
    """The pictures ``(H, W, 3)`` uint8 that a synthesis makes of each file, ``draws`` of each.

    Each draw has a seed of its own, so that syntheses which draw the exposure first draw the same exposures.
    """
    for number, file in enumerate(files):
        picture = read_levels(file)
        for draw in range(draws):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(derive_seed(seed, number, draw))
                dark = synthesis(picture)
            yield to_bytes(dark)


def tables(sets: Mapping[str, Summary], real: Sequence[str]) -> str:
    """The two tables in Markdown.

    Args:
        sets: Summaries by name.
        real: Names of those sets to which the second table has the distances of all sets.
    """
    head = ["", *(f"{name} ({each.pictures})" for name, each in sets.items())]
    lines = [
        [statistic.title, *(_with_range(statistic.numbers, each.statistics[name]) for each in sets.values())]
        for name, statistic in STATISTICS.items()
    ]
    shares = [[Numbers(1, factor=100).text(share) for share in each.shares()] for each in sets.values()]
    width = 256 // BINS
    for at, line in enumerate(zip(*shares, strict=True)):
        lines.append([f"% of luma {at * width} to {(at + 1) * width - 1}", *line])
    apart = [
        [name, *(Numbers(1).text(levels_apart(each, sets[other])) for other in real)] for name, each in sets.items()
    ]
    return "\n".join([markdown_table([head, *lines]), markdown_table([["levels apart", *real], *apart])])


def _with_range(numbers: Numbers, values: tuple[float, float, float]) -> str:
    low, middle, high = map(numbers.text, values)
    return f"{middle} [{low}, {high}]"


def named_folder(text: str) -> tuple[str, str]:
    """The two parts of ``NAME=FOLDER``.

    Raises:
        ArgumentTypeError: The text is another one.
    """
    name, _, folder = text.partition("=")
    if not name or not folder:
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER, got {text!r}")
    return name, folder


def main() -> None:
    """Measure, print the tables, and write the numbers as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=named_folder, nargs="+", required=True, metavar="NAME=FOLDER")
    parser.add_argument("--day", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--config", default=str(CONFIG), metavar="FILE", help="config with the synthesis")
    parser.add_argument("--draws", type=int, default=2, help="pictures that each synthesis makes of a day picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    at_least("--draws", args.draws, 1)
    at_least("--seed", args.seed, 0)
    syntheses = dark_syntheses(args.config)
    names = [name for name, _ in args.real]
    if len({*names, "day", *syntheses}) < len(names) + 1 + len(syntheses):
        raise ValueError(f"--real must have different names, none of them day, even or uneven, got {', '.join(names)}")
    day = picture_files(args.day)
    real = {name: picture_files(folder) for name, folder in args.real}
    sets = {name: summarised(map(read_rgb8, tqdm(files, desc=name))) for name, files in (real | {"day": day}).items()}
    for kind, synthesis in syntheses.items():
        sets[kind] = summarised(darkened(tqdm(day, desc=kind), synthesis, args.draws, args.seed))
    print(tables(sets, list(real)), end="")
    if args.json:
        distances = {
            name: {other: round(levels_apart(each, sets[other]), 2) for other in real} for name, each in sets.items()
        }
        write_json(
            args.json,
            {
                "what": f"real night pictures, day pictures, and {args.draws} dark pictures made of each of these; "
                f"shorter side at most {SIDE}; seed {args.seed}",
                "config": Path(args.config).name,
                "machine": machine(torch.device("cpu")),
                **versions(["torch", "numpy", "cv2", "scipy"]),
                "sets": {name: each.plain() for name, each in sets.items()},
                "levels_apart": distances,
            },
        )
