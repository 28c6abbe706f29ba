"""Too little and too much light as a pipeline transform."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from ..gamma_shift import exponent, shift_gamma
from ..registry import TRANSFORMS


@TRANSFORMS.register_module()
class GammaShift(BaseTransform):
    """Shifts the levels of ``results['img']`` by a power, as :func:`llie_preproc.gamma_shift.shift_gamma`.

    To test a detector in extreme light, or, with several values, to train it there. The channel order does not matter.

    Required keys: ``img``, uint8. Modified keys: ``img``. Added keys: ``gamma``, the value that was taken.

    Args:
        gamma: Positive; of several, each picture gets one, drawn with equal chances.
        convention: ``'power'``: ``I^g``, above 1 darkens. ``'inverse'``: ``I^(1/g)``, above 1 brightens.

    Raises:
        ValueError: A value that is not positive and finite, none at all, or an unknown convention.
    """

    def __init__(self, gamma: float | Sequence[float], convention: str = "power") -> None:
        self.gammas = tuple(gamma) if isinstance(gamma, Sequence) else (gamma,)
        if not self.gammas:
            raise ValueError("gamma holds no value to draw from")
        for each in self.gammas:
            exponent(each, convention)
        self.convention = convention

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Shift the image.

        Raises:
            TypeError: ``img`` is not uint8.
        """
        # NumPy's global generator is the one that MMEngine seeds in each worker.
        gamma = float(self.gammas[np.random.randint(len(self.gammas)) if len(self.gammas) > 1 else 0])
        results["img"] = shift_gamma(results["img"], gamma, self.convention)
        results["gamma"] = gamma
        return results

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gamma={self.gammas}, convention={self.convention!r})"
