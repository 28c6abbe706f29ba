"""Light that varies over a picture, as at night: smooth fields, falling edges, back light, lamps and their colours."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from llie_preproc.checks import at_least, rising, within
from llie_preproc.registry import TRANSFORMS

from .draws import log_uniform, uniform

# Above these, the product of all parts may be too large for float32.
_MOST_STOPS, _MOST_TINT = 16, 1


@TRANSFORMS.register_module()
class NightIllumination:
    """Draws the light of a scene at night, as factors of its linear light by day.

    The ambient light is the product of four parts, each drawn with its share: a smooth field (a grid of 2x2 to 5x5
    normal numbers, in stops, bicubic), a vignette (darker corners), a back light (a slope in stops across the picture
    in any direction), and a tint (one log-normal factor for each channel). It has the mean 1, so that an exposure says
    how dark a picture is. Lamps shine on top of it: each falls off as ``(1 + (r / radius)^2)^-fall`` with the distance
    ``r`` from its place, in or just beside the picture, and has a tint of its own.

    Lamps are seen too: their own glare, a small share of their light, is added to what the scene reflects.

    The ranges are this project's own choice; docs/datasets.md compares them with real night pictures.

    >>> _ = torch.manual_seed(0)
    >>> factor, glare = NightIllumination()(48, 64)
    >>> factor.shape, glare.shape, bool((factor > 0).all())
    (torch.Size([3, 48, 64]), torch.Size([3, 48, 64]), True)

    Args:
        field_share: Share of the pictures with a smooth field.
        field_stops: Range of the field's standard deviation in stops, drawn uniformly.
        vignette_share: Share of the pictures with a vignette.
        vignette: Range of the share of light that the corners lose, drawn uniformly.
        slope_share: Share of the pictures with a back light.
        slope_stops: Range of the stops from edge to edge, drawn uniformly.
        tint_share: Share of the pictures whose ambient light has a colour.
        tint: Standard deviation of the logarithm of each channel's factor, for the ambient light and for lamps.
        lamp_share: Share of the pictures with lamps.
        lamps: Largest number of lamps; each picture with lamps has 1 to this number.
        lamp_stops: Range of the stops by which a lamp outshines the ambient light at its place, drawn uniformly.
        lamp_radius: Range of a lamp's radius, as a share of the picture's height, drawn log-uniformly.
        glare: Share of a lamp's light that is seen directly.

    Raises:
        ValueError: A share is outside [0, 1], a range is not two rising numbers within its bounds (for stops, 0 and
            16), ``tint`` is outside [0, 1], or ``lamps`` is below 1.
    """

    def __init__(
        self,
        field_share: float = 0.5,
        field_stops: Sequence[float] = (0.3, 1.6),
        vignette_share: float = 0.25,
        vignette: Sequence[float] = (0.2, 0.9),
        slope_share: float = 0.2,
        slope_stops: Sequence[float] = (1.0, 5.0),
        tint_share: float = 0.4,
        tint: float = 0.2,
        lamp_share: float = 0.5,
        lamps: int = 5,
        lamp_stops: Sequence[float] = (0.0, 6.0),
        lamp_radius: Sequence[float] = (0.02, 0.25),
        glare: float = 0.02,
    ) -> None:
        shares = dict(field=field_share, vignette=vignette_share, slope=slope_share, tint=tint_share, lamp=lamp_share)
        for name, share in shares.items():
            within(f"{name}_share", share, 0, 1)
        rising("field_stops", field_stops, least=0, most=_MOST_STOPS)
        rising("vignette", vignette, least=0, most=1)
        rising("slope_stops", slope_stops, least=0, most=_MOST_STOPS)
        rising("lamp_stops", lamp_stops, least=0, most=_MOST_STOPS)
        rising("lamp_radius", lamp_radius, above=0)
        within("tint", tint, 0, _MOST_TINT)
        within("glare", glare, 0, 1)
        at_least("lamps", lamps, 1)
        self.shares = shares
        self.field_stops, self.vignette, self.slope_stops, self.tint = field_stops, vignette, slope_stops, tint
        self.lamps, self.lamp_stops, self.lamp_radius, self.glare = lamps, lamp_stops, lamp_radius, glare

    def __call__(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Draw the light for a picture of this size; random numbers come from PyTorch's CPU generator.

        Returns:
            Factors ``(3, H, W)`` of the scene's linear light, and light ``(3, H, W)`` that is added to the product.
        """
        y, x = torch.meshgrid(_centred(height), _centred(width), indexing="ij")
        ambient = torch.ones(3, height, width)
        if self._drawn("field"):
            ambient = ambient * 2 ** (uniform(self.field_stops) * _field(height, width))
        if self._drawn("vignette"):
            ambient = ambient * (1 - uniform(self.vignette) * 2 * (x**2 + y**2)).clamp_min(0.01)
        if self._drawn("slope"):
            turn = uniform((0.0, 2 * math.pi))
            ambient = ambient * 2 ** (uniform(self.slope_stops) * (x * math.cos(turn) + y * math.sin(turn)))
        if self._drawn("tint"):
            ambient = ambient * self._colour()
        ambient = ambient / ambient.mean()
        lamps = self._lamps(x, y) if self._drawn("lamp") else torch.zeros_like(ambient)
        return ambient + lamps, self.glare * lamps

    def _lamps(self, x: Tensor, y: Tensor) -> Tensor:
        """The light of all lamps ``(3, H, W)`` over that of the ambient light."""
        height, width = x.shape
        total = torch.zeros(3, height, width)
        for _ in range(1 + int(torch.randint(self.lamps, ()))):
            across, down, fall = uniform((-0.6, 0.6)), uniform((-0.6, 0.6)), uniform((1.0, 2.0))
            distance = ((x - across) * width / height) ** 2 + (y - down) ** 2
            bright = 2 ** uniform(self.lamp_stops) * self._colour()
            total += bright * (1 + distance / log_uniform(self.lamp_radius) ** 2) ** -fall
        return total

    def _drawn(self, name: str) -> bool:
        return bool(torch.rand(()) < self.shares[name])

    def _colour(self) -> Tensor:
        return (self.tint * torch.randn(3, 1, 1)).exp()


def _centred(number: int) -> Tensor:
    """The places of ``number`` pixels, from -0.5 to 0.5."""
    return (torch.arange(number) + 0.5) / number - 0.5


def _field(height: int, width: int) -> Tensor:
    """A smooth field ``(H, W)`` of about the mean 0 and the deviation 1."""
    rows, columns = (int(torch.randint(2, 6, ())) for _ in range(2))
    return functional.interpolate(torch.randn(1, 1, rows, columns), (height, width), mode="bicubic")[0, 0]
