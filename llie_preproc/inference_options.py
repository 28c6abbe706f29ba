"""The options of inference, declared, described and checked only here.

A new option needs a field of :class:`InferenceOptions`, one of :class:`OptionKeywords`, and its implementation in
:mod:`llie_preproc.inference`. All detectors, SAM and the commands then have it too, the commands as a flag.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypedDict, TypeVar

import torch

from .checks import at_least, one_of
from .enhancers.base import CurveEnhancer, Enhancer
from .tiles import check_tile

CHANNEL_ORDERS = ("rgb", "bgr")
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Taker = TypeVar("Taker", bound=Callable)


class OptionKeywords(TypedDict, total=False):
    """The options as keyword arguments, for ``**options`` of a function."""

    channel_order: str
    precision: str
    tile: int | None
    map_side: int | None
    batch_size: int


def _option(default: Any, help: str, **flag: Any) -> Any:
    """Make a field with what commands need to turn it into a flag; with ``flag=False`` it gets no flag."""
    return field(default=default, metadata={"help": help, **flag})


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """The options that a network runs with.

    Args:
        channel_order: Channel order of the images and of the results: ``'rgb'``, or ``'bgr'`` (that of OpenCV, and the
            default for MMDetection).
        precision: Number format: ``'float32'``, or ``'bfloat16'`` or ``'float16'`` by autocast, if the network is
            faithful in it.
        tile: Largest side of a tile with its overlaps, in input pixels. Larger images are enhanced tile by tile, so
            that the layers take only the memory of a tile. None enhances the whole image at once. The result is the
            same to float rounding if ``enhancer.capabilities.halo`` is a number, and an approximation otherwise
            (:func:`llie_preproc.tiles.enhance_tiles`). With gradients, tiles alone save no memory.
        map_side: Longer side of the shrunk image from which a network predicts its map of curves
            (:class:`~llie_preproc.enhancers.CurveEnhancer`); the map is then applied at full size. This is faster and
            takes less memory, but is an approximation where the map is not smooth. Only larger images are affected.
        batch_size: Largest number of images of one size that run together. A network in training mode gets all of them
            together, because its batch statistics depend on them.

    Raises:
        ValueError: An option has an unknown value, or ``map_side`` and ``tile`` are both given.

    Examples:
        >>> InferenceOptions(tile=512)
        InferenceOptions(channel_order='rgb', precision='float32', tile=512, map_side=None, batch_size=8)
        >>> InferenceOptions(channel_order="BGR")
        Traceback (most recent call last):
        ValueError: channel_order must be one of 'rgb', 'bgr', got 'BGR'
    """

    channel_order: str = _option("rgb", "order of colours", flag=False)
    precision: str = _option("float32", "number format (default: %(default)s)", choices=tuple(PRECISIONS))
    tile: int | None = _option(
        None, "largest side of the tiles, in pixels, in which pictures are enhanced to save memory"
    )
    map_side: int | None = _option(
        None,
        "longer side, in pixels, of the shrunk copy from which a network predicts curves for the full size",
    )
    batch_size: int = _option(8, "number of pictures of one size that run together (default: %(default)s)")

    def __post_init__(self) -> None:
        one_of("channel_order", self.channel_order, CHANNEL_ORDERS)
        one_of("precision", self.precision, PRECISIONS)
        at_least("batch_size", self.batch_size, 1)
        for name in ("tile", "map_side"):
            if (side := getattr(self, name)) is not None:
                at_least(name, side, 1)
        if self.tile is not None and self.map_side is not None:
            raise ValueError("map_side and tile exclude each other: a map predicted on a small image needs no tiles")

    @classmethod
    def of(cls, keywords: Mapping[str, Any], **defaults: Any) -> InferenceOptions:
        """Make options from keyword arguments.

        Args:
            keywords: Values by the names of options.
            **defaults: Defaults that differ from those of this class.

        Raises:
            TypeError: A name is not that of an option.
            ValueError: An option has an unknown value, or ``map_side`` and ``tile`` are both given.

        Examples:
            >>> InferenceOptions.of({"tile": 512}, channel_order="bgr").keywords()
            {'channel_order': 'bgr', 'tile': 512}
        """
        if unknown := set(keywords) - set(option_names()):
            raise TypeError(f"no option {', '.join(sorted(unknown))}; there are: {', '.join(option_names())}")
        return cls(**{**defaults, **keywords})

    @classmethod
    def taken_from(cls, keywords: dict[str, Any], **defaults: Any) -> InferenceOptions:
        """Make options from keyword arguments, and remove them from there; all other arguments stay.

        Examples:
            >>> keywords = {"tile": 512, "points_per_side": 16}
            >>> InferenceOptions.taken_from(keywords).tile, keywords
            (512, {'points_per_side': 16})
        """
        own = {name: keywords.pop(name) for name in option_names() if name in keywords}
        return cls.of(own, **defaults)

    def keywords(self, **defaults: Any) -> dict[str, Any]:
        """The options that differ from their defaults, as keyword arguments.

        Examples:
            >>> InferenceOptions(tile=512).keywords()
            {'tile': 512}
        """
        usual = {each.name: each.default for each in fields(self)} | defaults
        return {name: value for name, value in asdict(self).items() if value != usual[name]}

    def identity(self) -> dict[str, Any]:
        """The :meth:`keywords` that results depend on; ``batch_size``, which only affects rounding, is left out.

        Examples:
            >>> InferenceOptions(tile=512, batch_size=2).identity()
            {'tile': 512}
        """
        return replace(self, batch_size=type(self).batch_size).keywords()

    def check_fits(self, enhancer: Enhancer) -> None:
        """Raise ``ValueError`` if a network cannot run with these options.

        Args:
            enhancer: Network that is to run with them.

        Raises:
            ValueError: The network is not faithful in the precision, the tile is too small for its overlaps, or the
                network has no map of curves for ``map_side``.
        """
        name, faithful = type(enhancer).__name__, (torch.float32, *enhancer.capabilities.precisions)
        if PRECISIONS[self.precision] not in faithful:
            others = [each for each, kind in PRECISIONS.items() if kind in faithful]
            raise ValueError(f"{name} is not faithful under {self.precision}; use {' or '.join(others)}")
        if self.tile is not None:
            check_tile(self.tile, enhancer.capabilities)
        if self.map_side is not None and not isinstance(enhancer, CurveEnhancer):
            raise ValueError(f"map_side is for networks that predict a map of curves, but {name} has none")


def option_names() -> tuple[str, ...]:
    """Names of the options, in their order.

    Examples:
        >>> option_names()
        ('channel_order', 'precision', 'tile', 'map_side', 'batch_size')
    """
    return tuple(each.name for each in fields(InferenceOptions))


def shows_options(**defaults: Any) -> Callable[[Taker], Taker]:
    """Make a decorator that shows the options in the signature of a function with ``**options``.

    Args:
        **defaults: Defaults that differ from those of :class:`InferenceOptions`.

    Examples:
        >>> @shows_options(batch_size=1)
        ... def brighten(image, **options): ...
        >>> list(inspect.signature(brighten).parameters)
        ['image', 'channel_order', 'precision', 'tile', 'map_side', 'batch_size']
    """

    def decorate(function: Taker) -> Taker:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        rest = [each for each in signature.parameters.values() if each.kind is each.VAR_KEYWORD]
        shown = [
            inspect.Parameter(
                each.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(each.name, each.default),
                annotation=each.type,
            )
            for each in fields(InferenceOptions)
        ]
        # Keyword arguments that are not called "options" are those of another class, and stay.
        kept = [each for each in rest if each.name != "options"]
        function.__signature__ = signature.replace(parameters=[*own, *shown, *kept])  # type: ignore[attr-defined]
        return function

    return decorate
