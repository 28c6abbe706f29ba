"""A pipeline transform that simulates too little or too much light."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from ..gamma_shift import exponent, shift_gamma
from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class GammaShift(BaseTransform):
    """Shift the levels of ``results['img']`` by a power, with :func:`llie_preproc.gamma_shift.shift_gamma`.

    It tests a detector in extreme light or, with several values, trains it for such light. The channel order does not
    matter.

    Required keys: ``img``, uint8. Modified keys: ``img``. Added keys: ``gamma``, the value that was used.

    Args:
        gamma: Positive exponent, or several, one of which is drawn for each picture with equal chances.
        convention: Meaning of ``gamma``: ``'power'`` is ``I^g``, which darkens for values above 1; ``'inverse'`` is
            ``I^(1/g)``, which brightens for values above 1.

    Raises:
        ValueError: There is no value, a value is not positive and finite, or the convention is unknown.

    Examples:
        >>> results = GammaShift(2.0)(dict(img=np.full((1, 1, 3), 128, np.uint8)))
        >>> results["img"].tolist(), results["gamma"]
        ([[[64, 64, 64]]], 2.0)
    """

    def __init__(self, gamma: float | Sequence[float], convention: str = "power") -> None:
        self.gammas = tuple(gamma) if isinstance(gamma, Sequence) else (gamma,)
        if not self.gammas:
            raise ValueError("gamma must have at least one value, got none")
        for each in self.gammas:
            exponent(each, convention)
        self.convention = convention

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Shift the image.

        Raises:
            TypeError: ``img`` is not uint8.
        """
        # The draw uses NumPy's global generator, because MMEngine seeds that one in each worker.
        gamma = float(self.gammas[np.random.randint(len(self.gammas)) if len(self.gammas) > 1 else 0])
        results["img"] = shift_gamma(results["img"], gamma, self.convention)
        results["gamma"] = gamma
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gamma={self.gammas}, convention={self.convention!r})"
