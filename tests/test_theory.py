"""The unifying statements: variational bounds, envelope, squared MMD, orders of training; and their studies.

Digits printed to six decimals come from independent derivations (`abs=1e-6`: one unit in the last). Identities between two
formulas must hold to rounding.
"""

import copy
import math

import numpy as np
import pytest
import torch
from envelopes import ENVELOPES
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import norm

from gwf import divergences
from gwf.errors import UsageError
from gwf.exact import gaussian
from gwf.nets.mlp import MLP, ResidualMLP
from gwf.steps.jko import JKO, Alternation, Increments
from gwf.steps.parametric import half_mmd2, mmd2
from notebooks.chapters import envelope
from notebooks.chapters.mmd_particles import MMDParticles, witness
from notebooks.chapters.small_problems import PointSaddle
from tests.notebook_code import load_notebook

variational = load_notebook("variational")
deterministic = settings(derandomize=True, deadline=None, max_examples=25)


# Bounds of the divergences (gwf, equation 11).


@pytest.mark.parametrize(
    ("a", "b", "dv", "classical", "chi2"), [(0.5, 0.0, 0.525, 0.233138, 0.5875), (1.3, -2.0, 0.845, -0.425903, 0.2675)]
)
def test_bounds_of_affine_critics(a, b, dv, classical, chi2):
    found = variational.exact_bounds(1.3, a, b)
    assert list(found.values()) == pytest.approx([classical, dv, chi2, 1.69], abs=1e-6)


def test_formulas_of_the_bounds_agree_with_the_registered_functionals():
    """2e5 equal-weight quantiles stand for the laws; their missing tails cost less than 1e-3 for these critics."""
    z = torch.tensor(norm.ppf((np.arange(200_000) + 0.5) / 200_000))
    for a, b in ((0.5, 0.0), (1.0, 0.3)):
        exact = variational.exact_bounds(1.3, a, b)
        for title, name in (("KL", "kl"), ("KL-DV", "kl_dv"), ("chi2", "chi2"), ("chi2 tight", "chi2_tight")):
            bound = divergences.get(name).bound(a * (z + 1.3) + b, a * z + b)
            assert float(bound) == pytest.approx(exact[title], abs=1e-3)


@deterministic
@given(st.floats(-2, 2), st.floats(-2.3, 2.3), st.floats(-2, 2))
def test_gap_is_the_convex_remainder_and_donsker_varadhan_the_best_constant(m, a, b):
    """DV - classical = e^(s-1) - s with s = log E_nu e^h, and DV = sup_c classical(h + c), at c = 1 - s."""
    found, s = variational.exact_bounds(m, a, b), b + a**2 / 2
    assert found["KL-DV"] - found["KL"] == pytest.approx(math.exp(s - 1) - s, abs=1e-12)
    at_best = variational.exact_bounds(m, a, b + 1 - s)["KL"]
    assert at_best == pytest.approx(found["KL-DV"], abs=1e-12)
    for c in (-0.3, 0.2):
        assert variational.exact_bounds(m, a, b + 1 - s + c)["KL"] < found["KL-DV"]


def test_smallest_gap_of_the_published_grid():
    cases = [
        variational.exact_bounds(m, a, b)
        for m in (-2, -0.7, 0.3, 1.5)
        for a in (-2.3, -0.5, 0, 0.8, 2.1)
        for b in (-1.4, 0, 1.2)
    ]
    assert len(cases) == 60
    assert min(case["KL-DV"] - case["KL"] for case in cases) == pytest.approx(0.017835, abs=1e-6)
    at_zero = variational.exact_bounds(1.0, 0.0, 0.0)
    assert at_zero["KL-DV"] - at_zero["KL"] == pytest.approx(math.exp(-1), abs=1e-12)


def test_best_constant_on_random_discrete_laws():
    """The supremum over constants, found by a solver that knows no formula; flat at the top, so its value is exact to 1e-12."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        p, q, h = rng.dirichlet(np.ones(7)), rng.dirichlet(np.ones(7)), rng.normal(size=7)
        best = -minimize_scalar(lambda c: q @ np.exp(h + c - 1) - p @ (h + c), tol=1e-12).fun
        assert best == pytest.approx(p @ h - np.log(q @ np.exp(h)), abs=1e-12)


def test_tight_chi2_is_the_supremum_over_affine_rescalings():
    """BFGS over (a, b) from a fixed start finds (E_mu h - E_nu h)^2 / Var_nu h: concave and smooth, so to 1e-8."""
    rng = np.random.default_rng(1)
    for _ in range(5):
        p, q, h = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(6)), rng.normal(size=6)

        def plain(u):
            g = u[0] * h + u[1]
            return -(p @ g - q @ (g + g**2 / 4))

        tight = (p @ h - q @ h) ** 2 / (q @ h**2 - (q @ h) ** 2)
        assert -minimize(plain, [0.1, 0.1], method="BFGS", options={"gtol": 1e-10}).fun == pytest.approx(
            tight, abs=1e-8
        )
        assert -plain([1.0, 0.0]) <= tight + 1e-12


def test_symmetric_tight_chi2_gradient_with_and_without_the_variance():
    """mu = N(theta, 1), the critic optimal for chi2(nu | mu): true slope 2 theta e^(theta^2), 2 theta if Var is detached.

    At theta = .5 (at 1 the sample variance of the ratio converges slowly): 2e5 quantiles, 1 % for the tails they miss.
    """
    theta = 0.5
    z = torch.tensor(norm.ppf((np.arange(200_000) + 0.5) / 200_000))
    shift = torch.tensor(theta, dtype=torch.float64, requires_grad=True)

    def critic(x):
        return (-theta * x + theta**2 / 2).exp()

    u_nu, u_mu = critic(z), critic(z + shift)
    loss = divergences.get("chi2_tight").swapped.map_loss(u_mu, u_nu)
    (slope,) = torch.autograd.grad(loss, shift, retain_graph=True)
    assert float(slope) == pytest.approx(2 * theta * math.exp(theta**2), rel=0.01)
    detached = (u_nu.mean() - u_mu.mean()) ** 2 / u_mu.var(correction=0).detach()
    (attenuated,) = torch.autograd.grad(detached, shift)
    assert float(attenuated) == pytest.approx(2 * theta, rel=0.01)
    assert 2 * math.e == pytest.approx(5.436564, abs=1e-6), "theta = 1: 2 against this"


def test_saturating_and_non_saturating_gradients_add_up_to_kl():
    saturating, other = variational.js_gradients(1.0)
    assert [saturating, other] == pytest.approx([0.397973, 0.602027], abs=1e-6)
    step = 1e-4
    slope = 2 * float(gaussian.js(1 + step, 1, 0, 1) - gaussian.js(1 - step, 1, 0, 1)) / (2 * step)
    assert saturating == pytest.approx(slope, abs=1e-6)
    assert saturating + other == pytest.approx(1.0, abs=1e-12), "d KL / dm = m"


def test_matched_latents_lose_nothing():
    """T_k a quarter turn of N(0, I): over affine T the matched cost gives the JKO value from N(0, I), 1.06331674639."""
    M, S, tau = (1.0, 0.5), (0.6, 1.5), 0.3
    R = np.array([[0.0, -1.0], [1.0, 0.0]])
    m, s = gaussian.jko_step(np.zeros(2), np.ones(2), M, S, tau)
    A, b = np.diag(s) @ R, m
    value = (((A - R) ** 2).sum() + b @ b) / (2 * tau) + gaussian.kl_cov(b, A @ A.T, M, np.diag(np.square(S)))
    assert value == pytest.approx(1.06331674639, abs=1e-10)
    assert value == pytest.approx(float(gaussian.jko_objective(m, s, np.zeros(2), np.ones(2), M, S, tau)), abs=1e-12)

    def objective(u):
        A, b = u[:4].reshape(2, 2), u[4:]
        sign, log_det = np.linalg.slogdet(A)
        if sign <= 0:
            return 1e6
        precision = np.diag(1 / np.square(S))
        gap = b - M
        kl = (np.trace(precision @ A @ A.T) + gap @ precision @ gap - 2 + 2 * np.log(S).sum() - 2 * log_det) / 2
        return (((A - R) ** 2).sum() + b @ b) / (2 * tau) + kl

    assert objective(np.concatenate([A.ravel(), b])) == pytest.approx(value, abs=1e-12)
    found = minimize(objective, np.concatenate([R.ravel(), np.zeros(2)]), method="BFGS")
    assert found.fun == pytest.approx(value, abs=1e-6), "a search over all affine maps finds nothing lower"


def test_mean_and_sum_costs_are_one_scheme():
    """tau per dimension d and d tau Euclidean: the same parameters after 20 updates, up to rounding of one factor."""
    runs = []
    for tau, per_dimension in ((0.5, True), (1.0, False)):
        game, T = small_game(tau, per_dimension)
        for _ in range(20):
            game.cycle(1, 1)
        runs.append(torch.cat([p.flatten() for p in T.parameters()]))
    assert torch.allclose(*runs, atol=1e-5)
    other, T = small_game(0.5, False)
    for _ in range(20):
        other.cycle(1, 1)
    game = torch.cat([p.flatten() for p in T.parameters()])
    assert not torch.allclose(game, runs[0], atol=1e-3), "control: the same tau in both conventions is not"


# The envelope (gwf, proposition 3.2).


@pytest.mark.parametrize("name", ENVELOPES)
def test_explicit_step_on_the_envelope_is_the_jko_step_at_one_half_only(name):
    """Differences of half width 2e-4 of values good to 1e-12: the step is good to about 1e-8."""
    m, s, M, S, eps, exact, value, miss = ENVELOPES[name]
    assert gaussian.moreau_envelope(name, m, s, M, S, eps) == pytest.approx(value, abs=1e-7)
    half = np.concatenate(envelope.gaussian_step(name, m, s, M, S, eps))
    assert half == pytest.approx(exact, abs=1e-6)
    start = np.concatenate([m, s])
    short = start + 0.35 / 0.5 * (half - start)  # the step is linear in gamma
    assert np.linalg.norm(short - half) == pytest.approx(miss, abs=1e-6)


def double_well():
    return envelope.KLOnQuantiles(
        lambda x: (x**2 - 1) ** 2 / 0.8, lambda x: 4 * x * (x**2 - 1) / 0.8, lambda x: (12 * x**2 - 4) / 0.8
    )


def test_explicit_step_on_quantiles_of_a_double_well():
    """No Gaussian anywhere: the same identity for n = 40 quantiles, differences good to 1e-8."""
    q = norm.ppf((np.arange(40) + 0.5) / 40) * 0.5 + 1
    problem = double_well()
    eta, _ = problem.prox(q, 0.4)
    assert np.abs(problem.explicit_step(q, 0.4) - eta).max() < 1e-7
    short = problem.explicit_step(q, 0.4, gamma=0.35)
    assert np.sqrt(np.mean((short - eta) ** 2)) > 0.05
    with pytest.raises(UsageError, match="increasing"):
        problem.prox(q[::-1], 0.4)


def test_quantile_prox_agrees_with_the_gaussian_step():
    """V = x^2/2: the differences of 400 quantiles cut the tails, which costs a few 1e-3 in s."""
    problem = envelope.KLOnQuantiles(lambda x: x**2 / 2, lambda x: x, lambda x: np.ones_like(x))
    eta, _ = problem.prox(norm.ppf((np.arange(400) + 0.5) / 400) * 0.5 + 2, 1.0)
    m, s = gaussian.jko_step(2, 0.5, 0, 1, 0.5)
    z = norm.ppf((np.arange(400) + 0.5) / 400)
    assert eta.mean() == pytest.approx(float(m), abs=1e-6)
    assert (eta @ z) / (z @ z) == pytest.approx(float(s), abs=5e-3)


def test_potential_of_the_linear_programme_moves_mu_to_the_minimiser():
    """Grids of spacing .035 and differences over .1: the map is good to about 1e-2 in the bulk, 2e-3 in the mean."""
    x, y = np.linspace(-2, 4, 250), np.linspace(-3, 3.5, 270)
    m, s, tau = 1.0, 0.5, 0.2
    m_1, s_1 = gaussian.jko_step(m, s, -0.5, 1, tau)
    a, b = norm.pdf(x, m, s), norm.pdf(y, m_1, s_1)
    a, b = a / a.sum(), b / b.sum()
    phi = envelope.potential(x, a, y, b, 2 * tau)
    exact = m_1 + s_1 / s * (x - m)
    miss = {gamma: np.sqrt(a @ (envelope.potential_step(x, phi, 2 * tau, gamma) - exact) ** 2) for gamma in (0.5, 0.35)}
    assert miss[0.5] < 5e-3 < 0.05 < miss[0.35]


# Squared MMD (gwf, section 4).


def two_clusters(n=20):
    stream = torch.Generator().manual_seed(0)
    noise = 0.3 * torch.randn(3, n, 1, generator=stream, dtype=torch.float64)
    return noise[0].repeat(2, 1)[:n] + 2, torch.cat([noise[1] - 1.5, noise[2] + 1.5])


@pytest.mark.parametrize("tau", [0.5, 5.0])
def test_particles_descend_mmd_by_implicit_euler(tau):
    x, y = two_clusters()
    problem = MMDParticles(y, bandwidth=1.0)
    values = [float(problem.value(x))]
    for _ in range(3):
        new = problem.jko_step(x, tau)
        assert float(problem.residual(new, x, tau).abs().max()) < 1e-7
        values.append(float(problem.value(new)))
        cost = float((new - x).square().sum()) / (2 * tau * len(x))
        assert values[-1] + cost <= values[-2], "the objective at the step is at most its value at staying"
        x = new
    assert values[-1] < 0.9 * values[0]


def test_gradient_of_mmd_is_the_gradient_of_the_witness():
    x, y = two_clusters()
    x = x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(half_mmd2(x, y, 1.0), x)
    at = x.detach().clone().requires_grad_(True)
    (of_witness,) = torch.autograd.grad(witness(at, x.detach(), y, 1.0).sum(), at)
    assert torch.allclose(len(x) * gradient, of_witness, atol=1e-12)


def test_unbiased_mmd_has_mean_zero_between_equal_laws():
    """500 pairs of 20 points: the mean's standard error is below 1e-3."""
    stream = torch.Generator().manual_seed(1)
    draws = torch.randn(500, 2, 20, 1, generator=stream)
    assert abs(np.mean([float(mmd2(a, b, 1.0)) for a, b in draws])) < 4e-3


def test_adaptive_kernel_saddle():
    toy = PointSaddle()
    phi, t = toy.alternate(0.2, 1.0)[-1]
    assert (phi, t) == pytest.approx(toy.saddle, abs=1e-9)
    assert toy.value(phi, t) == pytest.approx(1 / 3, abs=1e-9) and toy.best_map(0.0) == 1
    inner = [toy.value(p, toy.best_map(p)) for p in np.linspace(0, 1, 11)]
    assert np.argmax(inner) == 10 and np.argmin([toy.value(1.0, t) for t in np.linspace(0, 1, 301)]) == 100


# Training orders.


def latent(n, stream):
    """z ~ N(0, I), (n, 2)."""
    return torch.randn(n, 2, generator=stream)


def small_game(tau, per_dimension=True):
    torch.manual_seed(0)
    T, h = ResidualMLP(2, 8, 1), MLP(2, 1, 8, 1)
    game = Alternation(
        "kl_dv",
        T,
        h,
        latent,
        lambda n, g: torch.randn(n, 2, generator=g),
        tau,
        per_dimension=per_dimension,
        penalty=0.0,
        lr_map=1e-2,
        lr_critic=1e-2,
        batch=32,
        seed=0,
    )
    return game, T


def test_increments_compose_and_freeze():
    torch.manual_seed(0)
    h = MLP(2, 1, 8, 1)
    scheme = Increments(
        lambda: ResidualMLP(2, 8, 1),
        latent,
        functional="kl_dv",
        h=h,
        data=lambda n, g: torch.randn(n, 2, generator=g),
        tau=0.5,
        per_dimension=True,
        penalty=0.0,
        lr_map=1e-2,
        lr_critic=1e-2,
        batch=32,
        seed=0,
    )
    scheme.cycle(2, 2)
    z = torch.randn(5, 2)
    before = scheme.T(z).detach()
    scheme.advance()
    assert torch.equal(scheme.T(z).detach(), before), "a new increment is the identity"
    frozen = copy.deepcopy(scheme.maps[0].state_dict())
    scheme.cycle(1, 1)
    assert all(torch.equal(frozen[k], v) for k, v in scheme.maps[0].state_dict().items())
    assert not torch.equal(scheme.T(z).detach(), before)


def test_lambda_2_of_the_released_code_is_twice_tau():
    """Weight 1 / lambda2 there, 1 / (2 tau) here."""
    T, z = torch.nn.Linear(2, 2), torch.randn(6, 2)
    prox = JKO(T, tau=0.1, per_dimension=True)
    x = T(z).detach() + 1
    assert float(prox.proximal(x, z)) == pytest.approx(1 / 0.2, rel=1e-6)


# Studies.


def test_bias_has_the_sign_and_size_derived():
    draw = np.random.default_rng(0)
    rows = {(row[2], B): row for B in (16, 64) for row in variational.bias(1.0, [1.0], B, 2000, draw)}
    measured = {B: rows["KL-DV", B][5] for B in (16, 64)}
    # (e - 1) / (2 B) with a next order of relative size about 5 / B, plus Monte Carlo.
    assert 0 < measured[64] < measured[16] and measured[64] == pytest.approx(math.expm1(1) / 128, rel=0.2)
    tight, spread, exact = rows["chi2 tight", 16][5:]
    assert tight == pytest.approx(exact, abs=4 * spread / math.sqrt(2000))


def test_donsker_varadhan_gives_the_map_too_large_a_gradient_and_the_classical_bound_does_not():
    gradient = {
        bound: variational.ascent(bound, 1.0, 16, 200, 0.05, 100, np.random.default_rng(1))[5]
        for bound in variational.WEIGHTS
    }
    assert gradient["KL-DV"] > 1.1 > 1.05 > gradient["KL"], "at B = 16 the map's gradient is a fifth too large"


def test_cells_of_the_step_sizes_share_their_start_and_their_batches():
    """A huge step is no step: the proximal gradient is of order 1e-12, and Adam's share of it below rounding."""
    trained = load_notebook("step_sizes").trained
    training = {"steps": 2, "iterations": 3, "width": 8, "depth": 1, "batch": 16, "penalty": 0.2}
    maps = [trained(0, "kl_dv", tau, lr_map=1e-3, lr_critic=1e-3, **training) for tau in (math.inf, 1e12)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*(T.parameters() for T in maps), strict=True))


def test_increments_are_composed_in_their_order_and_the_critic_goes_on():
    """Affine increments set by hand: T(z) is the last of all, latents of S_k are mu_k's; Adam and streams of the critic stay."""
    made = []

    def make_S():
        S = torch.nn.Linear(2, 2)
        with torch.no_grad():
            S.weight.copy_(torch.eye(2))
            S.bias.zero_()
        made.append(S)
        return S

    h = torch.nn.Linear(2, 1)
    settings = dict(
        functional="kl_dv", h=h, tau=0.5, per_dimension=False, penalty=0.0, lr_map=1e-3, lr_critic=1e-3, batch=4
    )
    latent = lambda n, stream: torch.ones(n, 2)
    flow = Increments(make_S, latent, data=lambda n, stream: torch.randn(n, 2, generator=stream), seed=0, **settings)
    adam, streams = flow.inner.adams[1], flow.inner.streams
    z, expected = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    for k, (scale, shift) in enumerate(((2.0, 1.0), (-1.0, 3.0))):
        assert torch.equal(flow.latent(3, None), expected.expand(3, 2)) and len(flow.maps) == k
        with torch.no_grad():
            made[-1].weight.mul_(scale)
            made[-1].bias.fill_(shift)
        expected = scale * expected + shift
        assert torch.equal(flow.T(z), expected)
        flow.cycle(1, 0)
        flow.advance()
        assert not any(w.requires_grad for w in made[k].parameters()) and flow.S is made[-1] is not made[k]
        assert flow.inner.adams[1] is adam and flow.inner.streams is streams
        assert torch.equal(flow.T(z), expected), "the new increment is the identity"
    assert adam.state[h.weight]["step"] == 2
