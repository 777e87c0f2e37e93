"""The parametric flow against hand-derived families, and a network's increments.

Digits printed to six decimals are those of independent derivations: `abs=1e-6` is one unit in the last of them (rounding
half up counts half of one). Identities between two computations must hold to rounding, 1e-9 or better.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import rbf_kernel

from gwf.errors import UsageError
from gwf.exact import gaussian
from gwf.nets.mlp import MLP
from gwf.steps.parametric import ParametricFlow, gaussian_kernel, half_mmd2, minimise, mmd2, vectorised
from notebooks.chapters.small_problems import LogScale, Translations
from tests.notebook_code import load_notebook

deterministic = settings(derandomize=True, deadline=None, max_examples=8)

# tau: theta after one step, |residual|, |Delta / tau - velocity|, the same with G replaced by the identity.
TABLE = {
    0.2: ((0.441246, -0.157019), 0.081788, 0.660115, 1.153388),
    0.1: ((0.549555, -0.261845), 0.049414, 0.391497, 1.423935),
    0.01: ((0.682261, -0.384046), 0.005968, 0.047479, 1.790102),
}


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_metric_gradient_and_velocity_of_the_translations():
    family, flow = Translations(), Translations().flow()
    G = flow.metric(family.start)
    assert G.numpy() == pytest.approx(np.array([[1.1752, 0.8707], [0.8707, 1.060025]]), abs=1e-12)
    assert flow.gradient(family.start).numpy() == pytest.approx([0.713406, -0.145709], abs=1e-6)
    assert flow.velocity(family.start).numpy() == pytest.approx([-1.811025, 1.625026], abs=1e-6)


@pytest.mark.parametrize("tau", TABLE)
def test_jko_steps_of_the_translations(tau):
    family, flow = Translations(), Translations().flow()
    theta, residual, error, control = TABLE[tau]
    found = flow.jko_step(family.start, tau)
    slope = (found - family.start) / tau
    assert found.numpy() == pytest.approx(theta, abs=1e-6)
    assert float(flow.residual(found, family.start, tau).norm()) == pytest.approx(residual, abs=1e-6)
    assert float((slope - flow.velocity(family.start)).norm()) == pytest.approx(error, abs=1e-6)
    identity = float((slope + flow.gradient(found)).norm())
    assert identity == pytest.approx(control, abs=1e-6)


def test_residual_and_error_are_first_order_and_the_control_is_not():
    """Halving tau from 1e-3 on halves both within 1 %; with G = I the residual tends to 1.842050, not to 0."""
    family, flow = Translations(), Translations().flow()
    velocity, sizes = flow.velocity(family.start), []
    for tau in (1e-3, 5e-4, 2.5e-4):
        theta = flow.jko_step(family.start, tau)
        slope = (theta - family.start) / tau
        sizes.append(
            (
                float(flow.residual(theta, family.start, tau).norm()),
                float((slope - velocity).norm()),
                float((slope + flow.gradient(theta)).norm()),
            )
        )
    ratios = np.array(sizes)[1:] / np.array(sizes)[:-1]
    assert ratios[:, :2] == pytest.approx(0.5, rel=0.01)
    limit = float((velocity + flow.gradient(family.start)).norm())
    assert limit == pytest.approx(1.842050, abs=1e-6) and sizes[-1][2] == pytest.approx(limit, rel=2e-3)


def test_a_broken_proximal_weight_misses_the_table():
    """Negative control: weight 1/tau is the step of size tau/2, off in the second digit already."""
    family = Translations()
    broken = family.flow().jko_step(family.start, 0.05)
    assert np.abs(broken.numpy() - TABLE[0.1][0]).min() > 0.04


@deterministic
@given(st.floats(-2, 2), st.floats(0.3, 2.5), st.floats(0.02, 5))
def test_log_scale_step_is_the_step_over_all_laws(m, s, tau):
    theta = LogScale().flow().jko_step(double(math.log(s), m), tau)
    m_exact, s_exact = gaussian.jko_step(m, s, 0, 1, tau)
    assert [float(theta[1]), math.exp(theta[0])] == pytest.approx([float(m_exact), float(s_exact)], abs=1e-8)


def test_log_scale_flow_is_ornstein_uhlenbeck():
    """Explicit Euler with 300 steps to t = 1: first order, so an error of order 1/300."""
    family, theta = LogScale(), double(math.log(0.5), 2.0)
    flow = family.flow()
    assert flow.metric(theta).numpy() == pytest.approx(np.diag([0.25, 1.0]), abs=1e-12)
    assert flow.velocity(theta).numpy() == pytest.approx([-(1 - 4.0), -2.0], abs=1e-12)
    for _ in range(300):
        theta = flow.euler_step(theta, 1 / 300)
    assert math.exp(theta[0]) == pytest.approx(0.947892, abs=4e-3) and float(theta[1]) == pytest.approx(
        0.735759, abs=4e-3
    )


def test_a_network_has_the_metric_of_its_jacobian_and_dead_parameters_stay():
    """G against differences of T; a parameter that T does not see is not moved by the pseudo-inverse."""
    torch.manual_seed(0)
    T, theta = vectorised(MLP(2, 2, width=3, depth=1))
    z = torch.randn(20, 2, dtype=torch.float64)
    flow = ParametricFlow(T, lambda theta: T(theta, z).square().sum(1).mean(), z)
    direction, step = torch.randn_like(theta), 1e-5
    moved = (T(theta + step * direction, z) - T(theta - step * direction, z)) / (2 * step)
    # Central differences: an error of order step^2, 1e-10.
    assert float(direction @ flow.metric(theta) @ direction) == pytest.approx(
        float(moved.square().sum(1).mean()), rel=1e-7
    )

    dead = ParametricFlow(lambda t, z: z + t[0], lambda t: t[0] ** 2, z)
    assert dead.velocity(double(1.0, 5.0)).tolist() == pytest.approx([-1.0, 0.0], abs=1e-12)


def test_energy_falls_along_the_velocity():
    family, flow = Translations(), Translations().flow()
    g, v = flow.gradient(family.start), flow.velocity(family.start)
    assert float(g @ v) == pytest.approx(-float(v @ flow.metric(family.start) @ v), rel=1e-10) and float(g @ v) < 0


def test_minimise_finds_the_minimum_of_rosenbrock_and_says_when_it_cannot():
    def valley(u):
        return (1 - u[0]) ** 2 + 100 * (u[1] - u[0] ** 2) ** 2

    assert minimise(valley, double(-1.2, 1.0)).tolist() == pytest.approx([1.0, 1.0], abs=1e-9)
    with pytest.raises(RuntimeError, match="minimiser"):
        minimise(lambda u: u.sum() ** 3 - u.sum(), double(-5.0), iterations=20)


def test_minimise_ends_at_rounding_and_says_where_there_is_too_much_of_it():
    """A slope that is rounded to 1e-10 stops within 10^4 times its goal of 3e-12; one rounded to 1e-4 does not."""
    rounded = lambda u, size: ((u + size) - size - 0.3 * math.ulp(size)).square().sum()
    assert abs(float(minimise(lambda u: rounded(u, 1e6), double(3.0)))) < 1e-9
    with pytest.raises(RuntimeError, match="no descent"):
        minimise(lambda u: rounded(u, 1e12), double(3.0))


def test_minimise_leaves_a_saddle_downhill():
    """cos u - cos v from near a saddle: the minimum at (pi, 0), by absolute eigenvalues; Newton's own step goes to the saddle."""
    found = minimise(lambda u: u[0].cos() - u[1].cos(), double(0.1, 1.2))
    assert found.tolist() == pytest.approx([math.pi, 0.0], abs=1e-9)


def test_nodes_weigh_what_they_should():
    """T = (theta_0 z, theta_1) on nodes of unequal weights: metric, gradient and proximal term by hand."""
    z, w = double(-1.0, 0.5, 2.0)[:, None], double(0.2, 0.5, 0.3)
    T = lambda theta, z: torch.cat([theta[0] * z, theta[1].expand(len(z), 1)], 1)
    flow = ParametricFlow(T, lambda theta: theta[0] ** 3 + 2 * theta[1], z, w)
    second = 0.2 + 0.5 * 0.25 + 0.3 * 4
    theta, before = double(1.5, 0.0), double(1.0, -0.7)
    assert flow.metric(theta).numpy() == pytest.approx(np.diag([second, 1.0]), abs=1e-14)
    assert flow.velocity(theta).tolist() == pytest.approx([-3 * 2.25 / second, -2.0], rel=1e-12)
    assert float(flow.proximal(theta, before, 0.4)) == pytest.approx((0.25 * second + 0.49) / 0.8, rel=1e-12)
    assert flow.euler_step(theta, 0.1).tolist() == pytest.approx([1.5 - 0.675 / second, -0.2], rel=1e-12)
    residual = flow.residual(theta, before, 0.4).tolist()
    assert residual == pytest.approx([0.5 * second / 0.4 + 6.75, 0.7 / 0.4 + 2], rel=1e-12)
    # A direction that moves T a thousand times less than another is kept or, by the cutoff, left alone.
    thin = ParametricFlow(lambda t, z: z + t[0] + 1e-3 * t[1] * z, lambda t: t[0] + t[1], double(-1.0, 1.0)[:, None])
    assert thin.velocity(double(0.0, 0.0)).tolist() == pytest.approx([-1.0, -1e6], rel=1e-9)
    assert thin.velocity(double(0.0, 0.0), cutoff=1e-5).tolist() == pytest.approx([-1.0, 0.0], abs=1e-12)
    with pytest.raises(UsageError, match="weights"):
        ParametricFlow(T, None, z, double(0.5, 0.5))
    with pytest.raises(UsageError, match="weights"):
        ParametricFlow(T, None, z, double(0.5, 0.5, 0.0))


def test_discrepancies_are_scikit_learns_kernels_averaged():
    """Both estimates, bandwidth .7, samples of 6 and 4 points in three dimensions."""
    stream = torch.Generator().manual_seed(3)
    x, y = (torch.randn(n, 3, generator=stream, dtype=torch.float64) for n in (6, 4))
    xx, yy, xy = (rbf_kernel(a, b, gamma=1 / (2 * 0.49)) for a, b in ((x, x), (y, y), (x, y)))
    assert gaussian_kernel(x, y, 0.7).numpy() == pytest.approx(xy, rel=1e-12)
    assert float(half_mmd2(x, y, 0.7)) == pytest.approx((xx.mean() + yy.mean()) / 2 - xy.mean(), abs=1e-14)
    off = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    assert float(mmd2(x, y, 0.7)) == pytest.approx(off(xx) + off(yy) - 2 * xy.mean(), abs=1e-14)


@pytest.mark.parametrize("tau", [0.0, -1.0, math.nan])
def test_a_step_that_is_not_positive_is_refused(tau):
    with pytest.raises(UsageError, match="tau"):
        Translations().flow().jko_step(Translations.start, tau)


def test_weights_that_are_no_quadrature_are_refused():
    z = torch.zeros(2, 1, dtype=torch.float64)
    with pytest.raises(UsageError, match="weights"):
        ParametricFlow(LogScale().T, LogScale().F, z, double(0.5, 0.6))


def test_a_network_shows_the_order_and_the_control():
    sheet = load_notebook("parametric")
    flow, theta = sheet.start(width=2, scale=2.0, latents=40, points=30, bandwidth=1.0, seed=1)
    found = flow.velocity(theta), flow.gradient(theta), flow.metric(theta)
    rows = [sheet.compare(flow, theta, tau, *found) for tau in (1e-3, 1e-4)]
    assert all(row["cosine"] > 0.999 and row["cosine_gradient"] < 0.9 for row in rows)
    # In the asymptotic range the slope is 1; 0.1 leaves room for the next order at tau = 1e-3.
    for name in ("relative_error", "residual"):
        assert math.log10(rows[0][name] / rows[1][name]) == pytest.approx(1, abs=0.1)
