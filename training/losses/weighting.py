"""Loss weights that are trained with the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

_SMALLEST = 1e-4


class LearnedWeights(nn.Module):
    """CollaBA's weighted sum of loss terms (Eq. 11): ``sum over u of L_u / (2 rho_u^2) + ln(1 + rho_u^2)``.

    The public code has this form. The paper's text multiplies each term by another ``rho_u``, which makes the weight
    ``1 / (2 rho_u)``: for a negative rho the weight is negative and the loss has no lower bound. At the minimum over
    rho a term of loss L has ``rho^2 = (L + sqrt(L^2 + 8 L)) / 4``.

    >>> weights = LearnedWeights(["pixel", "adversarial"])
    >>> terms = weights(dict(pixel=torch.tensor(0.4), adversarial=torch.tensor(0.2)))
    >>> {name: round(term.item(), 4) for name, term in terms.items()}
    {'pixel': 0.2, 'adversarial': 0.1, 'regulariser': 1.3863}

    Args:
        names: Names of the terms. Each term has a scalar parameter ``rho[name]``, which starts at 1: the weight is
            then one half.
        regulariser: Whether to add ``ln(1 + rho_u^2)``. Without it rho grows and the weights vanish (compared in
            Fig. 14).

    Raises:
        ValueError: There is no name.
    """

    def __init__(self, names: Iterable[str], regulariser: bool = True) -> None:
        super().__init__()
        self.rho = nn.ParameterDict({name: nn.Parameter(torch.ones(())) for name in names})
        if not len(self.rho):
            raise ValueError("learned weights need at least one loss term, got none")
        self.regulariser = regulariser

    def forward(self, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weighted terms by name, and ``'regulariser'`` where there is one: their sum is the loss of Eq. 11.

        Args:
            terms: Scalars, one for each name.

        Raises:
            ValueError: The terms are not those that have weights.
        """
        if set(terms) != set(self.rho):
            raise ValueError(f"the learned weights belong to the terms {sorted(self.rho)}, got {sorted(terms)}")
        squares = {name: _guarded_square(self.rho[name]) for name in terms}
        weighted = {name: 0.5 / squares[name] * term for name, term in terms.items()}
        if self.regulariser:
            weighted["regulariser"] = torch.stack([square.log1p() for square in squares.values()]).sum()
        return weighted


def _guarded_square(rho: Tensor) -> Tensor:
    """``rho^2``, at least 1e-4, with the gradient ``2 rho`` everywhere.

    A plain clamp has no gradient below its bound, so a rho that is small would stay small.
    """
    square = rho.square()
    return square + (_SMALLEST - square).clamp(min=0).detach()
