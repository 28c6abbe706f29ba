"""``inverse_gamma`` computes its formula, with finite gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llie_preproc.ops import inverse_gamma


@given(image=hnp.arrays(np.float64, 8, elements=st.floats(0, 1)), gamma=st.floats(0.05, 8))
def test_inverse_gamma_computes_its_formula(image: np.ndarray, gamma: float) -> None:
    expected = 1 - np.power(1 - image, gamma)
    tensor = torch.from_numpy(image)
    assert np.allclose(inverse_gamma(tensor, gamma).numpy(), expected)
    with_gradient = inverse_gamma(tensor.requires_grad_(), torch.tensor(gamma, dtype=torch.float64))
    assert np.allclose(with_gradient.detach().numpy(), expected)


def test_inverse_gamma_gradients_are_those_of_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    image = 0.95 * torch.rand(4, 5, dtype=torch.float64, generator=generator)
    gamma = 0.2 + 3 * torch.rand(4, 5, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(inverse_gamma, (image.requires_grad_(), gamma.requires_grad_()))


@pytest.mark.parametrize("gamma", [0.2, 1.0, 3.0])
def test_inverse_gamma_gradients_are_finite_at_saturation(gamma: float) -> None:
    image = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    exponent = torch.full((2,), gamma, dtype=torch.float64, requires_grad=True)
    by_image, by_exponent = torch.autograd.grad(inverse_gamma(image, exponent).sum(), (image, exponent))
    assert by_image.tolist() == [gamma, 0]
    assert by_exponent.tolist() == [0, 0]
