"""The flags and checks of commands that measure a test set along an axis of light."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from llie_preproc.commands.arguments import Once, number, path
from llie_preproc.ops.sensor import SENSOR

from ..compare.light_axis import ExposureAxis, GammaAxis, LightAxis, digits
from .gammas import add_convention

# Flags that belong to one kind of axis, by the flag that asks for it.
_BELONGS = {"exposures": ("full_well", "read_noise", "noise_seed", "photographs"), "gammas": ("convention",)}


def add_lights(parser: argparse.ArgumentParser) -> None:
    """Add ``--exposures`` and ``--gammas``, one of which may be given, and the settings of both."""
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--exposures",
        nargs="+",
        type=number,
        action=Once,
        metavar="EV",
        help="exposures at which a simulated camera photographs the test set again, to measure AP at each; -3 is an "
        "eighth of the light, and 0 is the pictures as they are",
    )
    kinds.add_argument(
        "--gammas",
        nargs="+",
        type=number,
        action=Once,
        metavar="G",
        help="gammas by which the test set is darkened or brightened, to measure AP at each; 1 is the pictures as "
        "they are",
    )
    add_convention(parser, default=None)
    parser.add_argument(
        "--full-well",
        type=float,
        metavar="N",
        help=f"number of electrons that the camera of --exposures reads as white; fewer are noisier (default: "
        f"{SENSOR.full_well:g})",
    )
    parser.add_argument(
        "--read-noise",
        type=float,
        metavar="N",
        help=f"standard deviation of the noise that the camera's reading adds, in electrons (default: "
        f"{SENSOR.read_noise:g})",
    )
    parser.add_argument("--noise-seed", type=int, metavar="N", help="seed of the camera's noise (default: 0)")
    parser.add_argument(
        "--photographs",
        type=path,
        metavar="DIR",
        help="folder that keeps the pictures of --exposures, which several comparisons may share (default: photographs "
        "in --out)",
    )


def light_axis(args: argparse.Namespace) -> tuple[LightAxis | None, list[float]]:
    """Return the axis of a command line and the places on it, in the order of tables; ``(None, [])`` without an axis.

    Raises:
        ValueError: A place or a setting is wrong, a place is named twice, a setting belongs to no axis that the command
            line names, or ``--photographs`` names something else than a folder.
    """
    for kind, names in _BELONGS.items():
        if getattr(args, kind) is None and (given := [name for name in names if getattr(args, name) is not None]):
            raise ValueError(f"--{given[0].replace('_', '-')} needs --{kind}")
    if args.exposures is not None:
        if args.photographs and os.path.lexists(args.photographs) and not args.photographs.is_dir():
            raise ValueError(f"--photographs {args.photographs}: expected a folder, or a path that does not exist")
        names = ("full_well", "read_noise", "noise_seed")
        settings = {name: value for name in names if (value := getattr(args, name)) is not None}
        return _checked(ExposureAxis(**settings), args.exposures)
    if args.gammas is not None:
        return _checked(GammaAxis(args.convention or "power"), args.gammas)
    return None, []


def _checked(axis: LightAxis, lights: Sequence[float]) -> tuple[LightAxis, list[float]]:
    for light in lights:
        try:
            axis.require(light)
        except ValueError as error:
            # A message begins with the name of what is wrong: a setting of the axis, or else the light.
            wrong = str(error).split()[0]
            flag = wrong.replace("_", "-") if wrong in _BELONGS[axis.kind] else axis.kind
            raise ValueError(f"--{flag}: {error}") from None
    if len(set(lights)) < len(lights):
        raise ValueError(f"--{axis.kind} names one twice: {' '.join(map(digits, lights))}")
    # Adding 0 turns -0.0 into 0.0.
    return axis, sorted((light + 0.0 for light in lights), key=axis.place)
