"""Aggregation-diffusion: closed forms, the two solvers on the line, and the learned schemes against them."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from gwf.divergences import Boltzmann
from gwf.steps.internal import EntropyDual, VariationalFlow
from gwf.steps.references import MomentGaussian
from notebooks.experiments import aggregation_law as exact
from notebooks.experiments.aggregation_particles import KERNELS, Interaction, Push, double_well, quadratic
from tests.notebook_code import load_notebook

aggregation = load_notebook("aggregation")


# Closed forms and solvers.


@pytest.mark.parametrize("scheme", exact.SCHEMES)
def test_minimiser_is_a_fixed_point_and_the_order_is_one(scheme):
    """s^2 = eps minimises F; at t = 1 halving tau halves the error, ratio 2 up to O(tau)."""
    assert exact.quadratic_step(0.5**0.5, 0.5, 0.3, scheme) == pytest.approx(0.5**0.5, abs=1e-14)
    errors = []
    for steps in (20, 40, 80):
        s = 1.5
        for _ in range(steps):
            s = exact.quadratic_step(s, 0.5, 1 / steps, scheme)
        errors.append(abs(s - exact.quadratic_flow(1.5, 0.5, 1.0)))
    assert np.divide(errors[:-1], errors[1:]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("scheme", exact.SCHEMES)
def test_quantile_steps_reproduce_the_gaussian_closed_form(scheme):
    """100 quantiles leave out the tails: .5 % of the standard deviation, the error halves with 200. Against the other
    scheme, 3 % away, the test would fail."""
    levels = (np.arange(100) + 0.5) / 100
    path = exact.quantile_steps(1.5 * norm.ppf(levels), exact.KERNELS["quadratic"], 0.5, 0.1, 10, scheme)
    s = 1.5
    for _ in range(10):
        s = exact.quadratic_step(s, 0.5, 0.1, scheme)
    assert path[-1].std() == pytest.approx(s, rel=0.01)
    other = 0.8503530 if scheme == "unsplit" else 0.8774780
    assert abs(path[-1].std() / other - 1) > 0.02


def test_finite_volumes_reproduce_the_gaussian_flow():
    x, mu = exact.finite_volumes(lambda x: norm.pdf(x, 0, 0.7), exact.KERNELS["quadratic"], 0.5, [0, 0.5, 1], 5, 200)
    dx = x[1] - x[0]
    stds = np.sqrt((mu * x**2).sum(1) * dx)
    assert mu.sum(1) * dx == pytest.approx(1, abs=1e-12) and mu.min() >= 0
    assert stds == pytest.approx(exact.quadratic_flow(0.7, 0.5, np.array([0, 0.5, 1])), abs=1e-4), "dx^2/8"


def test_both_solvers_agree_where_the_kernel_is_not_convex():
    """W_2 of the split scheme to the flow at t = 1, first order: .0057 at tau = .1 and half of it at .05; the law has
    two bumps by t = 3 (peak over centre 3.9)."""
    W, levels, t = exact.KERNELS["double_well"], (np.arange(200) + 0.5) / 200, [0, 1, 3]
    x, mu = exact.finite_volumes(lambda x: norm.pdf(x, 0, 0.7), W, 0.01, t, 3.2, 320)
    flow = exact.quantiles_of(x, mu[1], levels)
    start = 0.7 * norm.ppf(levels)
    errors = []
    for steps in (10, 20):
        path = exact.quantile_steps(start, W, 0.01, 1 / steps, steps, "split")
        errors.append(np.sqrt(np.mean((path[-1] - flow) ** 2)))
    assert errors[0] < 0.008 and 1.6 < errors[0] / errors[1] < 2.4
    assert mu[2].max() / mu[2][len(x) // 2] > 2


# Energies of particles.


def test_interaction_energy_and_its_push():
    """For W = |z|^2/2 the energy is half the unbiased variance and the push contracts to the mean by 1 - tau. With the
    factor 1/2 forgotten the energy's own gradient would be twice the push's."""
    y = torch.randn(700, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_(True)
    energy = Interaction(quadratic)(y)
    assert energy.item() == pytest.approx(y.var(0).sum().item() / 2, rel=1e-9)
    x = y.detach()
    pushed = Push(quadratic, 0.1, len(x))(x)
    assert torch.allclose(pushed - x.mean(0), 0.9 * (x - x.mean(0)), atol=1e-12)
    (gradient,) = torch.autograd.grad(Interaction(double_well)(y), y)
    descent = x - 0.1 * gradient * (len(x) - 1)
    assert torch.allclose(Push(double_well, 0.1, len(x))(x), descent, atol=1e-9)


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_kernels_of_particles_and_of_the_line_are_the_same(name):
    z = np.linspace(-2, 2, 41)
    W = exact.KERNELS[name]
    assert KERNELS[name](torch.tensor(z)[:, None]).numpy() == pytest.approx(W.value(z), abs=1e-12)
    for f, df in [(W.value, W.slope), (W.slope, W.curvature)]:
        assert (f(z + 1e-5) - f(z - 1e-5)) / 2e-5 == pytest.approx(df(z), abs=1e-6)


# Learned.


def learned(scheme, kernel, std, K, iterations, seed=0):
    """Laws k = 0..K, arrays (n, d), of the learned sequence with eps = .5 and tau = .1."""
    torch.manual_seed(seed)
    log_r, T = aggregation.NETWORKS[kernel](len(std), 16)
    dual = EntropyDual(Boltzmann(), log_r, MomentGaussian())
    step, push = aggregation.STEPS[scheme](dual, T, KERNELS[kernel], 0.5, 0.1, 300)
    x = torch.tensor(aggregation.start(std, 2000, np.random.default_rng(seed)), dtype=torch.float32)
    settings = dict(iterations=iterations, ratio_updates=2, batch=256, lr_map=2e-2, lr_ratio=1e-2, warm_up=100)
    flow = VariationalFlow(step, x, torch.Generator().manual_seed(seed), **settings, push=push)
    laws = [x.double().numpy()]
    for _ in range(K):
        flow.advance()
        laws.append(flow.x.double().numpy())
    return laws


def test_learned_split_step_is_the_exact_one():
    """Two small steps. Tolerance .03 in W_2: the first step alone moves by .15, and training to the flow instead of the
    scheme is told apart in the full run only."""
    std = np.array([1.5, 0.4])
    laws = learned("split", "quadratic", std, 2, 60)
    table = aggregation.against_gaussians(laws, std, 0.5, 0.1, "split", 3.2, 160)["table"]
    assert table["w2_learned_to_scheme"].max() < 0.03
    assert abs(table["std_learned"][2] - table["std_learned"][0]) > 0.1


def test_line_case_runs_and_repeats():
    """Same seed, same tables, and finite: the networks and the solvers of the double well."""
    std = np.array([0.7])
    a, b = (
        aggregation.against_the_line(learned("unsplit", "double_well", std, 1, 3), std, 0.5, 0.1, "unsplit", 3.2, 160)
        for _ in range(2)
    )
    assert set(a) == {"table", "density"} and all(a[name].equals(b[name]) for name in a)
    assert np.isfinite(a["table"]).all().all()
