"""The light as an axis of a comparison: exposures of a camera, or gamma shifts, at which the test set is measured."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from llie_preproc.exposures import Exposure
from llie_preproc.gamma_shift import exponent, shift_gamma
from llie_preproc.ops.sensor import SENSOR, Sensor


@dataclass(frozen=True)
class ExposureAxis:
    """Exposures in EV, at which a camera photographs the test set again (:class:`llie_preproc.exposures.Exposure`).

    Attributes:
        full_well: Number of electrons that reads as white.
        read_noise: Standard deviation of the noise that reading adds, in electrons.
        noise_seed: Seed of the noise.
    """

    kind: ClassVar[str] = "exposures"
    as_is: ClassVar[float] = 0.0
    title: ClassVar[str] = "exposure in EV"
    logarithmic: ClassVar[bool] = False

    full_well: float = SENSOR.full_well
    read_noise: float = SENSOR.read_noise
    noise_seed: int = 0

    @property
    def description(self) -> str:
        """Text that says how the pictures were made."""
        return (
            "A simulated camera photographs each test picture again: linear light times 2^EV, a sensor of "
            f"{self.full_well:g} electrons at white with a read noise of {self.read_noise:g}, clipped, and encoded as "
            f"sRGB in 8 bits (seed of the noise: {self.noise_seed}). 0 EV is the picture as it is, without noise."
        )

    def words(self, light: float) -> str:
        """Name of an exposure.

        Examples:
            >>> ExposureAxis().words(-3.0), ExposureAxis().words(0.0), ExposureAxis().words(0.5)
            ('-3 EV', '0 EV', '+0.5 EV')
        """
        return f"{'+' if light > 0 else ''}{digits(light)} EV"

    def place(self, light: float) -> float:
        """Place of an exposure in tables, which begin with the brightest."""
        return -light

    def distance(self, light: float) -> float:
        """Distance of an exposure from the picture as it is."""
        return abs(light)

    def require(self, light: float) -> None:
        """Raise ``ValueError`` if there is no such exposure, or if the sensor is wrong."""
        self._exposure(light)

    def transform(self, light: float, cache_dir: str | os.PathLike[str]) -> dict[str, Any]:
        """Config of the transform that photographs a loaded picture, with a folder for its results."""
        return dict(type="llie_preproc.Photograph", exposure=light, **asdict(self), cache_dir=str(cache_dir))

    def relit(self, picture: np.ndarray, light: float) -> np.ndarray:
        """Photograph a picture ``(H, W, 3)`` RGB uint8 again, as the transform does."""
        return self._exposure(light).photograph(picture)

    def _exposure(self, light: float) -> Exposure:
        return Exposure(light, Sensor(self.full_well, self.read_noise), self.noise_seed)


@dataclass(frozen=True)
class GammaAxis:
    """Gammas by which the levels of the test set are shifted (:func:`llie_preproc.gamma_shift.shift_gamma`).

    Attributes:
        convention: Meaning of a gamma.
    """

    kind: ClassVar[str] = "gammas"
    as_is: ClassVar[float] = 1.0
    logarithmic: ClassVar[bool] = True

    convention: str = "power"

    @property
    def title(self) -> str:
        """Name of the axis in plots."""
        return "gamma g of I^g" if self.convention == "power" else "gamma g of I^(1/g)"

    @property
    def description(self) -> str:
        """Text that says how the pictures were made."""
        power, dark = ("I^g", "above") if self.convention == "power" else ("I^(1/g)", "below")
        return f"The levels of each test picture are shifted by {power}, which darkens {dark} 1, and rounded to 8 bits."

    def words(self, light: float) -> str:
        """Name of a gamma.

        Examples:
            >>> GammaAxis().words(2.5)
            'gamma 2.5'
        """
        return f"gamma {digits(light)}"

    def place(self, light: float) -> float:
        """Place of a gamma in tables, which begin with the smallest."""
        return light

    def distance(self, light: float) -> float:
        """Distance of a gamma from the picture as it is."""
        return abs(math.log(light))

    def require(self, light: float) -> None:
        """Raise ``ValueError`` if there is no such gamma or convention."""
        exponent(light, self.convention)

    def transform(self, light: float, cache_dir: str | os.PathLike[str]) -> dict[str, Any]:
        """Config of the transform that shifts a loaded picture; a shift is faster than reading a kept result."""
        return dict(type="llie_preproc.GammaShift", gamma=light, **asdict(self))

    def relit(self, picture: np.ndarray, light: float) -> np.ndarray:
        """Shift a picture of uint8."""
        return shift_gamma(picture, light, self.convention)


LightAxis = ExposureAxis | GammaAxis
"""Axis of a comparison."""


def digits(light: float) -> str:
    """Write a light in the fewest digits that no other light has, for words and for names of folders.

    Examples:
        >>> digits(-3.0), digits(0.1), digits(0.1234567)
        ('-3', '0.1', '0.1234567')
    """
    return repr(float(light)).removesuffix(".0")


_AXES: dict[str, type[ExposureAxis] | type[GammaAxis]] = {axis.kind: axis for axis in (ExposureAxis, GammaAxis)}


def plan_of(axis: LightAxis | None) -> dict[str, Any] | None:
    """Write an axis for a plan.

    Examples:
        >>> plan_of(GammaAxis())
        {'kind': 'gammas', 'convention': 'power'}
    """
    return None if axis is None else {"kind": axis.kind, **asdict(axis)}


def axis_of(plan: Any) -> LightAxis | None:
    """Read an axis from a plan; None for a comparison without one.

    Raises:
        ValueError: The plan has something else in its place.

    Examples:
        >>> axis_of({"kind": "gammas", "convention": "power"})
        GammaAxis(convention='power')
    """
    if plan is None:
        return None
    kind = plan.get("kind") if isinstance(plan, Mapping) else None
    if not isinstance(kind, str) or kind not in _AXES:
        raise ValueError(f"light must have a 'kind' out of {', '.join(_AXES)}, got {plan!r}")
    try:
        axis = _AXES[kind](**{key: value for key, value in plan.items() if key != "kind"})
        axis.require(axis.as_is)
    except TypeError as error:
        raise ValueError(f"light: {error}") from error
    return axis
