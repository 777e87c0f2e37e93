"""Every registered functional goes through the same tests, in both directions where that is a different functional.

Gaussians of unit variance make everything exact: for mu = N(m, 1) and nu = N(0, 1), log dmu/dnu = m x - m^2/2.
Values are quadratures on a grid of 4001 points over [-12, 12]: for these analytic integrands the rule's error is at
rounding level, so 1e-9 only leaves room for rounding (float64). Losses see `quantiles`, equal-weight points that
stand for a Gaussian, whose missing tails are the error that the tolerances allow for.
"""

import math

import pytest
import torch
from scipy import stats

from gwf import functionals
from gwf.errors import UsageError
from gwf.functionals.base import FDivergence, log_mean_exp
from gwf.training import recipes


@pytest.fixture(autouse=True)
def float64():
    """Double precision within these tests alone."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


NAMES = recipes.implicit()
F_DIVERGENCES = [name for name in NAMES if isinstance(functionals.get(name), FDivergence)]
# upper end of dom f*, where it is not infinity
DOMAIN = {"js": math.log(2), "js_ns": math.log(2), "reverse_kl": 0.0, "hellinger": 1.0}

X = torch.linspace(-12, 12, 4001, dtype=torch.float64)
W = torch.full_like(X, 24 / 4000)


def normal(m):
    return torch.exp(-((X - m) ** 2) / 2) / math.sqrt(2 * math.pi)


def quantiles(m, n=50_001):
    """n points with equal weight whose empirical law is N(m, 1) up to O(1/n)."""
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.tensor(stats.norm.ppf(u.numpy())) + m


NU = quantiles(0.0)


def log_ratio(x, m=1.0):
    return m * x - m**2 / 2


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_conjugate_is_the_supremum(name):
    """f*(s) = sup_t { s t - f(t) }, the supremum taken on a fine grid of t."""
    F = functionals.get(name)
    t = torch.logspace(-6, 4, 50_001)
    # f'(t) over a moderate range of t gives the s for which the maximiser lies inside the grid
    s = F.df(torch.logspace(-2, 1.5, 60))
    grid = (s[:, None] * t - F.f(t)).max(dim=1).values
    # the grid is 4.6e-4 apart in log t; at the maximum the error is second order, below 1e-7 of s t
    assert torch.allclose(F.conjugate(s), grid, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_fenchel_young(name):
    """f(t) + f*(s) >= s t with equality at s = f'(t), and f(1) = 0."""
    F = functionals.get(name)
    t = torch.logspace(-3, 2, 101)
    s = F.df(torch.logspace(-2, 1.5, 83))
    gap = F.f(t)[:, None] + F.conjugate(s)[None] - s[None] * t[:, None]
    assert gap.min() > -1e-9
    assert torch.allclose(F.f(t) + F.conjugate(F.df(t)), F.df(t) * t, atol=1e-9)
    assert abs(float(F.f(torch.tensor(1.0)))) < 1e-15


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_derivative(name):
    """df is the derivative of f."""
    F = functionals.get(name)
    t = torch.logspace(-2, 2, 50).requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.f(t).sum(), t)
    assert torch.allclose(gradient, F.df(t.detach()), atol=1e-10)


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_outputs_stay_in_the_domain(name):
    """h maps every real output into dom f*, and inverts to f' of the ratio at the optimal output."""
    F = functionals.get(name)
    u = torch.linspace(-20, 20, 401)
    h = F.h(u)
    assert (h <= DOMAIN.get(name, math.inf)).all()
    ratio = torch.logspace(-2, 2, 101)
    assert torch.allclose(F.h(F.optimal_output(ratio.log())), F.df(ratio), atol=1e-10)


@pytest.mark.parametrize("direction", ["mu||nu", "nu||mu"])
@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_bound_is_below_the_value_and_tight_at_the_optimal_critic(name, direction):
    F = functionals.get(name)
    F = F if direction == "mu||nu" else F.swapped
    m = 0.5  # light enough for equal-weight quantiles to carry the tails of every ratio
    mu, nu = quantiles(m), quantiles(0.0)
    value = float(F.value(normal(m), normal(0.0), W))
    optimal = float(F.bound(F.optimal_output(log_ratio(mu, m)), F.optimal_output(log_ratio(nu, m))))
    # n = 2e5 quantiles miss tail mass 1/n beyond 4.4 sd: below 1e-4 of the value for these ratios
    assert optimal == pytest.approx(value, rel=2e-3)
    stream = torch.Generator().manual_seed(0)
    for _ in range(30):
        a, b, c = torch.randn(3, generator=stream).tolist()
        critic = lambda x: a * x + b * torch.sin(x) + c  # noqa: E731
        u_mu, u_nu = F.optimal_output(log_ratio(mu, m)) + critic(mu), F.optimal_output(log_ratio(nu, m)) + critic(nu)
        assert float(F.bound(u_mu, u_nu)) <= value * (1 + 2e-3)
        assert float(F.critic_loss(u_mu, u_nu)) == -float(F.bound(u_mu, u_nu))


def test_a_wrong_conjugate_is_caught():
    """Negative control: with f*(s) = e^s in place of e^(s-1) the bound is no longer tight."""
    F = functionals.get("kl")
    value = float(F.value(normal(0.5), normal(0.0), W))
    u_mu, u_nu = F.optimal_output(log_ratio(quantiles(0.5), 0.5)), F.optimal_output(log_ratio(quantiles(0.0), 0.5))
    wrong = float(F.h(u_mu).mean() - F.h(u_nu).exp().mean())
    assert abs(wrong - value) > 1


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_swapping_exchanges_the_laws(name):
    F = functionals.get(name)
    p, q = normal(0.7), normal(0.0)
    assert float(F.swapped.value(p, q, W)) == pytest.approx(float(F.value(q, p, W)), rel=1e-12)
    assert F.swapped.swapped is F


def test_swapped_kl_is_reverse_kl():
    p, q = normal(0.7), normal(0.0)
    kl, reverse = functionals.get("kl"), functionals.get("reverse_kl")
    assert float(kl.swapped.value(p, q, W)) == pytest.approx(float(reverse.value(p, q, W)), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("kl", 1.3**2 / 2),
        ("kl_dv", 1.3**2 / 2),
        ("reverse_kl", 1.3**2 / 2),
        ("chi2", math.expm1(1.69)),
        ("chi2_tight", math.expm1(1.69)),
        ("hellinger", 2 * (1 - math.exp(-1.69 / 8))),
        ("w1", 1.3),
    ],
)
def test_values_of_gaussians(name, exact):
    """D(N(1.3, 1) || N(0, 1)) in closed form; W1 on this grid is exact to the square of its spacing, 6e-3."""
    value = float(functionals.get(name).value(normal(1.3), normal(0.0), W))
    assert value == pytest.approx(exact, rel=1e-9 if name != "w1" else 1e-5)


def test_jensen_shannon_value():
    """JS(N(1, 1), N(0, 1)) = .111421 (gwf card of reference values); the functional is 2 JS."""
    assert float(functionals.get("js").value(normal(1.0), normal(0.0), W)) / 2 == pytest.approx(0.111421, abs=5e-7)


@pytest.mark.parametrize(
    ("a", "b", "dv", "classical", "chi2", "tight"),
    [(0.5, 0.0, 0.525, 0.233138, 0.5875, 1.69), (1.3, -2.0, 0.845, -0.425903, 0.2675, 1.69)],
)
def test_bounds_of_affine_critics(a, b, dv, classical, chi2, tight):
    """mu = N(1.3, 1), nu = N(0, 1), h(x) = a x + b: DV = 1.3 a - a^2/2, classical = 1.3 a + b - e^(b-1+a^2/2), ..."""
    mu, nu = quantiles(1.3, 500_001), quantiles(0.0, 500_001)
    h = lambda x: a * x + b  # noqa: E731
    got = {name: float(functionals.get(name).bound(h(mu), h(nu))) for name in ("kl_dv", "kl", "chi2", "chi2_tight")}
    # n quantiles miss the tails beyond 4.9 sd: variances fall short by about log(n)/n, 3e-5, the mean of e^(1.3 x) by more
    assert got["kl_dv"] == pytest.approx(dv, abs=2e-4)
    assert got["kl"] == pytest.approx(classical, abs=2e-4)
    assert got["chi2"] == pytest.approx(chi2, abs=2e-4)
    assert got["chi2_tight"] == pytest.approx(tight, abs=2e-4)


def test_donsker_varadhan_dominates_the_classical_bound():
    """DV(h) - classical(h) = e^(s-1) - s >= 0 with s = log E_nu e^h, for any critic, and DV = sup_c classical(h + c)."""
    dv, kl = functionals.get("kl_dv"), functionals.get("kl")
    stream = torch.Generator().manual_seed(1)
    for _ in range(50):
        u_mu, u_nu = torch.randn(2, 64, generator=stream) * 2
        s = float(log_mean_exp(u_nu))
        gap = float(dv.bound(u_mu, u_nu) - kl.bound(u_mu, u_nu))
        assert gap == pytest.approx(math.exp(s - 1) - s, abs=1e-9)
        assert gap >= 0
        best = float(kl.bound(u_mu + 1 - s, u_nu + 1 - s))  # c = 1 - s solves d/dc = 0
        assert best == pytest.approx(float(dv.bound(u_mu, u_nu)), abs=1e-12)


def test_tight_chi2_is_the_supremum_over_affine_rescalings():
    tight, plain = functionals.get("chi2_tight"), functionals.get("chi2")
    stream = torch.Generator().manual_seed(2)
    for _ in range(20):
        u_mu, u_nu = torch.randn(2, 200, generator=stream) + torch.tensor([[0.4], [0.0]])
        value = float(tight.bound(u_mu, u_nu))
        difference, variance = u_mu.mean() - u_nu.mean(), u_nu.var(correction=0)
        a = 2 * difference / variance  # the maximiser of a D - a^2 V / 4, with the shift that centres a h under nu
        b = -a * u_nu.mean()
        assert float(plain.bound(a * u_mu + b, a * u_nu + b)) == pytest.approx(value, rel=1e-10)
        for _ in range(20):
            a, b = torch.randn(2, generator=stream) * 3
            assert float(plain.bound(a * u_mu + b, a * u_nu + b)) <= value + 1e-12
        assert float(tight.bound(3 * u_mu - 5, 3 * u_nu - 5)) == pytest.approx(value, rel=1e-10)


DERIVATIVES = {  # d/dm of the value for mu = N(m, 1), nu = N(0, 1), at m = 1
    "kl": 1.0,
    "kl_dv": 1.0,
    "reverse_kl": 1.0,
    "js": 0.397973,
    "js_ns": 0.602027,  # by definition not the value's: that of KL - 2 JS
    "chi2": 2 * math.e,
    "chi2_tight": 2 * math.e,
    "hellinger": 2 * math.exp(-1 / 8) / 4,
    "w1": 1.0,
}


def map_gradient(functional, loss, m=1.0):
    """d/dm of a map loss at the optimal critic of N(m, 1) against N(0, 1), for the map x = m + z."""
    shift = torch.tensor(m, requires_grad=True)
    x = NU + shift  # quantiles of N(m, 1) that move with m
    if hasattr(functional, "optimal_output"):
        u_mu, u_nu = functional.optimal_output(m * x - m**2 / 2), functional.optimal_output(m * NU - m**2 / 2)
    else:
        u_mu, u_nu = x, NU  # W1: h(x) = x is optimal for a shift to the right
    (gradient,) = torch.autograd.grad(loss(u_mu, u_nu), shift)
    return float(gradient)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_of_the_map_loss_at_the_optimal_critic(name):
    """Envelope theorem: the map loss has the gradient of the value (for `js_ns`, of KL - 2 JS)."""
    F = functionals.get(name)
    # chi2's ratio has e^(2 m x) tails: the quantiles' cut at 4.4 sd costs 1 %; the others 1e-4
    tolerance = 2e-2 if name.startswith("chi2") else 1e-3
    assert map_gradient(F, F.map_loss) == pytest.approx(DERIVATIVES[name], rel=tolerance)


def test_nonsaturating_js_descends_something_else():
    """Its gradient is that of KL(mu || nu) - 2 JS: .602027 at m = 1, where 2 JS has .397973; together dKL/dm = 1."""
    F = functionals.get("js")
    nonsaturating, saturating = map_gradient(F, F.map_loss_nonsaturating), map_gradient(F, F.map_loss)
    assert nonsaturating == pytest.approx(0.602027, abs=1e-4)
    assert saturating == pytest.approx(0.397973, abs=1e-4)
    assert abs(nonsaturating - saturating) > 0.2


@pytest.mark.parametrize("name", [name for name in F_DIVERGENCES if name != "chi2_tight"])
def test_gradient_of_the_swapped_map_loss(name):
    """The same for D(nu || mu), at m = 1/2 so that every ratio's tails are carried by the quantiles."""
    F = functionals.get(name).swapped
    m, step = 0.5, 1e-4
    numeric = (F.value(normal(m + step), normal(0.0), W) - F.value(normal(m - step), normal(0.0), W)) / (2 * step)
    assert map_gradient(F, F.map_loss, m) == pytest.approx(float(numeric), rel=5e-3)


def test_swapped_tight_chi2_keeps_the_gradient_of_the_variance():
    """mu = N(theta, 1): the true gradient is 2 theta e^(theta^2); detaching the variance would leave 2 theta."""
    theta = 0.5
    gradient = map_gradient(
        functionals.get("chi2_tight").swapped, functionals.get("chi2_tight").swapped.map_loss, theta
    )
    assert gradient == pytest.approx(2 * theta * math.exp(theta**2), rel=1e-2)
    assert abs(gradient - 2 * theta) > 0.2


def test_the_non_saturating_js_has_the_critic_of_js():
    """Same bits for critic and bound; only the map's loss is another."""
    u_mu, u_nu = torch.randn(2, 100, generator=torch.Generator().manual_seed(0)) * 5
    js, ns = functionals.get("js"), functionals.get("js_ns")
    for F, G in [(js, ns), (js.swapped, ns.swapped)]:
        assert torch.equal(F.critic_loss(u_mu, u_nu), G.critic_loss(u_mu, u_nu))
    assert torch.equal(js.map_loss_nonsaturating(u_mu), ns.map_loss(u_mu))
    assert not torch.equal(js.map_loss(u_mu), ns.map_loss(u_mu))


def test_misspelt_names_are_answered_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'kl_dv'"):
        functionals.get("kl_vd")


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_for_extreme_critics(name):
    """Outputs of +-30 and their gradients stay finite in float32 (exp(30) = 1e13)."""
    F = functionals.get(name)
    u_mu = torch.tensor([-30.0, 0.0, 30.0], dtype=torch.float32, requires_grad=True)
    u_nu = torch.tensor([30.0, 0.0, -30.0], dtype=torch.float32, requires_grad=True)
    loss = F.critic_loss(u_mu, u_nu) + F.map_loss(u_mu, u_nu) + F.map_loss_nonsaturating(u_mu, u_nu)
    gradients = torch.autograd.grad(loss, (u_mu, u_nu), allow_unused=True)
    assert math.isfinite(float(loss.detach()))
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)
