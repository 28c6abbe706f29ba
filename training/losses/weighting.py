"""Weights of loss terms that are trained with the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_SMALLEST = 1e-4


class LearnedWeights(nn.Module):
    """CollaBA's weighted sum of loss terms (Eq. 11): ``sum over u of L_u / (2 rho_u^2) + ln(1 + rho_u^2)``.

    The form of the public code. The paper's text multiplies each term by another ``rho_u``, which makes the weight
    ``1 / (2 rho_u)``: negative, and the loss without a lower bound, for a negative rho. At the minimum over rho a
    term of loss L has ``rho^2 = (L + sqrt(L^2 + 8 L)) / 4``.

    Args:
        names: Of the terms; each has its scalar ``rho[name]``, 1 at first, where it weighs a half.
        regulariser: Add ``ln(1 + rho_u^2)``, without which rho grows and the weights vanish (Fig. 14 compares).

    Raises:
        ValueError: No name.
    """

    def __init__(self, names: Iterable[str], regulariser: bool = True) -> None:
        super().__init__()
        self.rho = nn.ParameterDict({name: nn.Parameter(torch.ones(())) for name in names})
        if not len(self.rho):
            raise ValueError("there are no loss terms to learn the weights of")
        self.regulariser = regulariser

    def forward(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms by name, and ``'regulariser'``: their sum is the loss of Eq. 11.

        Args:
            terms: Scalars, one for each of the names.

        Raises:
            ValueError: Other terms than those that there are weights of.
        """
        if set(terms) != set(self.rho):
            raise ValueError(f"there are weights of {sorted(self.rho)}, got the terms {sorted(terms)}")
        squares = {name: _guarded_square(self.rho[name]) for name in terms}
        weighted = {name: 0.5 / squares[name] * term for name, term in terms.items()}
        if self.regulariser:
            weighted["regulariser"] = torch.stack([square.log1p() for square in squares.values()]).sum()
        return weighted


def _guarded_square(rho: Tensor) -> Tensor:
    """``rho^2``, at least 1e-4, with the gradient ``2 rho`` everywhere: a clamp would keep a small rho small."""
    square = rho.square()
    return square + (_SMALLEST - square).clamp(min=0).detach()
