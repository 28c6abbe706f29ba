"""CollaBA's Eq. 17, ``best_response_ratio``, gives the derivative through the discriminators' best response."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

pytest.importorskip("mmengine", reason="needs the extra 'mm'")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.nn import functional as F

from llie_preproc.enhancers.base import Enhancer
from tests.support.bilevel_methods import SMALL, batch, method, optimiser
from training.methods.bilevel import best_response_ratio


@settings(max_examples=60, deadline=None)
@given(
    phi=st.sampled_from([F.softplus, lambda u: 0.5 * u**2, torch.exp, lambda u: F.softplus(-u) ** 2]),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 10_000),
)
def test_equation_17_equals_the_hessian_product_where_outer_products_are_exact(
    phi: Callable[[Tensor], Tensor], sizes: tuple[int, int], seed: int
) -> None:
    """The second derivatives of L_adv = phi(a.w + h(s)) are phi'' times outer products of gradients.

    The exception is d2 L_adv / ds2 for a nonlinear h, which Eq. 13 to 15 do not use.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    m, n = sizes
    a, b, c, d, w, s = draw(m), draw(n), draw(n, n), draw(m), draw(m), draw(n)

    def adversarial(w: Tensor, s: Tensor) -> Tensor:
        return phi(a @ w + b @ torch.tanh(c @ s))

    def total(w: Tensor, s: Tensor) -> Tensor:
        return w.sum() * s.sin().sum() + (w**2).sum() + (s**3).sum() + d @ w.exp()

    w_grad, s_grad = w.clone().requires_grad_(), s.clone().requires_grad_()
    adv_w, adv_s = torch.autograd.grad(adversarial(w_grad, s_grad), (w_grad, s_grad))
    (total_w,) = torch.autograd.grad(total(w_grad, s_grad), (w_grad,))
    (h_ww, h_ws), _ = hessian(adversarial, (w, s))
    # Eq. 15 with the pseudo-inverse, because the Hessian has rank one.
    b_solution = -torch.linalg.pinv(h_ww, rtol=1e-9) @ total_w
    expected = h_ws.T @ b_solution
    result = -best_response_ratio([adv_w], [total_w]) * adv_s
    assert torch.allclose(result, expected, rtol=1e-6, atol=1e-9 * (1 + expected.abs().max()))


def test_equation_17_equals_the_derivative_through_the_best_response() -> None:
    """Here w minimises L_adv = (a.w + h(s))^2 / 2 exactly, so autograd can differentiate through it."""
    torch.manual_seed(3)
    a, b, slope, start = (torch.randn(4, dtype=torch.float64) for _ in range(4))
    s = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def response(s: Tensor) -> Tensor:
        return start - a * (a @ start + b @ s.sin()) / (a @ a)

    direct = (s**2).sum()
    (through,) = torch.autograd.grad(direct + slope @ response(s), (s,))
    (alone,) = torch.autograd.grad((s**2).sum(), (s,))
    # For Eq. 17, w is near its optimum and not at it, because both gradients of L_adv are zero there.
    w = (response(s) + 1e-4 * a).detach().requires_grad_()
    adv_w, adv_s = torch.autograd.grad(0.5 * (a @ w + b @ s.sin()) ** 2, (w, s))
    assert torch.allclose(alone - best_response_ratio([adv_w], [slope]) * adv_s, through, rtol=1e-9)


class _Gated(nn.Module):
    """A discriminator with the logit ``mean + a.w``, or ``mean`` alone for a black picture."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64))
        self.a = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)

    def forward(self, image: Tensor) -> Tensor:
        logit = image.double().mean() + (image.mean() > 0) * (self.a @ self.w)
        return logit.reshape(1, 1, 1, 1)


class _Curved(Enhancer):
    """A network with the result ``image * exp(s[0]) + sin(s[1])``."""

    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.tensor([0.7, 0.4], dtype=torch.float64))

    def forward(self, image: Tensor) -> Tensor:
        return image * self.s[0].exp() + self.s[1].sin()


def test_a_step_adds_the_best_response() -> None:
    """Eq. 16 is exact here, because the only logit is linear in w and the references are black."""
    model = method(_Curved(), {}, discriminators={"unet": SMALL["unet"]}, adversarial_weight=2.0, max_ratio=math.inf)
    model.discriminators["unet"] = gated = _Gated()
    data = batch()
    for sample in data["data_samples"]:
        sample.target = torch.zeros_like(sample.target)
    mean = model.data_preprocessor(data, True)["inputs"].double().mean()
    before = model.enhancer.s.detach().clone()
    model.train_step(data, optimiser(model))
    w = gated.w.detach()

    def adversarial(w: Tensor, s: Tensor) -> Tensor:
        return F.softplus(gated.a @ w + mean * s[0].exp() + s[1].sin())

    def total(w: Tensor, s: Tensor) -> Tensor:
        return 0.5 * 2.0 * F.softplus(-(gated.a @ w + mean * s[0].exp() + s[1].sin()))

    w_grad, s_grad = w.clone().requires_grad_(), before.clone().requires_grad_()
    total_w, total_s = torch.autograd.grad(total(w_grad, s_grad), (w_grad, s_grad))
    (h_ww, h_ws), _ = hessian(adversarial, (w, before))
    best_response = -h_ws.T @ torch.linalg.pinv(h_ww, rtol=1e-9) @ total_w
    assert best_response.abs().max() > 0.01
    assert torch.allclose(before - 0.01 * (total_s + best_response), model.enhancer.s.detach(), rtol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.01, 100).flatmap(lambda x: st.sampled_from([x, -x])),
    bound=st.floats(0.01, 2),
)
def test_the_ratio_is_a_projection(seed: int, scale: float, bound: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(3, 2), (), (4,)]
    adv, total = ([torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes] for _ in range(2))
    flat_adv, flat_total = (torch.cat([g.flatten() for g in grads]).numpy() for grads in (adv, total))
    expected = flat_adv @ flat_total / (flat_adv @ flat_adv)
    assert best_response_ratio(adv, total).item() == pytest.approx(expected, rel=1e-9)
    assert best_response_ratio(adv, [scale * g for g in adv]).item() == pytest.approx(scale, rel=1e-9)
    # G_BR = -ratio * grad_s L_adv does not depend on the scale or the sign of L_adv.
    assert scale * best_response_ratio([scale * g for g in adv], total).item() == pytest.approx(expected, rel=1e-9)
    assert best_response_ratio(adv, total, bound).item() == pytest.approx(max(-bound, min(bound, expected)), rel=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_undefined_ratio_is_zero(bad: float) -> None:
    good, zero, wrong = torch.ones(3), torch.zeros(3), torch.tensor([bad, 1.0, 1.0])
    assert best_response_ratio([zero], [good]) == 0
    assert best_response_ratio([wrong], [good]) == 0
    assert best_response_ratio([good], [wrong]) == 0
    with pytest.raises(ValueError, match=r"\(3,\).*\(2,\)"):
        best_response_ratio([good], [good[:2]])
    with pytest.raises(ValueError, match="same parameters"):
        best_response_ratio([], [])


def test_the_best_response_changes_the_update() -> None:
    updated = []
    for bia in (True, False):
        model = method(bia=bia)
        log = model.train_step(batch(), optimiser(model))
        assert ("best_response" in log) == bia
        updated.append(torch.cat([p.detach().flatten() for p in model.enhancer.parameters()]))
    assert not torch.equal(*updated)
    assert abs(log["loss"].item()) > 0


def test_only_an_attached_output_passes_a_gradient_to_the_enhancer() -> None:
    model, data = method(), batch()
    target = torch.stack([sample.target for sample in data["data_samples"]]).float() / 255
    output = model.enhancer(model.data_preprocessor(data, True)["inputs"])
    parameters = list(model.enhancer.parameters())
    sums = []
    for fake in (output, output.detach()):
        loss = model._adversarial_loss(target, model._judged(fake))
        grads = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
        sums.append(sum(0 if g is None else g.abs().sum().item() for g in grads))
    assert sums[0] > 0
    assert sums[1] == 0
