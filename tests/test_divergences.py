"""Every divergence of the table goes through the same tests in each of its uses: critic, ratio, potential.

Critics in both directions, where that is a different functional. `COMMON` are the tests that a new divergence has to pass.

Gaussians of unit variance make everything exact: for mu = N(m, 1) and nu = N(0, 1), log dmu/dnu = m x - m^2/2.
Values are quadratures on a grid of 4001 points over [-12, 12]: for these analytic integrands the rule's error is at
rounding level, so 1e-9 only leaves room for rounding (float64). Losses see `quantiles`, equal-weight points that
stand for a Gaussian, whose missing tails are the error that the tolerances allow for.
"""

import math

import pytest
import torch
from scipy import stats

from gwf import divergences
from gwf.bounds import FDivergence, Generator, exp, log_mean_exp, softplus, sqrt
from gwf.errors import UsageError
from gwf.exact import atoms
from gwf.seeding import generator
from gwf.training import recipes


@pytest.fixture(autouse=True)
def float64():
    """Double precision within these tests alone."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


NAMES = divergences.names()
F_DIVERGENCES = [name for name in NAMES if isinstance(divergences.get(name), FDivergence)]
ENTROPIES = [name for name, D in divergences.DIVERGENCES.items() if isinstance(D, Generator) and name != "tv"]
RATIOS = [*F_DIVERGENCES, "tv"]

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
    F = divergences.get(name)
    t = torch.logspace(-6, 4, 50_001)
    # f'(t) over a moderate range of t gives the s for which the maximiser lies inside the grid
    s = F.df(torch.logspace(-2, 1.5, 60))
    grid = (s[:, None] * t - F.f(t)).max(dim=1).values
    # the grid is 4.6e-4 apart in log t; at the maximum the error is second order, below 1e-7 of s t
    assert torch.allclose(F.conjugate(s), grid, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_fenchel_young(name):
    """f(t) + f*(s) >= s t with equality at s = f'(t), and f(1) = 0."""
    F = divergences.get(name)
    t = torch.logspace(-3, 2, 101)
    s = F.df(torch.logspace(-2, 1.5, 83))
    gap = F.f(t)[:, None] + F.conjugate(s)[None] - s[None] * t[:, None]
    assert gap.min() > -1e-9
    assert torch.allclose(F.f(t) + F.conjugate(F.df(t)), F.df(t) * t, atol=1e-9)
    assert abs(float(F.f(torch.tensor(1.0)))) < 1e-15


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_derivative(name):
    """df is the derivative of f, its inverse is that of f*, slope, and curvature is the derivative of slope."""
    F = divergences.get(name)
    t = torch.logspace(-2, 2, 50).requires_grad_(True)
    (gradient,) = torch.autograd.grad(F.f(t).sum(), t)
    assert torch.allclose(gradient, F.df(t.detach()), atol=1e-10)
    s = gradient.requires_grad_(True)
    (slope,) = torch.autograd.grad(F.conjugate(s).sum(), s)
    assert torch.allclose(slope, t, rtol=1e-8) and torch.allclose(slope, F.slope(s), rtol=1e-8)
    (curvature,) = torch.autograd.grad(F.slope(s).sum(), s)
    assert torch.allclose(curvature, F.curvature(s), rtol=1e-8)


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_outputs_stay_in_the_domain(name):
    """h maps every real output into dom f*, and inverts to f' of the ratio at the optimal output."""
    F = divergences.get(name)
    u = torch.linspace(-20, 20, 401)
    h = F.h(u)
    assert (h <= F.top).all()
    ratio = torch.logspace(-2, 2, 101)
    assert torch.allclose(F.h(F.optimal_output(ratio.log())), F.df(ratio), atol=1e-10)


@pytest.mark.parametrize("direction", ["mu||nu", "nu||mu"])
@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_bound_is_below_the_value_and_tight_at_the_optimal_critic(name, direction):
    F = divergences.get(name)
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
    F = divergences.get("kl")
    value = float(F.value(normal(0.5), normal(0.0), W))
    u_mu, u_nu = F.optimal_output(log_ratio(quantiles(0.5), 0.5)), F.optimal_output(log_ratio(quantiles(0.0), 0.5))
    wrong = float(F.h(u_mu).mean() - F.h(u_nu).exp().mean())
    assert abs(wrong - value) > 1


@pytest.mark.parametrize("name", F_DIVERGENCES)
def test_swapping_exchanges_the_laws(name):
    F = divergences.get(name)
    p, q = normal(0.7), normal(0.0)
    assert float(F.swapped.value(p, q, W)) == pytest.approx(float(F.value(q, p, W)), rel=1e-12)
    assert F.swapped.swapped is F


def test_swapped_kl_is_reverse_kl():
    p, q = normal(0.7), normal(0.0)
    kl, reverse = divergences.get("kl"), divergences.get("reverse_kl")
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
        ("reverse_chi2", math.expm1(1.69)),
        ("w1", 1.3),
        ("w1_r1", sum(1.69**n / (n * math.factorial(n)) for n in range(1, 40))),  # Hermite's polynomials diagonalise it
    ],
)
def test_values_of_gaussians(name, exact):
    """D(N(1.3, 1) || N(0, 1)) in closed form; W1's on this grid are exact to the square of its spacing, 6e-3."""
    value = float(divergences.get(name).value(normal(1.3), normal(0.0), W))
    assert value == pytest.approx(exact, rel=1e-5 if name.startswith("w1") else 1e-9)


def test_jensen_shannon_value():
    """JS(N(1, 1), N(0, 1)) = .111421 (gwf card of reference values); the functional is 2 JS."""
    assert float(divergences.get("js").value(normal(1.0), normal(0.0), W)) / 2 == pytest.approx(0.111421, abs=5e-7)


@pytest.mark.parametrize(
    ("a", "b", "dv", "classical", "chi2", "tight"),
    [(0.5, 0.0, 0.525, 0.233138, 0.5875, 1.69), (1.3, -2.0, 0.845, -0.425903, 0.2675, 1.69)],
)
def test_bounds_of_affine_critics(a, b, dv, classical, chi2, tight):
    """mu = N(1.3, 1), nu = N(0, 1), h(x) = a x + b: DV = 1.3 a - a^2/2, classical = 1.3 a + b - e^(b-1+a^2/2), ..."""
    mu, nu = quantiles(1.3, 500_001), quantiles(0.0, 500_001)
    h = lambda x: a * x + b  # noqa: E731
    got = {name: float(divergences.get(name).bound(h(mu), h(nu))) for name in ("kl_dv", "kl", "chi2", "chi2_tight")}
    # n quantiles miss the tails beyond 4.9 sd: variances fall short by about log(n)/n, 3e-5, the mean of e^(1.3 x) by more
    assert got["kl_dv"] == pytest.approx(dv, abs=2e-4)
    assert got["kl"] == pytest.approx(classical, abs=2e-4)
    assert got["chi2"] == pytest.approx(chi2, abs=2e-4)
    assert got["chi2_tight"] == pytest.approx(tight, abs=2e-4)


def test_donsker_varadhan_dominates_the_classical_bound():
    """DV(h) - classical(h) = e^(s-1) - s >= 0 with s = log E_nu e^h, for any critic, and DV = sup_c classical(h + c)."""
    dv, kl = divergences.get("kl_dv"), divergences.get("kl")
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
    tight, plain = divergences.get("chi2_tight"), divergences.get("chi2")
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


DERIVATIVES = {"js_ns": 0.602027, "w1": 1.0, "w1_r1": 1.0}
"""d/dm at m = 1 where it is not the value's: `js_ns` has that of KL - 2 JS by definition, W1's value here is a grid's;
`w1_r1` is seen with the critic h(x) = x, W1's, and not with its own."""


def slope_of_value(F, m, step=1e-4):
    """d/dm of F at mu = N(m, 1), nu = N(0, 1), by central differences: eight digits."""
    return float((F.value(normal(m + step), normal(0.0), W) - F.value(normal(m - step), normal(0.0), W)) / (2 * step))


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
    F = divergences.get(name)
    # chi2's ratio has e^(2 m x) tails: the quantiles' cut at 4.4 sd costs 1 %; the others 1e-4
    tolerance = 2e-2 if "chi2" in name else 1e-3
    expected = DERIVATIVES.get(name) or slope_of_value(F, 1.0)
    assert map_gradient(F, F.map_loss) == pytest.approx(expected, rel=tolerance)


def test_w1_with_r1_is_a_dual_norm():
    """Its penalised bound is |mu - nu|^2 / (4 weight) at h' = (Q - P) / (2 weight q), below at other critics; affine ones
    give m^2 / (4 weight). Sums on the grid, where h' is integrated to the square of the spacing: 1e-4."""
    F, weight, (p, q) = divergences.get("w1_r1"), 0.2, (normal(1.3), normal(0.0))
    bound = lambda h, slope: float((W * (h * (p - q) - weight * q * slope**2)).sum())
    slope = (W * (q - p)).cumsum(0) / (2 * weight * q)
    slope[q < 1e-14] = 0.0  # where the sums of p and q are rounding
    best = bound((W * slope).cumsum(0), slope)
    assert best == pytest.approx(float(F.value(p, q, W)) / (4 * weight), rel=1e-2)
    for a in (0.5, 1.3 / (2 * weight), 5.0):
        assert bound(a * X, a * torch.ones_like(X)) <= 1.3**2 / (4 * weight) + 1e-9 < best
    assert bound(1.3 / (2 * weight) * X, 1.3 / (2 * weight) * torch.ones_like(X)) == pytest.approx(1.69 / 0.8, rel=1e-9)


def test_reverse_chi2_is_pearsons_swapped():
    """Losses of the critic and of the map are those of chi2 with mu and nu exchanged, at v = 2 (u - 1)."""
    u_mu, u_nu = torch.randn(2, 100, generator=torch.Generator().manual_seed(0))
    ours, theirs = divergences.get("reverse_chi2"), divergences.get("chi2").swapped
    args = 2 * (u_mu - 1), 2 * (u_nu - 1)
    assert float(ours.critic_loss(u_mu, u_nu)) == pytest.approx(float(theirs.critic_loss(*args)), rel=1e-12)
    assert float(ours.map_loss(u_mu, u_nu)) == pytest.approx(float(theirs.map_loss(*args)), rel=1e-12)


def test_nonsaturating_js_descends_something_else():
    """Its gradient is that of KL(mu || nu) - 2 JS: .602027 at m = 1, where 2 JS has .397973; together dKL/dm = 1."""
    F = divergences.get("js")
    nonsaturating, saturating = map_gradient(F, F.map_loss_nonsaturating), map_gradient(F, F.map_loss)
    assert nonsaturating == pytest.approx(0.602027, abs=1e-4)
    assert saturating == pytest.approx(0.397973, abs=1e-4)
    assert abs(nonsaturating - saturating) > 0.2


@pytest.mark.parametrize("name", [name for name in F_DIVERGENCES if name != "chi2_tight"])
def test_gradient_of_the_swapped_map_loss(name):
    """The same for D(nu || mu), at m = 1/2 so that every ratio's tails are carried by the quantiles."""
    F = divergences.get(name).swapped
    assert map_gradient(F, F.map_loss, 0.5) == pytest.approx(slope_of_value(F, 0.5), rel=5e-3)


def test_swapped_tight_chi2_keeps_the_gradient_of_the_variance():
    """mu = N(theta, 1): the true gradient is 2 theta e^(theta^2); detaching the variance would leave 2 theta."""
    theta = 0.5
    gradient = map_gradient(
        divergences.get("chi2_tight").swapped, divergences.get("chi2_tight").swapped.map_loss, theta
    )
    assert gradient == pytest.approx(2 * theta * math.exp(theta**2), rel=1e-2)
    assert abs(gradient - 2 * theta) > 0.2


def test_the_non_saturating_js_has_the_critic_of_js():
    """Same bits for critic and bound; only the map's loss is another."""
    u_mu, u_nu = torch.randn(2, 100, generator=torch.Generator().manual_seed(0)) * 5
    js, ns = divergences.get("js"), divergences.get("js_ns")
    for F, G in [(js, ns), (js.swapped, ns.swapped)]:
        assert torch.equal(F.critic_loss(u_mu, u_nu), G.critic_loss(u_mu, u_nu))
    assert torch.equal(js.map_loss_nonsaturating(u_mu), ns.map_loss(u_mu))
    assert not torch.equal(js.map_loss(u_mu), ns.map_loss(u_mu))


def test_misspelt_names_are_answered_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'kl_dv'"):
        divergences.get("kl_vd")


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_finite_for_extreme_critics(name):
    """Outputs of +-30 and their gradients stay finite in float32 (exp(30) = 1e13)."""
    F = divergences.get(name)
    u_mu = torch.tensor([-30.0, 0.0, 30.0], dtype=torch.float32, requires_grad=True)
    u_nu = torch.tensor([30.0, 0.0, -30.0], dtype=torch.float32, requires_grad=True)
    loss = F.critic_loss(u_mu, u_nu) + F.map_loss(u_mu, u_nu) + F.map_loss_nonsaturating(u_mu, u_nu)
    gradients = torch.autograd.grad(loss, (u_mu, u_nu), allow_unused=True)
    assert math.isfinite(float(loss.detach()))
    assert all(torch.isfinite(g).all() for g in gradients if g is not None)


# The density ratio as a variable.


def bound_of_ratio(row, ratio, p, q):
    w = row.optimum(ratio)
    return float((W * (p * row.A(w) - q * row.B(w))).sum())


def rows(name):
    return divergences.Power(2) if name == "power" else divergences.get(name)


@pytest.mark.parametrize("name", [*RATIOS, "power"])
def test_ratio_bound_is_tight_at_the_ratio_and_below_elsewhere(name):
    """Quadrature of smooth integrands is at rounding level, of |p - q| at the square of the spacing: 1e-5 for tv."""
    row, p, q, other = rows(name), normal(0.5), normal(0.0), normal(0.2)
    value = float(row.value(p, q, W))
    assert bound_of_ratio(row, p / q, p, q) == pytest.approx(value, abs=1e-5 if name == "tv" else 1e-9)
    assert bound_of_ratio(row, other / q, p, q) < value - 1e-3


@pytest.mark.parametrize("name", [*F_DIVERGENCES, "power"])
def test_the_two_losses_follow_from_the_one_rule(name):
    """A = f'(t) and B = t f'(t) - f(t) at the variable of the ratio t; 1e-10 is rounding. (TV has no derivative at 1.)"""
    row, t = rows(name), torch.logspace(-1.5, 1.5, 40, requires_grad=True)
    (slope,) = torch.autograd.grad(row.f(t).sum(), t)
    w = row.optimum(t.detach())
    assert torch.allclose(row.A(w), slope, atol=1e-10)
    assert torch.allclose(row.B(w), (t * slope - row.f(t)).detach(), atol=1e-10)


def test_the_papers_js_has_another_constant():
    """vwgf's Table 1 writes JS with w' = w / 2: its bound is 2 JS - log 4."""
    p, q = normal(0.5), normal(0.0)
    half = 1 / (1 + p / q)
    paper = float((W * (p * torch.log(1 - half) - q * -torch.log(half))).sum())
    assert paper == pytest.approx(float(divergences.get("js").value(p, q, W)) - math.log(4), abs=1e-9)


@pytest.mark.parametrize("m", [2, 3])
def test_internal_energy_through_a_box(m):
    """R uniform of density 1/24 on the grid: G(mu) = int mu^m / (m - 1), for the network that gives r = mu / R."""
    p, row, log_R = normal(0.5), divergences.Power(m), torch.tensor(-math.log(24.0))
    u = p * 24 if m == 2 else torch.log(torch.expm1(p * 24))
    value = (W * p * row.of_mu(u, log_R)).sum() - (W / 24 * row.of_reference(u, log_R)).sum()
    assert float(value) == pytest.approx(float((W * p**m).sum() / (m - 1)), rel=1e-6)


def test_boltzmann_through_any_reference():
    """int mu log mu = -(1 + log 2 pi) / 2 for N(m, 1), with r = mu / R for R = N(0, 1)."""
    p, q, row = normal(0.5), normal(0.0), divergences.Boltzmann()
    u, log_R = log_ratio(X, 0.5), q.log()
    value = (W * (p * row.of_mu(u, log_R) - q * row.of_reference(u, log_R))).sum()
    assert float(value) == pytest.approx(-(1 + math.log(2 * math.pi)) / 2, abs=1e-9)


# Potentials of the semi-dual, and both kinds of array.

CONJUGATES = {  # sjko's table, printed to 1e-6 or shorter
    "kl": [-0.950213, -0.632121, 0, 0.349859, 0.822119],
    "chi2": [-1, -0.75, 0, 0.3225, 0.69],
    "softplus": [-1.28912, -0.759771, 0, 0.322416, 0.688682],
    "js": [-0.667939, -0.48988, 0, 0.430566, 1.726639],
}
POINTS = torch.tensor([-3.0, -1.0, 0.0, 0.3, 0.6], dtype=torch.float64)


@pytest.mark.parametrize("name", CONJUGATES)
def test_conjugates_at_known_points(name):
    assert divergences.entropy(name).conjugate(POINTS).numpy() == pytest.approx(CONJUGATES[name], abs=1e-5)


@pytest.mark.parametrize("name", [name for name in ENTROPIES if name != "linear"])
def test_entropy_is_normalised_and_its_conjugate_is_the_supremum(name):
    """sup_t s t - Psi(t) on a grid of spacing 1e-4, 12 of it: quadratic in it, below 1e-6 for these curvatures."""
    psi, top = divergences.entropy(name), divergences.entropy(name).most
    t = torch.linspace(1e-9, min(top, 12.0), 120_000)
    best = (POINTS[:, None] * t - psi.f(t)).max(1).values
    assert torch.allclose(best, psi.conjugate(POINTS), atol=1e-6)
    one = psi.slope(torch.zeros(1)).item()
    assert one == pytest.approx(0.5 if name == "softplus_uotm" else 1.0), "v = 0 stands for the density ratio 1"
    if name != "softplus_uotm":
        assert abs(float(psi.f(1.0))) < 1e-15


@pytest.mark.parametrize("name", ENTROPIES)
def test_formulas_are_the_same_for_arrays(name):
    """The exact solvers take arrays, training tensors: libraries differ in the last bits of exp and log."""
    D, t = divergences.entropy(name), torch.linspace(0.05, 0.95, 30)
    for formula, at in [("f", t), ("conjugate", -t), ("slope", -t), ("curvature", -t)]:
        if hasattr(D, formula):
            of_array = getattr(D, formula)(at.numpy())
            assert of_array == pytest.approx(getattr(D, formula)(at).numpy(), rel=1e-13, abs=1e-15)


def test_profiling_the_constant_gives_donsker_varadhan():
    """max over C of the KL semi-dual at v + C is its DV form: at C = log E e^{-v}, and at no other C on a grid."""
    v, v_c = torch.randn(50, generator=generator(0, "test")), -0.7
    at = lambda C: v_c - C - divergences.entropy("kl").of_data(v + C).item()
    dv = v_c - divergences.entropy("kl_dv").of_data(v).item()
    best = (-v).exp().mean().log().item()
    assert at(best) == pytest.approx(dv, abs=1e-10)
    assert all(at(C) <= dv for C in torch.linspace(best - 1, best + 1, 41).tolist())


@pytest.mark.parametrize("name", ENTROPIES)
def test_slope_and_curvature_of_every_entropy_are_derivatives(name):
    """Of Psi*, by autograd, and Psi' of Psi, with (Psi*)' its inverse; chi2's continue the parabola below -2 on purpose."""
    psi = divergences.entropy(name)
    s = torch.linspace(-1.9, min(psi.top, 3.0) - 0.05, 41).requires_grad_(True)
    (slope,) = torch.autograd.grad(psi.conjugate(s).sum(), s)
    assert torch.allclose(psi.slope(s), slope, rtol=1e-10)
    if name == "linear":
        assert torch.equal(psi.slope(POINTS), torch.ones(5)) and float(psi.f(torch.tensor(1.0))) == 0
        assert torch.isinf(psi.f(torch.tensor([0.9, 1.1]))).all()
        return
    curved = s.detach().requires_grad_(True)
    at = psi.slope(curved)
    (curvature,) = torch.autograd.grad(at.sum(), curved)
    assert torch.allclose(psi.curvature(s.detach()), curvature, rtol=1e-10)
    t = slope.detach().requires_grad_(True)
    (back,) = torch.autograd.grad(psi.f(t).sum(), t)
    assert torch.allclose(psi.df(t.detach()), back, rtol=1e-9, atol=1e-9) and torch.allclose(back, s, atol=1e-9)


@pytest.mark.parametrize("name", [*ENTROPIES, "tv"])
def test_ends_of_the_domains(name):
    """f(t) / t tends to the end of dom f*, where mass off the data has its price; f is infinite beyond `most`, not before."""
    D = divergences.get(name)
    price = float(D.f(torch.tensor(1e15))) / 1e15
    if D.most < math.inf:
        below, at, above = (float(D.f(torch.tensor(D.most + gap))) for gap in (-1e-3, 0.0, 1e-3))
        assert above == math.inf and math.isfinite(at) and (name == "linear" or abs(at - below) < 0.01)
    elif D.top < math.inf:
        assert price == pytest.approx(D.top, abs=1e-6)
        if name in F_DIVERGENCES:  # the tilted generator has another end
            psi = divergences.entropy(name)
            assert float(psi.f(torch.tensor(1e15))) / 1e15 == pytest.approx(psi.top, abs=1e-6)
    else:
        assert price > 30
    if name == "js":
        assert D.conjugate(torch.tensor([math.log(2), 1.0])).tolist() == [math.inf, math.inf]


def test_total_variation_is_half_the_distance():
    """int |p - q| / 2 = 2 Phi(m / 2) - 1 of unit normals m apart (spacing 6e-3, a kink at m / 2); critics stay within 1/2."""
    tv = divergences.get("tv")
    assert float(tv.value(normal(0.7), normal(0.0), W)) == pytest.approx(2 * stats.norm.cdf(0.35) - 1, abs=1e-5)
    u = torch.linspace(-9, 9, 19)
    assert tv.variable(u).abs().max() <= 0.5 and float(tv.variable(torch.tensor(30.0))) == pytest.approx(0.5)
    assert tv.df(torch.tensor([0.3, 4.0])).tolist() == [-0.5, 0.5]
    assert torch.equal(tv.optimum(torch.tensor([0.3, 4.0])), tv.df(torch.tensor([0.3, 4.0])))


@pytest.mark.parametrize("m", [1.2, 2.0, 3.5, 10.0])
def test_power_of_any_exponent(m):
    """int mu^m / (m - 1) of N(0, 1) is (2 pi)^((1 - m) / 2) / ((m - 1) sqrt m); quadrature to rounding."""
    exact = (2 * math.pi) ** ((1 - m) / 2) / ((m - 1) * math.sqrt(m))
    row = divergences.Power(m)
    assert float((W * row.f(normal(0.0))).sum()) == pytest.approx(exact, rel=1e-9)
    t = torch.linspace(0.2, 2.0, 9).requires_grad_(True)
    (slope,) = torch.autograd.grad(row.f(t).sum(), t)
    assert torch.allclose(row.df(t), slope, rtol=1e-12) and torch.allclose(row.B(t), t * slope - row.f(t), rtol=1e-12)
    for wrong in (1.0, 10.5):
        with pytest.raises(UsageError, match="exponent"):
            divergences.Power(wrong)


# A new one.

COMMON = [
    test_conjugate_is_the_supremum,
    test_fenchel_young,
    test_derivative,
    test_outputs_stay_in_the_domain,
    test_swapping_exchanges_the_laws,
    test_gradient_of_the_map_loss_at_the_optimal_critic,
    test_gradient_of_the_swapped_map_loss,
    test_losses_are_finite_for_extreme_critics,
    test_ratio_bound_is_tight_at_the_ratio_and_below_elsewhere,
    test_the_two_losses_follow_from_the_one_rule,
    test_entropy_is_normalised_and_its_conjugate_is_the_supremum,
    test_formulas_are_the_same_for_arrays,
]


class LeCam(FDivergence):
    """int (dmu/dnu - 1)^2 / (dmu/dnu + 1) dnu, from 0 to 2."""

    title, top = "Le Cam", 1.0
    f = staticmethod(lambda t: (t - 1) ** 2 / (t + 1))
    df = staticmethod(lambda t: 1 - 4 / (t + 1) ** 2)
    conjugate = staticmethod(lambda s: 4 - s - 4 * sqrt(1 - s))
    slope = staticmethod(lambda s: 2 / sqrt(1 - s) - 1)
    curvature = staticmethod(lambda s: 1 / sqrt(1 - s) ** 3)
    h = staticmethod(lambda u: 1 - exp(-u))
    conjugate_of_h = staticmethod(lambda u: 3 + exp(-u) - 4 * exp(-u / 2))
    optimal_output = staticmethod(lambda log_ratio: 2 * softplus(log_ratio) - 2 * math.log(2))


def test_a_new_divergence_is_one_class_and_one_line(monkeypatch):
    """Every use of it follows from the class: it passes the tests of all, is found by name, and has its recipes."""
    monkeypatch.setitem(divergences.DIVERGENCES, "le_cam", LeCam())
    for test in COMMON:
        test("le_cam")
    for direction in ("mu||nu", "nu||mu"):
        test_bound_is_below_the_value_and_tight_at_the_optimal_critic("le_cam", direction)
    assert "le_cam" in divergences.names() and {"le_cam-jko", "le_cam-gan"} <= set(recipes.names())
    x, b = [-1.0, 0.0, 1.0], [0.2, 0.3, 0.5]
    assert atoms.jko_step(x, [0.5, 0.3, 0.2], x, b, 1.0, "le_cam").gap < 1e-9, "the exact solver takes it too"


def test_a_wrong_formula_of_a_new_divergence_is_caught(monkeypatch):
    """Negative control: f* without its last term."""
    wrong = LeCam()
    wrong.conjugate = lambda s: 4 - s
    monkeypatch.setitem(divergences.DIVERGENCES, "le_cam", wrong)
    with pytest.raises(AssertionError):
        test_conjugate_is_the_supremum("le_cam")
