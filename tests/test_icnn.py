"""Input-convex networks and the JKO-ICNN step: derivatives, convexity, determinants, Theorem 1, a trained step."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gwf.errors import UsageError
from gwf.exact import gaussian
from gwf.nets.icnn import DenseICNN, fit_identity, log_det
from gwf.seeding import generator
from gwf.steps.icnn import ExactLogDet, ICNNStep, StochasticLogDet, conjugate_gradients
from gwf.steps.increments import ParticleCache, compositions, jacobian, standardised
from gwf.steps.references import GaussianReference, moments


def psi_of(d, width=8, layers=2, seed=0, eps=0.1, dtype=torch.float64):
    torch.manual_seed(seed)
    return DenseICNN(d, width, layers, rank=2, eps=eps).to(dtype)


@settings(derandomize=True, deadline=None, max_examples=6)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 10**6))
def test_gradient_and_hessian_are_those_of_the_potential(d, layers, seed):
    """Closed forms against autograd in float64: 1e-9."""
    psi = psi_of(d, layers=layers, seed=seed)
    x = torch.randn(5, d, dtype=torch.float64, generator=generator(seed, "x")).requires_grad_(True)
    (gradient,) = torch.autograd.grad(psi.potential(x).sum(), x)
    T, H = psi.with_hessian(x)
    assert torch.allclose(T, gradient, atol=1e-9) and torch.allclose(psi(x), gradient, atol=1e-9)
    assert torch.allclose(H, jacobian(psi, x)[1], atol=1e-9) and torch.allclose(H, H.mT, atol=1e-9)
    assert torch.linalg.eigvalsh(H).min() >= psi.eps - 1e-9, "convex"


def test_convexity_needs_the_projection():
    """Negative control: with negative weights the Hessian has negative eigenvalues; `project` brings them back."""
    psi = psi_of(2, eps=0.0)
    x = torch.randn(200, 2, dtype=torch.float64, generator=generator(0, "x"))
    with torch.no_grad():
        psi.w.neg_()
    assert torch.linalg.eigvalsh(psi.with_hessian(x)[1]).min() < -1e-3
    psi.project()
    assert torch.linalg.eigvalsh(psi.with_hessian(x)[1]).min() > -1e-9


def test_one_layer_is_affine():
    """The trap of the porous-medium experiment of vwgf: T(x) - T(0) is linear, so only dilations and shears are tried."""
    psi = psi_of(3, layers=1)
    x = torch.randn(6, 3, dtype=torch.float64, generator=generator(1, "x"))
    zero = psi(torch.zeros(1, 3, dtype=torch.float64))
    assert torch.allclose(psi(2 * x) - zero, 2 * (psi(x) - zero), atol=1e-9)
    bent = psi_of(3, layers=2)
    assert not torch.allclose(bent(2 * x) - bent(0 * x), 2 * (bent(x) - bent(0 * x)), atol=1e-3)


def test_log_det_and_conjugate_gradients_solve_what_they_say():
    A = torch.randn(7, 5, 5, dtype=torch.float64, generator=generator(2, "A"))
    H, v = A @ A.mT + 0.5 * torch.eye(5), torch.randn(7, 5, dtype=torch.float64, generator=generator(2, "v"))
    assert torch.allclose(log_det(H), torch.linalg.slogdet(H)[1])
    u = conjugate_gradients(lambda p: torch.einsum("nij,nj->ni", H, p), v, 40)
    # The stopping rule: |residual| <= 1e-5 |v|.
    assert (torch.einsum("nij,nj->ni", H, u) - v).norm(dim=1).div(v.norm(dim=1)).max() < 2e-5


def test_stochastic_log_det_has_the_gradient_of_the_exact_one_in_the_mean():
    """200 draws of the signs: the mean gradient agrees within 5 standard errors, component by component."""
    psi = psi_of(3, width=4)
    x = torch.randn(8, 3, dtype=torch.float64, generator=generator(3, "x"))
    weights = [psi.w, psi.W[0], psi.q[0].A]

    def gradient(way):
        parts = torch.autograd.grad(way(psi, x)[1], weights)
        return torch.cat([p.flatten() for p in parts])

    exact = gradient(ExactLogDet())
    way = StochasticLogDet(generator(3, "v"))
    draws = torch.stack([gradient(way) for _ in range(200)])
    error = draws.std(0) / math.sqrt(200)
    assert ((draws.mean(0) - exact).abs() <= 5 * error + 1e-6).all()
    assert (exact.abs() > 10 * error).any(), "the test has power: the gradient is not lost in the noise"


def test_free_energy_estimator_is_off_by_a_constant():
    """Theorem 1 of jko-icnn, affine maps of N(0, I), quadrature in place of samples: constant to rounding."""
    node, weight = np.polynomial.hermite_e.hermegauss(8)
    x, w = node, weight / weight.sum()
    gaps = []
    for scale, shift in ((1.0, 0.0), (0.6, 0.5), (1.7, -1.2)):
        # nu = N(1, .5): Phi = (x - 1)^2 up to its constant, log det = log scale.
        estimate = w @ (scale * x + shift - 1) ** 2 - math.log(scale)
        exact = float(gaussian.kl(shift, scale, 1.0, math.sqrt(0.5))) - 0.5 * math.log(math.pi)
        gaps.append(exact - estimate)
    # int mu log mu of N(0, 1) is -(1 + log 2 pi) / 2; KL = free energy + log Z, Z = sqrt(pi).
    assert gaps == pytest.approx([-(1 + math.log(2 * math.pi)) / 2] * 3, abs=1e-9)


def test_trained_step_is_the_exact_jko_step():
    """One step of tau = .5 towards N((1, -.5), diag(.5, 1)); moments within .05, where the step moves them by .3."""
    nu = GaussianReference([1.0, -0.5], np.diag([0.5, 1.0]))
    psi = psi_of(2, dtype=torch.float32, eps=1e-6)
    fit_identity(psi, lambda n, g: 1.5 * torch.randn(n, 2, generator=g), generator(0, "identity"), 200, 256)
    cache = ParticleCache(standardised(torch.randn(2000, 2, generator=generator(0, "mu_0"))))
    step = ICNNStep(psi, nu.log_density, 0.5, lr=1e-2)
    list(compositions(step, cache, steps=1, iterations=200, batch=256, stream=generator(0, "batches")))
    m, s = gaussian.jko_step([0, 0], [1, 1], [1, -0.5], np.sqrt([0.5, 1.0]), 0.5)
    mean, C = moments(cache.x)
    assert mean == pytest.approx(m, abs=0.05) and np.abs(C - np.diag(s**2)).max() < 0.06
    assert np.abs(m).max() > 0.3


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: DenseICNN(2, 0), "width"),
        (lambda: DenseICNN(2, eps=-1), "eps"),
        (lambda: ICNNStep(DenseICNN(2, 4), None, 0.0, lr=1e-3), "tau"),
        (lambda: StochasticLogDet(None, 0), "iterations"),
    ],
)
def test_arguments_out_of_range_are_named(call, words):
    with pytest.raises(UsageError, match=words):
        call()
