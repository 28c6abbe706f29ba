"""Dark pictures that are made from day pictures, for users without pairs."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llie_preproc.checks import rising, within
from llie_preproc.gamma_shift import shift_gamma
from llie_preproc.ops.sensor import Sensor, linear_to_srgb, sense, srgb_to_linear
from llie_preproc.pictures import picture_files
from llie_preproc.registry import DATASETS, TRANSFORMS

from .augmentation import require_picture
from .base import Layout, Pictures, PictureSet
from .draws import log_uniform, uniform

# Level of linear light beyond which a sensor is full, whatever noise it adds.
_FULL = 4.0


@TRANSFORMS.register_module()
class LowLightSynthesis:
    """Turns a day picture into a dark, noisy picture, as a sensor would take it of the same scene with less light.

    Let ``x`` be the picture in [0, 1] and ``L`` the inverse of sRGB's transfer function (IEC 61966-2-1), which gives
    linear light. Then::

        y = exposure * (factor * L(x) ** gamma + glare)                    less light, and deeper shadows
        z = (Poisson(electrons * y) + read_noise * N(0, 1)) / electrons    shot and read noise
        output = round(255 * inverse of L(clip(processed z, 0, 1)))

    ``factor`` and ``glare`` are 1 and 0 without ``illumination``; ``processed z`` is ``z`` without ``processing``.

    Before clipping, ``z`` has the mean ``y`` and the variance ``y / electrons + (read_noise / electrons) ** 2``. The
    noise is independent between pixels and between channels; demosaicking and compression are not modelled. Each
    picture draws one number from each range.

    The ranges are this project's own choice. They were compared with 48 training pairs of LOL-v1, each reference turned
    dark 20 times: the median over pictures of the median level is 18 of 255, and 12 for the real dark pictures.

    >>> day = torch.full((3, 8, 8), 180, dtype=torch.uint8)
    >>> night = LowLightSynthesis(exposure=(0.05, 0.05))(day)
    >>> night.dtype, bool(night.float().mean() < 60)
    (torch.uint8, True)

    Args:
        exposure: Range of the factor of light, drawn log-uniformly.
        gamma: Range of the exponent, drawn uniformly.
        electrons: Range of the number of electrons that a white pixel of the day picture stands for, drawn
            log-uniformly. Fewer electrons give more noise. None adds no noise.
        read_noise: Range of the standard deviation of the read noise in electrons, drawn uniformly.
        illumination: Callable that draws a scene's light, or the config of a registered one
            (:class:`NightIllumination`). None leaves the light as it is by day.
        processing: Callable that changes what the sensor has read, or the config of a registered one
            (:class:`CameraProcessing`). None leaves it as it is.

    Raises:
        ValueError: A range is not two numbers ``0 < low <= high`` (for ``read_noise``, ``0 <= low <= high``).
        TypeError: ``illumination`` or ``processing`` is neither a config nor a callable.
    """

    def __init__(
        self,
        exposure: Sequence[float] = (0.01, 0.2),
        gamma: Sequence[float] = (1.0, 1.4),
        electrons: Sequence[float] | None = (2000.0, 20000.0),
        read_noise: Sequence[float] = (1.0, 5.0),
        illumination: dict | Callable[[int, int], tuple[Tensor, Tensor]] | None = None,
        processing: dict | Callable[[Tensor, float], Tensor] | None = None,
    ) -> None:
        self.exposure, self.gamma = _range("exposure", exposure), _range("gamma", gamma)
        self.electrons = None if electrons is None else _range("electrons", electrons)
        self.read_noise = _range("read_noise", read_noise, zero=True)
        self.illumination = None if illumination is None else _built("illumination", illumination)
        self.processing = None if processing is None else _built("processing", processing)

    def __call__(self, picture: Tensor) -> Tensor:
        """Darken a picture ``(3, H, W)`` uint8 sRGB; random numbers come from PyTorch's CPU generator.

        Raises:
            TypeError: The argument is no such picture.
        """
        require_picture(picture, self)
        exposure, gamma = log_uniform(self.exposure), uniform(self.gamma)
        light = srgb_to_linear(picture / 255) ** gamma
        if self.illumination is not None:
            factor, glare = self.illumination(*picture.shape[1:])
            light = factor * light + glare
        signal = exposure * light
        if self.electrons is not None:
            # Beyond white a pixel is full, and counting more electrons would only take time.
            signal = sense(signal.clamp_max(_FULL), Sensor(log_uniform(self.electrons), uniform(self.read_noise)))
        if self.processing is not None:
            signal = self.processing(signal, math.log2(exposure))
        return (255 * linear_to_srgb(signal.clamp(0, 1))).round().to(torch.uint8)


@TRANSFORMS.register_module()
class RandomGamma:
    """Shifts the levels of a picture by a power drawn at random, without noise (:mod:`llie_preproc.gamma_shift`).

    >>> grey = torch.full((3, 2, 2), 128, dtype=torch.uint8)
    >>> RandomGamma(gamma=(2.0, 2.0))(grey).unique().tolist()
    [64]

    Args:
        gamma: Range of the exponent on levels in [0, 1], drawn log-uniformly; above 1 it darkens.

    Raises:
        ValueError: ``gamma`` is not two numbers ``0 < low <= high``.
    """

    def __init__(self, gamma: Sequence[float] = (0.3, 3.0)) -> None:
        self.gamma = _range("gamma", gamma)

    def __call__(self, picture: Tensor) -> Tensor:
        """Shift a picture ``(3, H, W)`` uint8 RGB; random numbers come from PyTorch's CPU generator.

        Raises:
            TypeError: The argument is no such picture.
        """
        require_picture(picture, self)
        return torch.from_numpy(shift_gamma(picture.numpy(), log_uniform(self.gamma)))


@TRANSFORMS.register_module()
class RandomSynthesis:
    """Gives each picture to one of several syntheses, drawn by their shares.

    >>> untouched = dict(share=0.5, steps=[])
    >>> dark = dict(share=0.5, steps=[dict(type="llie_preproc.LowLightSynthesis")])
    >>> RandomSynthesis([untouched, dark])(torch.zeros(3, 8, 8, dtype=torch.uint8)).shape
    torch.Size([3, 8, 8])

    Args:
        choices: Syntheses, each a dict of its ``share`` and of its ``steps``: a list of callables from picture to
            picture, or of configs of registered ones, which run in turn. A choice without steps leaves the picture as
            it is, so that an enhancer learns to leave well-lit pictures alone.

    Raises:
        ValueError: There is no choice, one has other keys, or a share is not between 1e-9 and 1e9.
        TypeError: The steps of a choice are no list, or a step is neither a config nor a callable.
    """

    def __init__(self, choices: Sequence[dict[str, Any]]) -> None:
        if not choices or any(not isinstance(each, dict) or set(each) != {"share", "steps"} for each in choices):
            raise ValueError(f"choices must be dicts of 'share' and 'steps', at least one, got {choices}")
        for choice in choices:
            # PyTorch draws by shares in float32, in which smaller ones would be 0.
            within("share", choice["share"], 1e-9, 1e9)
            if not isinstance(choice["steps"], Sequence) or isinstance(choice["steps"], str):
                raise TypeError(f"steps must be a list of configs and callables, got {choice['steps']!r}")
        self.shares = torch.tensor([float(choice["share"]) for choice in choices])
        self.steps = [[_built("each of steps", step) for step in choice["steps"]] for choice in choices]

    def __call__(self, picture: Tensor) -> Tensor:
        """Change a picture ``(3, H, W)`` uint8 RGB; random numbers come from PyTorch's CPU generator.

        Raises:
            TypeError: The argument is no such picture.
        """
        require_picture(picture, self)
        for step in self.steps[int(torch.multinomial(self.shares, 1))]:
            picture = step(picture)
        return picture


@DATASETS.register_module()
class SynthesisedPairs(PictureSet):
    """Day pictures as references, with dark pictures that are made from them, anew at each draw, as inputs.

    Items are those of :class:`~training.datasets.PairedFolders`. Transforms come before the synthesis, so that noise is
    neither resized nor turned. Their sizes are those of the references.

    >>> import tempfile
    >>> import numpy as np
    >>> from llie_preproc.pictures import Picture, write_picture
    >>> with tempfile.TemporaryDirectory() as root:
    ...     write_picture(f"{root}/day.png", Picture(np.full((8, 8, 3), 180, np.uint8)))
    ...     item = SynthesisedPairs(root)[0]
    >>> bool(item["inputs"].float().mean() < item["data_samples"].target.float().mean())
    True

    Args:
        folder: Folder of day pictures; its subfolders are searched too.
        synthesis: Callable from picture to picture, or the config of a registered one; by default a
            :class:`LowLightSynthesis` with its default arguments.
        size: Size of the pictures, as in :class:`~training.datasets.PairedFolders`.
        names: Names of the pictures to take, relative to ``folder``, as in :class:`~training.datasets.PairedFolders`.
        transforms: Transforms, as in :class:`~training.datasets.PairedFolders`.
        reduce_input: Factor by which the input is reduced before it is made dark, as in
            :class:`~training.datasets.PairedFolders`.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        synthesis: dict | Callable[[Tensor], Tensor] | None = None,
        size: int | Sequence[int] | None = None,
        names: Sequence[str] | str | os.PathLike[str] | None = None,
        transforms: Sequence[dict | Callable[[Pictures], Pictures]] = (),
        reduce_input: int = 1,
    ) -> None:
        layout = Layout(Path(folder).expanduser(), picture_files(folder), itself)
        super().__init__(layout, size, names, transforms, reduce_input)
        self.transforms.append(Degraded(synthesis))


class Degraded:
    """A transform of pairs that replaces the input by what a callable makes of it.

    Args:
        synthesis: Callable from picture to picture, or the config of a registered one, as in :class:`SynthesisedPairs`.
    """

    def __init__(self, synthesis: dict | Callable[[Tensor], Tensor] | None = None) -> None:
        self.synthesis: Callable[[Tensor], Tensor] = (
            LowLightSynthesis() if synthesis is None else _built("synthesis", synthesis)
        )

    def output_size(self, width: int, height: int) -> tuple[int, int]:
        return width, height

    def __call__(self, pictures: Pictures) -> Pictures:
        return {**pictures, "image": self.synthesis(pictures["image"])}


def itself(path: Path) -> dict[str, Path]:
    """The references of a picture that is its own reference."""
    return {"target": path}


def _range(name: str, value: Sequence[float], zero: bool = False) -> tuple[float, float]:
    rising(name, value, least=0 if zero else None, above=None if zero else 0)
    return float(value[0]), float(value[1])


def _built(name: str, step: Any) -> Any:
    """A callable, or what its config builds."""
    built = TRANSFORMS.build(step) if isinstance(step, dict) else step
    if not callable(built):
        raise TypeError(f"{name} must be a config (dict(type=...)) or a callable, got {step!r}")
    return built
