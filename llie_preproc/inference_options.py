"""How a network is run: the options of everything that runs one, declared, described and checked in this place alone.

A new option is a field of :class:`InferenceOptions` and of :class:`OptionKeywords`, and what
:mod:`llie_preproc.inference` does with it: the doors, the face and SAM consumers, the commands and their flags have it
then.
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
    """The options as keyword arguments: what ``**options`` of a function takes."""

    channel_order: str
    precision: str
    tile: int | None
    map_side: int | None
    batch_size: int


def _option(default: Any, help: str, **flag: Any) -> Any:
    """A field with what commands need to make a flag of it; ``flag=False`` makes none."""
    return field(default=default, metadata={"help": help, **flag})


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a network is run.

    >>> InferenceOptions(tile=512)
    InferenceOptions(channel_order='rgb', precision='float32', tile=512, map_side=None, batch_size=8)
    >>> InferenceOptions(channel_order="BGR")
    Traceback (most recent call last):
    ValueError: channel_order must be one of 'rgb', 'bgr', got 'BGR'

    Args:
        channel_order: Order of the colours of images that are given, and of results: ``'rgb'``, or ``'bgr'`` (OpenCV's,
            and the default of the doors into MMDetection).
        precision: ``'float32'``, or ``'bfloat16'`` / ``'float16'`` autocast where the network is faithful under it.
        tile: Greatest side of tiles, in input pixels and with their overlaps, in which larger images are enhanced one
            after another: memory for the network's layers is then that of a tile. None: the whole image at once. The
            result is the same to float rounding where ``enhancer.capabilities.halo`` is a number, else an approximation
            (:func:`llie_preproc.tiles.enhance_tiles`). With gradients, tiles alone save no memory.
        map_side: Longer side to which an image is shrunk for a network to predict its map of curves
            (:class:`~llie_preproc.enhancers.CurveEnhancer`), which is applied at full size. Faster and smaller; an
            approximation wherever the map is not smooth. Images that are not larger are enhanced as without it.
        batch_size: Largest number of images of one size that run together. A network that is being trained sees all of
            them together, as its statistics need.

    Raises:
        ValueError: An option that is none of its values, or a ``map_side`` together with a tile.
    """

    channel_order: str = _option("rgb", "order of colours", flag=False)
    precision: str = _option("float32", "number format (default: %(default)s)", choices=tuple(PRECISIONS))
    tile: int | None = _option(
        None, "largest side of the tiles, in pixels, in which pictures are enhanced to save memory"
    )
    map_side: int | None = _option(
        None,
        "longer side, in pixels, of the shrunk copy that a network predicts its curves from; they apply at full size",
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
        """The options that someone gave as keyword arguments.

        Args:
            keywords: Name to value.
            **defaults: Values of those that are not given, where they differ from this class's.

        Raises:
            TypeError: A name that is no option's.
            ValueError: As the class.
        """
        if unknown := set(keywords) - set(option_names()):
            raise TypeError(f"no option {', '.join(sorted(unknown))}; there are: {', '.join(option_names())}")
        return cls(**{**defaults, **keywords})

    @classmethod
    def taken_from(cls, keywords: dict[str, Any], **defaults: Any) -> InferenceOptions:
        """Likewise, of keyword arguments in which others stand too: the options are taken out of them."""
        own = {name: keywords.pop(name) for name in option_names() if name in keywords}
        return cls.of(own, **defaults)

    def keywords(self, **defaults: Any) -> dict[str, Any]:
        """The options that differ from their defaults, as keyword arguments.

        >>> InferenceOptions(tile=512).keywords()
        {'tile': 512}
        """
        usual = {each.name: each.default for each in fields(self)} | defaults
        return {name: value for name, value in asdict(self).items() if value != usual[name]}

    def identity(self) -> dict[str, Any]:
        """The options that results depend on, as :meth:`keywords`: the batch size changes them by rounding at most.

        >>> InferenceOptions(tile=512, batch_size=2).identity()
        {'tile': 512}
        """
        return replace(self, batch_size=type(self).batch_size).keywords()

    def check_fits(self, enhancer: Enhancer) -> None:
        """Raise ``ValueError`` where a network cannot be run so.

        Args:
            enhancer: The network.

        Raises:
            ValueError: A precision under which it is not faithful, a tile that is too small for its overlaps, or a
                ``map_side`` for a network without a map of curves.
        """
        name, faithful = type(enhancer).__name__, (torch.float32, *enhancer.capabilities.precisions)
        if PRECISIONS[self.precision] not in faithful:
            others = [each for each, kind in PRECISIONS.items() if kind in faithful]
            raise ValueError(f"{name} is not faithful under {self.precision}: use {' or '.join(others)}")
        if self.tile is not None:
            check_tile(self.tile, enhancer.capabilities)
        if self.map_side is not None and not isinstance(enhancer, CurveEnhancer):
            raise ValueError(f"map_side is for networks that predict a map of curves; {name} has none")


def option_names() -> tuple[str, ...]:
    """Names of the options, in their order."""
    return tuple(each.name for each in fields(InferenceOptions))


def shows_options(**defaults: Any) -> Callable[[Taker], Taker]:
    """Let the signature of a function that takes ``**options`` show which there are.

    Args:
        **defaults: Defaults that differ from those of :class:`InferenceOptions`.
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
        # Keyword arguments that another class takes stay.
        kept = [each for each in rest if each.name != "options"]
        function.__signature__ = signature.replace(parameters=[*own, *shown, *kept])  # type: ignore[attr-defined]
        return function

    return decorate
