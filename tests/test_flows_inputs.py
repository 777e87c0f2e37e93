"""Public flows where numbers are small, large or far away, laws have heavy tails, and arguments are slips."""

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning

import gwf
import gwf.flows.functionals
from gwf.errors import UsageError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 2)), RNG.normal(size=(80, 2)) + 1
HOLES = np.where(np.arange(120).reshape(40, 3) % 7 == 0, np.nan, np.random.default_rng(1).normal(size=(40, 3)))


class Spikes:
    """Three equally likely normal laws of deviation .01, at -3, 0 and 3: a density that fixed rules miss."""

    grid = np.concatenate([place + np.linspace(-0.08, 0.08, 20001) for place in (-3.0, 0.0, 3.0)])
    parts = norm(np.array([[-3.0], [0.0], [3.0]]), 0.01)
    pdf = lambda self, x: self.parts.pdf(x).mean(0)
    cdf = lambda self, x: self.parts.cdf(x).mean(0)
    ppf = lambda self, u: np.interp(u, self.cdf(self.grid), self.grid)
    isf = lambda self, u: -self.ppf(u)


@pytest.mark.parametrize(
    "law, y, primal",
    [
        # scipy.integrate.quad of (x - y_j)^2 g over the cells, between quantiles, 1e-13 relative.
        (scipy.stats.t(3), [0.0, 1.0], 1.1801464673009108),
        (scipy.stats.pareto(3), [0.0, 1.0], 0.745020077134),
        (scipy.stats.t(5), [0.0, 1.0], 0.5900555744105089),
        (scipy.stats.lognorm(1), [0.0, 1.0], 2.537771723939004),
        (scipy.stats.gamma(0.1), [0.0, 1.0], 0.17436776370227025),
        # To the nearest of -1 and 1, by hand; the quantiles above are interpolated.
        (Spikes(), [-1.0, 1.0], (4 + 1e-4) / 3 + (1.0001 - 0.02 * math.sqrt(2 / math.pi)) / 6),
    ],
)
def test_a_step_from_any_law_on_the_line(law, y, primal):
    found = gwf.jko_step(law, y, 1.0)
    assert found.primal == pytest.approx(primal, rel=1e-5 if isinstance(law, Spikes) else 1e-11)
    assert abs(found.gap) < 1e-6


@pytest.mark.parametrize(
    "law", [scipy.stats.t(2.2), scipy.stats.beta(0.5, 0.5), scipy.stats.lognorm(3), norm(1e6, 1e-3)]
)
def test_a_step_from_a_law_to_one_atom_costs_its_second_moment_within_the_gap(law):
    second, found = float(law.var() + (law.mean() - 1) ** 2), gwf.jko_step(law, [1.0], 0.5)
    assert abs(found.primal - second) <= abs(found.gap) + 1e-10 * second


@pytest.mark.parametrize(
    "law, given, message",
    [
        (scipy.stats.cauchy(), {}, "no finite second moment"),
        (scipy.stats.t(2), {}, "no finite second moment"),
        (scipy.stats.poisson(3), {}, "no density"),
        (norm, {"b": [1.0, 1.0]}, "of sum 1"),
        (norm, {"b": [1.0]}, "each of the 2 y"),
        (norm, {"a": [1.0]}, "no a"),
        (norm, {"y": None}, "y is no cloud"),
        (norm, {"y": []}, "y is no cloud"),
        (norm, {"y": ["one"]}, "y is no cloud"),
        (norm, {"tolerance": None}, "tolerance = None"),
        (norm, {"tau": "3"}, "tau = '3'"),
        (norm, {"tau": 1e13}, "tau = 1"),
    ],
)
def test_slips_of_a_step_on_the_line_are_named(law, given, message):
    with pytest.raises(UsageError, match=message):
        gwf.jko_step(law, **{"y": [0.0, 1.0], "tau": 1.0} | given)


@pytest.mark.parametrize("scale, shift", [(1e-8, 0.0), (1e8, 0.0), (1.0, 1e6)])
def test_exact_transport_knows_no_scale_and_no_origin(scale, shift):
    """Costs below 1e-9 are rounding to the network simplex, and |x|^2 + |y|^2 - 2 x y loses the digits of far clouds."""
    usual, other = (
        gwf.flow(s * X + t, s * Y + t, "minibatch_ot", steps=1, exact=True) for s, t in ((1.0, 0.0), (scale, shift))
    )
    assert other.history.functional.to_numpy() / scale**2 == pytest.approx(
        usual.history.functional.to_numpy(), rel=1e-7
    )
    assert other.history.w2.to_numpy() / scale == pytest.approx(usual.history.w2.to_numpy(), rel=1e-7)
    moved = (other.particles - shift) / scale
    assert np.abs(moved - usual.particles).max() < 1e-7


def test_a_sinkhorn_plan_that_misses_its_marginal_says_so():
    """200 against 200 points: W_2^2 / 2 = 1.2597 by POT; the value at reg = .001 is within 1 %, that at 1e-5 is .24."""
    r = np.random.default_rng(0)
    x, y = r.normal(size=(200, 2)), r.normal(size=(200, 2)) + [1.5, 0]
    assert gwf.flow(x, y, reg=1e-3, steps=1, debias=False).history.functional[0] == pytest.approx(1.2597, rel=0.02)
    with pytest.warns(ConvergenceWarning, match="misses its target"):
        gwf.flow(x, y, reg=1e-5, steps=1)
    with pytest.raises(UsageError, match="reg, in units of the variance of y"):
        gwf.flow(x, y, reg=1e18, steps=1)


def test_values_do_not_see_where_the_origin_is():
    near, far = (gwf.flow(X + t, Y + t, "mmd", steps=1).history.functional[0] for t in (0.0, 1e7))
    assert far == pytest.approx(near, rel=1e-6)
    assert gwf.ksd(X + 1e9, -X) == pytest.approx(gwf.ksd(X, -X), rel=1e-5)


@pytest.mark.parametrize("name", ["kl", "js", "chi2", "hellinger"])
def test_particles_that_are_the_data_have_divergence_zero(name):
    assert gwf.flow(Y, Y, name, method="jko", steps=1).history.functional[0] == pytest.approx(0, abs=1e-12)


def test_half_of_the_particles_on_the_data():
    """x = {0, 9}, y = {0, 2}: half the mass at twice half its due share, half off the data, where KL is infinite and 2 JS
    is half of f'(inf)."""
    flow = lambda name: gwf.flow(
        [[0.0], [9.0]], [[0.0], [2.0]], name, method="jko", steps=1, step=0.5
    ).history.functional[0]
    assert flow("kl") == math.inf
    # 2 JS of (1/2, 0, 1/2) and (1/2, 1/2, 0): the two halves apart count 2 * log 2 / 2.
    assert flow("js") == pytest.approx(math.log(2))


def test_reverse_kl_has_exact_steps():
    found = gwf.flow([[0.0]], [[0.0], [2.0]], "reverse_kl", method="jko", step=0.5, steps=2)
    assert np.isfinite(found.history.functional.iloc[1:]).all()
    step = gwf.jko_step([[0.0]], [[0.0], [2.0]], 0.5, "reverse_kl")
    assert gwf.flow([[0.0]], [[0.0], [2.0]], "reverse_kl", method="jko", step=0.5, steps=1).weights[
        :2
    ] == pytest.approx(np.append(step.weights, [])[:2], rel=1e-6)


def test_tables_are_taken_by_their_names_and_masks():
    frame = pd.DataFrame(Y, columns=["a", "b"])
    assert gwf.l2_uvp(frame, frame) == 0
    masked = np.ma.masked_greater(X, 1.0)
    for call, message in (
        (lambda: gwf.l2_uvp(frame[["b", "a"]], frame), "columns"),
        (lambda: gwf.flow(masked, Y), "NaN"),
        (lambda: gwf.flow(X + 1j, Y), "omplex"),
        (lambda: gwf.flow(X.astype("datetime64[s]"), Y), "dates"),
        (lambda: gwf.ksd(np.array([["one"]]), lambda x: -x), "x is no cloud"),
    ):
        with pytest.raises(UsageError, match=message):
            call()


@pytest.mark.parametrize(
    "call, message",
    [
        *((lambda v=v: gwf.velocity(X, Y, "sliced", directions=v), "directions") for v in (2.5, "3", None, 0, True)),
        *((lambda v=v: gwf.velocity(X, Y, "w2", critic_steps=v), "critic_steps") for v in (2.5, "3", None)),
        (lambda: gwf.velocity(X, Y, relative=2.5), "relative = 2.5"),
        (lambda: gwf.velocity(X, Y, reg=np.array([1.0, 2.0])), "reg"),
        (lambda: gwf.flow(X, Y, step=math.inf), "step"),
        (lambda: gwf.flow(X, Y, keep=-1), "keep = -1"),
        (lambda: gwf.flow(X, Y, exact="10"), "exact = '10'"),
        (lambda: gwf.minibatch_bias(X, Y, batches=16), "batches = 16"),
        (lambda: gwf.minibatch_bias(X, Y, "sinkhorn", reg=0.05), "reg = 0.05"),
        (lambda: gwf.ksd(X, -X, beta="3"), "beta = '3'"),
        (lambda: gwf.l2_uvp(X, X, "3"), "variance = '3'"),
        (lambda: gwf.velocity([[0.0]], Y[:, :1], "drifting_released"), "not finite"),
    ],
)
def test_slips_are_named(call, message):
    with pytest.raises(UsageError, match=message):
        call()


def test_a_count_of_numpy_is_a_count():
    assert gwf.flow(X, Y, steps=2, batch=np.int64(7)).particles == pytest.approx(
        gwf.flow(X, Y, steps=2, batch=7).particles
    )


@pytest.mark.parametrize("seed", [None, -1, 0.5, True, "0"])
def test_a_seed_is_a_whole_number(seed):
    x, y = np.zeros((3, 2)), np.ones((4, 2))
    for call in (gwf.sliced_energy_distance, gwf.velocity, gwf.flow):
        with pytest.raises(UsageError, match="seed = "):
            call(x, y, seed=seed)


def test_forces_of_mmd_far_from_the_origin_are_those_of_float64():
    """The kink of the float32 kernel is rounded at 1e-3 of the spread; squares of distances 1000 off had noise a thousand times that."""
    x, y = (RNG.normal(size=(60, d)) for d in (1, 1))
    far = gwf.velocity((x + 1000).astype(np.float32), y.astype(np.float32), "mmd")
    assert np.abs(far - gwf.velocity((x + 1000).astype(np.float32).astype(float), y, "mmd")).max() < 0.02


@pytest.mark.parametrize("n, m", [(1, 2), (2, 4), (10, 15), (15, 10), (7, 7)])
def test_sliced_transport_of_unequal_numbers_is_transport_on_the_line(n, m):
    """In one dimension every line is the line: F is W_2^2 / 2, and a whole step ends at the best law of n equal points."""
    x, y = RNG.normal(size=(n, 1)), RNG.normal(size=(m, 1)) + 3
    found = gwf.flow(x, y, "sliced", step=1.0, steps=1, exact=True)
    start, end = found.history.iloc[0], found.history.iloc[-1]
    assert [start.functional, end.functional] == pytest.approx([start.w2**2 / 2, end.w2**2 / 2], rel=1e-9, abs=1e-12)
    assert end.w2 == pytest.approx(
        gwf.flow(x, y, "minibatch_ot", step=1.0, steps=1, exact=True).history.w2.iloc[-1], abs=1e-9
    )


def test_the_optimal_plan_does_not_know_the_unit():
    x, y = X[:30], Y[:30]
    one = gwf.jko_step(x, y, 1.0, "hard")
    for tau, unit in ((1e14, 1.0), (1.0, 1e-7)):
        other = gwf.jko_step(unit * x, unit * y, tau, "hard")
        assert (
            other.primal == pytest.approx(one.primal * unit**2 / tau, rel=1e-12)
            and abs(other.gap) < 1e-9 * other.primal
        )


def slope(of, z):
    """d of / d z_0 by automatic differentiation and by central differences."""
    z = z.clone().requires_grad_()
    (grad,) = torch.autograd.grad(of(z), z)
    change = torch.zeros_like(grad)
    change[0] = 1e-5
    with torch.no_grad():
        return float(grad[0].sum()), float(of(z + change) - of(z - change)) / 2e-5


def test_gradients_go_through_all_steps_of_sinkhorn_that_converged():
    x, y = torch.as_tensor(X[:12]), torch.as_tensor(Y[:15])
    weights = torch.linspace(-1, 1, 24, dtype=torch.float64).view(12, 2) ** 3
    settings = {"reg": 0.1, "relative": False, "steps": 3, "iterations": 200}
    exact, difference = slope(lambda z: (gwf.flow(z, y, "sinkhorn", **settings).particles * weights).sum(), x * x)
    assert exact == pytest.approx(difference, rel=1e-3) and abs(exact) > 0.01


def test_what_has_no_gradients_gives_none():
    x = torch.as_tensor(X[:5]).requires_grad_()
    assert not gwf.velocity(x, torch.as_tensor(Y[:6]), "drifting_released").requires_grad


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: gwf.flow(X, Y, lambda x, y: 3.0), "must be a tensor of one number"),
        (lambda: gwf.flow(X, Y, lambda x, y: x.sum(1)), "must be a tensor of one number"),
        (lambda: gwf.flow(X, Y, lambda x, y: y.sum()), "does not depend on x"),
        (lambda: gwf.flow(X, Y, gwf.fields.Sinkhorn), "must be one of"),
        (lambda: gwf.flow(X, Y, "w1", betas=[[1], [2, 3]]), "betas = "),
        (lambda: gwf.velocity(X * 1e200, Y), "squares overflow"),
        (lambda: gwf.velocity((X * 1e20).astype(np.float32), Y.astype(np.float32), "mmd"), "squares overflow"),
        (lambda: gwf.ksd(np.r_[np.zeros((50, 1)), [[1.0]]], lambda x: -x), "give beta"),
        (lambda: gwf.jko_step(X, Y, 1.0, a=[0.5, 0.5]), "a has the shape"),
        (lambda: gwf.impute(HOLES, "flow", eps=50, random_state=0), "not finite"),
        (lambda: gwf.FlowImputer(gwf.flows.functionals.Sinkhorn()).fit(HOLES), "closed form"),
    ],
)
def test_slips_of_a_practitioner_are_one_line(call, message):
    with pytest.raises(UsageError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_constant_column_is_filled_with_its_constant():
    table = np.c_[HOLES, np.where(np.arange(len(HOLES)) < 5, np.nan, 2.0**-10)]
    for method in ("sinkhorn", "flow"):
        assert (gwf.impute(table, method, random_state=0, steps=20)[:, -1] == 2.0**-10).all()
