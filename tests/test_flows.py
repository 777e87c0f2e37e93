"""Public flows, velocities, steps and measures: against POT, closed forms, finite differences, and each other."""

import doctest
import math
from itertools import cycle

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from pretended_device import DEVICE, pretended
from scipy.stats import norm
from sklearn.exceptions import ConvergenceWarning

import gwf
from gwf import divergences, fields, metrics
from gwf.errors import UsageError
from gwf.exact import atoms, gaussian
from gwf.exact.grids import Bins
from gwf.fields import entropic
from gwf.flows import functionals
from gwf.flows.functionals import Blurred
from gwf.metrics import scores

NEW = ["flow", "velocity", "jko_step", "minibatch_bias", "ksd", "sliced_energy_distance", "l2_uvp", "frechet_distance"]
KERNEL = ["kl", "reverse_kl", "js", "chi2", "hellinger"]


def clouds(n=40, m=50, d=2, shift=1.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.normal(size=(m, d)) * 0.8 + shift


def tensors(*more, **settings):
    return tuple(torch.as_tensor(t) for t in clouds(*more, **settings))


@pytest.mark.parametrize("name", sorted(gwf.__all__))
def test_public_names_have_a_docstring_whose_examples_run(name):
    made = getattr(gwf, name)
    assert made.__doc__ and name in dir(gwf) and name in gwf.__doc__
    found = [test for test in doctest.DocTestFinder(recurse=False).find(made, name) if test.examples]
    results = [doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test) for test in found]
    assert not any(result.failed for result in results)
    assert found or name not in NEW


@pytest.mark.parametrize("name", functionals.names())
def test_the_mean_velocity_of_every_functional_points_to_the_data_and_is_of_the_kind_of_x(name):
    x, y = clouds()
    settings = {"warm_up": 60} if fields.FIELDS.get(name, functionals.MMD).potentials and "chi2" not in name else {}
    V = gwf.velocity(x, y, name, **settings)
    way, mean = y.mean(0) - x.mean(0), V.mean(0)
    assert V.dtype == np.float64 and V.shape == x.shape
    # A few updates teach a network the direction roughly; what is in closed form sees that of the means.
    assert mean @ way / np.linalg.norm(mean) / np.linalg.norm(way) > (0.5 if settings else 0.9)
    single = gwf.velocity(torch.as_tensor(x, dtype=torch.float32), y.tolist(), name, **settings)
    assert single.dtype == torch.float32 and not single.requires_grad
    # Rounding of 6e-8 through sums and, at most, sixty updates of a network.
    if not settings and name != "sliced":  # whose directions are other numbers in float32
        assert np.allclose(single.numpy(), V, rtol=1e-3, atol=1e-3 * np.abs(V).max())


CONSISTENT = {
    "sinkhorn": lambda: functionals.Sinkhorn(reg=0.2, iterations=300),
    "sinkhorn, relaxed": lambda: functionals.Sinkhorn(reg=0.2, iterations=300, relaxation=0.5),
    "sinkhorn, biased": lambda: functionals.Sinkhorn(reg=0.2, iterations=300, debias=False),
    "sliced": lambda: functionals.SlicedW2(32),
    "mmd, energy": lambda: functionals.MMD(),
    "mmd, gaussian": lambda: functionals.MMD("gaussian", 0.7),
    "mmd, multiquadric": lambda: functionals.MMD("multiquadric", 0.7),
    "optimal transport": lambda: functionals.OptimalTransport(),
    "own function": lambda: functionals.OfFunction(lambda x, y: torch.cdist(x, y).square().mean()),
}


@pytest.mark.parametrize("n, m", [(6, 6), (6, 9)])
@pytest.mark.parametrize("name", CONSISTENT)
def test_velocity_is_minus_n_times_the_gradient_of_the_value(name, n, m):
    x, y = tensors(n, m, seed=3)
    F, stream = CONSISTENT[name](), lambda: torch.Generator().manual_seed(1)
    if hasattr(F, "prepare"):
        F.prepare(y)
    along, delta = torch.as_tensor(np.random.default_rng(5).normal(size=x.shape)), 1e-5
    rise = F.value(x + delta * along, y, stream()) - F.value(x - delta * along, y, stream())
    # Central differences: error delta^2 of the curvature and rounding 1e-16 / delta, both below 1e-9; three hundred
    # updates at this temperature leave less than that.
    assert float(rise) / (2 * delta) == pytest.approx(
        -float((F.velocity(x, y, x, stream()) * along).sum()) / n, rel=1e-6
    )


def densities(x, y, h, grid):
    return (torch.as_tensor(norm.pdf(grid[:, None], t.numpy().T, h).mean(1)) for t in (x, y))


@pytest.mark.parametrize("name", KERNEL)
def test_an_f_divergence_of_clouds_is_that_of_the_blurred_laws(name, monkeypatch):
    """Value and gradient on the line, against quadrature of the two mixtures."""
    x, y, h, D = *tensors(5, 7, d=1, shift=0.3, seed=2), 2.0, divergences.get(name)
    grid = np.linspace(-16, 16, 4001)
    value = lambda x: float(D.value(*densities(x, y, h, grid), grid[1] - grid[0]))
    F = Blurred(D, h, draws=400)
    F.prepare(y)
    seen = np.array([float(F.value(x, y, torch.Generator().manual_seed(k))) for k in range(400)])
    assert abs(seen.mean() - value(x)) < 4 * seen.std() / math.sqrt(len(seen))
    # 400 equally likely nodes in place of xi: the midpoint rule leaves out tails of .1 %.
    nodes = cycle(norm.ppf((np.arange(400) + 0.5) / 400))
    monkeypatch.setattr(F, "_blur", lambda x, generator: x + h * next(nodes))
    V, delta = F.velocity(x, y), 1e-4
    for i, step in enumerate(delta * torch.eye(5, dtype=torch.float64)):
        slope = (value(x + step[:, None]) - value(x - step[:, None])) / (2 * delta)
        assert -5 * slope == pytest.approx(float(V[i]), rel=2e-2, abs=2e-3 * float(V.abs().max()))


def test_variants_of_one_divergence_have_one_flow():
    x, y = clouds()
    for name, variant in (("kl", "kl_dv"), ("js", "js_ns"), ("chi2", "chi2_tight")):
        assert np.allclose(gwf.velocity(x, y, name), gwf.velocity(x, y, variant), rtol=1e-9)


@pytest.mark.parametrize("relaxation", [math.inf, 0.5])
def test_sinkhorn_agrees_with_pot_and_with_updates_on_logarithms(relaxation):
    x, y = tensors(12, 15)
    F = functionals.Sinkhorn(reg=0.3, iterations=300, relative=False, relaxation=relaxation)
    F.prepare(y)
    C = entropic.half_squared(x, y)
    f, g = entropic.potentials(C, 0.3, 1000, relaxation)
    # Both have converged to rounding, of potentials of about 10 divided by the temperature.
    assert torch.allclose(F.plan(x, y), entropic.plan(C, f, g, 0.3), atol=1e-12)
    if math.isinf(relaxation):
        assert np.allclose(
            F.plan(x, y), ot.sinkhorn([], [], C.numpy(), 0.3, numItermax=10**4, stopThr=1e-13), atol=1e-11
        )
        assert float(F.value(x, y)) == pytest.approx(float(entropic.divergence(x, y, 0.3, 1000)), rel=1e-8)
        assert abs(float(F.value(y, y))) < 1e-9
    assert torch.allclose(F.velocity(x, y), fields.get("sinkhorn", reg=0.3, iterations=1000, relative=False,
                          relaxation=relaxation)(x, y, x), atol=1e-9)  # fmt: skip


def test_exact_transport_follows_the_geodesic_and_the_history_has_pots_distances():
    x, y = clouds(30, 30)
    result = gwf.flow(x, y, "minibatch_ot", step=0.25, steps=6, every=1, exact=True, keep=True, tolerance=0)
    w2 = math.sqrt(ot.emd2([], [], ot.dist(x, y))) * 0.75 ** np.arange(7)
    assert np.allclose(result.history.w2, w2, rtol=1e-9)
    assert np.allclose(result.history.functional, w2**2 / 2, rtol=1e-9)
    assert np.allclose(result.history.slope[1:], w2[:-1], rtol=1e-9)
    assert np.allclose(result.history.time, 0.25 * np.arange(7)) and result.path.shape == (7, 30, 2)
    assert np.allclose(result.path[-1], result.particles) and "0.24 of the first" in result.message
    plan = ot.emd([], [], ot.dist(result.particles, y))
    assert np.allclose(result.plan, plan) and isinstance(result.plan, np.ndarray)


def test_an_implicit_step_of_exact_transport_in_closed_form():
    x, y = tensors(20, 20)
    result = gwf.flow(x, y, "minibatch_ot", method="jko", step=0.5, steps=1)
    target = x + gwf.velocity(x, y, "minibatch_ot")
    # L-BFGS ends where the gradient, of order 1 / n, is below 1e-9.
    assert torch.allclose(result.particles, (x + 0.5 * target) / 1.5, atol=1e-6)


@pytest.mark.parametrize("name", ["mmd", "sinkhorn", "sliced"])
def test_an_implicit_step_is_stationary_and_lowers_the_objective(name):
    x, y = tensors(15, 20)
    settings = {"mmd": {"kernel": "gaussian", "bandwidth": 1.5}, "sinkhorn": {"reg": 0.2, "iterations": 60}}.get(
        name, {}
    )
    result = gwf.flow(x, y, name, method="jko", step=0.5, steps=3, every=1, tolerance=0, **settings)
    F, slope = result.history.functional.to_numpy(), result.history.slope.to_numpy()[1:]
    if name != "sliced":  # whose history looks along other directions than a step
        assert (F[1:] + 0.5 * slope**2 / 2 <= F[:-1] + 1e-12).all()
        before = gwf.flow(x, y, name, method="jko", step=0.5, steps=2, tolerance=0, **settings).particles
        gap = result.particles - before - 0.5 * gwf.velocity(result.particles, y, name, **settings)
        # L-BFGS ends where the slope of the objective is below 1e-9, or after fifty iterations.
        assert gap.norm() < 1e-2 * (result.particles - before).norm()
    assert slope[-1] < slope[0]


def test_the_kl_flow_of_gaussians_in_closed_form():
    """Kernel densities of N(m, s^2) and N(M, S^2) are N(m, s^2 + h^2), N(M, S^2 + h^2): V is affine, (m, s) has an equation."""
    levels, h, step = (np.arange(200) + 0.5) / 200, 0.3, 0.01
    x, y = (norm.ppf(levels, m, s)[:, None] for m, s in ((2.0, 0.5), (0.0, 1.0)))
    result = gwf.flow(x, y, "kl", bandwidth=h, step=step, steps=50, every=10, tolerance=0, exact=True)
    m, s = 2.0, 0.5
    for _ in range(50):
        m, s = m - step * m / (1 + h**2), s + step * s * (1 / (s**2 + h**2) - 1 / (1 + h**2))
    # 200 quantiles in place of a law: their kernel density is off in the tails, where a per cent of the mass is.
    assert result.particles.mean() == pytest.approx(m, rel=0.01)
    assert result.particles.std() == pytest.approx(s, rel=0.02)
    # Without blur, the Ornstein-Uhlenbeck process, from which it is h^2 away.
    exact = gaussian.ou_flow(2.0, 0.5, 0.0, 1.0, 0.5)
    assert abs(m - exact[0]) < h**2 and abs(s - exact[1]) < h**2
    assert result.history.w2.is_monotonic_decreasing and result.history.functional.is_monotonic_decreasing


@pytest.mark.parametrize("name", ["sinkhorn", "sliced", "mmd", *KERNEL])
def test_flows_arrive(name):
    x, y = clouds(80, 80, shift=1.0)
    result = gwf.flow(x, y, name, exact=True, steps=120, every=60)
    w2, F = result.history.w2, result.history.functional
    # Two samples of 80 points of one law are about .3 apart, a fifth of where these start.
    assert w2.iloc[-1] < 0.4 * w2.iloc[0] and F.iloc[-1] < 0.1 * F.iloc[0]
    assert "rose" not in result.message


def test_an_f_divergence_by_exact_steps():
    x, y = tensors(10, 12, d=1)
    result = gwf.flow(x, y, "chi2", method="jko", step=2.0, steps=3, every=1, tolerance=0, exact=True)
    b = np.full(12, 1 / 12)
    assert torch.is_tensor(result.weights)
    weights = atoms.jko_sequence(x.numpy(), np.full(10, 0.1), y.numpy(), b, 2.0, 3, "chi2")
    assert np.allclose(result.weights, weights[-1], atol=1e-8) and torch.equal(result.particles, y)
    assert np.allclose(result.history.functional[1:], 12 * (weights**2).sum(1) - 1, atol=1e-7)
    exact = [ot.emd2(w / w.sum(), [], ot.dist(y.numpy(), y.numpy())) for w in weights]
    assert np.allclose(result.history.w2[1:] ** 2, exact, atol=1e-7) and result.history.functional[0] == math.inf


def test_mass_that_costs_less_off_the_data_stays():
    """delta_0 towards delta_10 at tau = 1/2: the trip costs 100, to stay 2 log 2. At tau = 100 it costs 1/2, less than log 2."""
    x, y = np.array([[0.0]]), np.array([[10.0]])
    given = {"method": "jko", "tolerance": 0, "bandwidth": 1.0}
    result = gwf.flow(x, y, "js", step=0.5, steps=2, every=1, **given)
    assert result.particles.ravel().tolist() == [10, 0] and result.weights == pytest.approx([0, 1], abs=1e-6)
    assert result.history.functional.iloc[-1] == pytest.approx(2 * math.log(2), abs=1e-6)
    step = gwf.jko_step(x, y, 0.5, "js")
    assert step.kept == pytest.approx([1], abs=1e-6) and step.primal == pytest.approx(2 * math.log(2), abs=1e-8)
    far = gwf.flow(x, y, "js", step=100.0, steps=1, **given)
    assert far.weights[0] == pytest.approx(1, abs=1e-6)


def test_a_step_between_atoms_is_enclosed_and_balanced_transport_is_pots():
    x, y = clouds(10, 12)
    for divergence, source in (("kl", "hard"), ("chi2", "hard"), ("js", "kl"), ("hard", "hard")):
        found = gwf.jko_step(x, torch.as_tensor(y), 0.7, divergence, source=source)
        assert 0 <= found.gap + 1e-12 and found.gap <= 1e-9 * (1 + abs(found.primal))
        assert found.gap == pytest.approx(found.primal - found.dual, abs=1e-14) and torch.allclose(
            found.plan.sum(0), found.weights
        )
        C = torch.as_tensor(ot.dist(x, y) / 1.4)
        assert source != "hard" or torch.allclose(found.plan.sum(1), torch.tensor(0.1, dtype=C.dtype))
    assert found.primal == pytest.approx(ot.emd2([], [], C.numpy()), rel=1e-9)


def test_a_step_on_the_line_is_that_of_gaussians_of_atoms_and_of_bins():
    y = np.linspace(-6, 8, 281)
    b = norm.pdf(y, 1, 0.9)
    law = norm(-0.5, 1.2)
    found = gwf.jko_step(law, y, 0.6, b=b / b.sum())
    m, s = gaussian.jko_step(-0.5, 1.2, 1, 0.9, 0.6)
    mean = found.weights @ y
    # The grid's error, spacing^2 = .0025 at most.
    assert mean == pytest.approx(float(m), abs=1e-3)
    assert math.sqrt(found.weights @ (y - mean) ** 2) == pytest.approx(float(s), abs=1e-3)
    assert float(gaussian.jko_objective(m, s, -0.5, 1.2, 1, 0.9, 0.6)) == pytest.approx(found.primal, abs=1e-3)
    assert 0 <= found.gap + 1e-12 and found.gap < 1e-8 and found.plan is None and len(found.cuts) == 280
    few = np.linspace(-1, 3, 6)
    one = gwf.jko_step(law, torch.as_tensor(few), 0.6)
    x = law.ppf((np.arange(4000) + 0.5) / 4000)[:, None]
    many = gwf.jko_step(x, few[:, None], 0.6)
    # Quantiles leave out 1 / 4000 of the mass in the tails, where the cost is about 10.
    assert one.primal == pytest.approx(many.primal, abs=3e-3) and np.allclose(one.weights, many.weights, atol=1e-3)
    half = np.full(281, 0.025)
    again = gwf.jko_step(Bins(y, found.weights / found.weights.sum(), half), y, 0.6, b=b / b.sum())
    m2, s2 = gaussian.jko_step(m, s, 1, 0.9, 0.6)
    assert again.primal == pytest.approx(float(gaussian.jko_objective(m2, s2, m, s, 1, 0.9, 0.6)), abs=2e-3)


@pytest.mark.parametrize("name", ["sinkhorn", "sliced", "mmd", "kl", "chi2"])
def test_velocity_and_flow_are_differentiable_in_particles_and_data(name):
    x, y = tensors(4, 5, seed=1)
    settings = {"mmd": {"kernel": "gaussian"}, "sinkhorn": {"reg": 0.5, "iterations": 5}}.get(name, {})
    run = lambda x, y: gwf.velocity(x, y, name, **settings)
    if name in ("kl", "chi2"):  # a bandwidth that follows y would be part of the derivative
        settings["bandwidth"] = 1.0
    if name == "sinkhorn":
        settings["relative"] = False
    assert torch.autograd.gradcheck(run, (x.requires_grad_(), y.requires_grad_()))
    moved = gwf.flow(x, y, name, steps=3, **settings).particles
    slopes = torch.autograd.grad(moved.square().sum(), (x, y))
    assert all(s.isfinite().all() and s.any() for s in slopes)


@pytest.mark.parametrize("name", ["sinkhorn", "sliced", "mmd", "minibatch_ot", "kl", "js", "w1"])
def test_flows_stay_on_the_device_of_their_arguments(name):
    x, y = (t.float() for t in tensors(16, 18))
    settings = {"w1": {"warm_up": 2}, "sinkhorn": {"iterations": 2}}.get(name, {"batch": 8})
    here = gwf.flow(x, y, name, steps=3, **settings)
    with pretended():
        there = gwf.flow(x.to(DEVICE), y.to(DEVICE), name, steps=3, **settings)
        assert there.particles.device == DEVICE
        # The same operations on the same numbers.
        assert torch.allclose(there.particles.to("cpu"), here.particles, atol=1e-5)


def test_objects_of_ones_own_in_place_of_names():
    x, y = clouds()
    for name, own in (
        ("kl", divergences.get("kl")),
        ("mmd", fields.get("mmd")),
        ("mmd", lambda x, y: torch.cdist(x, y).mean() - torch.cdist(x, x).mean() / 2),
    ):
        # The kink of the energy kernel is rounded at different millionths.
        assert np.allclose(gwf.velocity(x, y, own), gwf.velocity(x, y, name), atol=1e-6)
    own = functionals.Sinkhorn(reg=0.1)
    first = gwf.flow(x, y, own, steps=3).particles
    assert own.relative and np.array_equal(gwf.flow(x, y, own, steps=3).particles, first)
    result = gwf.flow(x, y, fields.get("mmd"), steps=2)
    assert np.isnan(result.history.functional).all() and result.plan is None


@pytest.mark.parametrize("name", ["mmd", "kl"])
def test_rows_at_a_time_change_nothing(name, monkeypatch):
    x, y = clouds()
    whole = gwf.flow(x, y, name, steps=3)
    monkeypatch.setattr(functionals, "ROWS", 7)
    rows = gwf.flow(x, y, name, steps=3)
    assert np.allclose(rows.particles, whole.particles, rtol=1e-9)
    assert np.allclose(rows.history.functional, whole.history.functional, rtol=1e-9)


def test_a_relaxed_target_lets_outliers_go():
    x, y = clouds(40, 40, shift=0.0)
    y = np.vstack([y, y[:4] + 30])
    plain, relaxed = (gwf.flow(x, y, "sinkhorn", relative=False, reg=0.1, relaxation=r) for r in (math.inf, 2.0))
    assert np.abs(plain.particles).max() > 20 and np.abs(relaxed.particles).max() < 5
    kept = 44 * relaxed.plan.sum(0)
    assert kept[40:].max() < 1e-6 < 0.5 < kept[:40].min()


def test_same_seed_same_flow_and_what_is_not_finite_stops():
    x, y = clouds()
    one, same, other = (gwf.flow(x, y, "sliced", steps=5, seed=s, batch=16).particles for s in (0, 0, 1))
    assert np.array_equal(one, same) and not np.allclose(one, other)
    burst = gwf.flow(x, y, lambda x, y: x.pow(4).sum(1).mean(), step=10.0)
    assert not burst.converged and "shorter than 10" in burst.message and np.isfinite(burst.particles).all()
    still = gwf.flow(x, y, lambda x, y: (x - 1).square().sum(1).mean() / 2, step=0.5)
    assert still.converged and still.message == f"converged after {still.history.step.iloc[-1]} steps"
    assert repr(still) == f"<Flow of 40 particles: {still.message}>"


@pytest.mark.parametrize(
    "change, message",
    [
        ({"functional": "sinkhron"}, "did you mean 'sinkhorn'"),
        ({"functional": 3}, "functional = 3"),
        ({"rge": 0.1}, "did you mean 'reg'"),
        ({"reg": 0.0}, "reg = 0.0"),
        ({"functional": "mmd", "kernel": "energie"}, "did you mean 'energy'"),
        ({"functional": "kl", "bandwidth": -1.0}, "bandwidth = -1.0"),
        ({"functional": "kl", "estimate": "kernle"}, "did you mean 'kernel'"),
        ({"functional": lambda x, y: x.sum(), "reg": 1.0}, "setting of"),
        ({"method": "euler"}, "unknown method 'euler'"),
        ({"method": "jko", "functional": "w1", "warm_up": 0}, "a functional with a value"),
        ({"step": 0}, "step = 0"),
        ({"steps": 0}, "steps = 0"),
        ({"seed": "a"}, "seed = 'a'"),
        ({"batch": 100}, "batch = 100"),
        ({"x": np.ones(3)}, "x is no cloud"),
        ({"x": [["a", "b"]]}, "x is no cloud"),
        ({"y": np.full((3, 2), np.nan)}, "y is no cloud"),
        ({"y": np.ones((3, 3))}, "x has d = 2 columns and y has d = 3"),
        ({"y": np.ones((3, 2))}, "variance of y"),
        ({"x": torch.ones(3, 2, dtype=torch.int64)}, "float32 or float64"),
        ({"x": torch.full((3, 2), torch.inf)}, "finite"),
    ],
)
def test_slips_are_named(change, message):
    x, y = clouds()
    with pytest.raises(UsageError, match=message):
        gwf.flow(**{"x": x, "y": y} | change)


@pytest.mark.parametrize("wrong", [{"divergence": 3}, {"source": None}, {"tau": "kl"}, {"divergence": "kll"}])
def test_slips_of_a_step_are_named(wrong):
    x, y = clouds()
    with pytest.raises(UsageError, match=next(iter(wrong))):
        gwf.jko_step(x, y, **{"tau": 1.0} | wrong)


def test_the_bias_of_batches_in_closed_form():
    """At a high temperature a plan is independent: V_B(x) is the mean of the batch's data, minus x."""
    x, y = clouds(64, 80)
    table = gwf.minibatch_bias(
        x, y, "sinkhorn", batches=(8, 32), reg=(1e5,), debias=False, iterations=2, draws=20, seeds=4
    )
    V = y.mean(0) - x
    scale = (V**2).sum(1).mean()
    for row, B in zip(table.itertuples(), (8, 32), strict=True):
        noise = math.sqrt(y.var(0, ddof=1).sum() / B * (1 - B / 80) / scale)
        # 4 x 20 partitions of 8 or 2 batches: a variance of at least 160 independent means, known to 12 %.
        assert row.noise == pytest.approx(noise, rel=0.12)
        # Nothing but what is left of the noise after its mean was subtracted.
        assert row.bias < 3 * noise / math.sqrt(20) and row.length == pytest.approx(1, abs=0.1)
    own = gwf.minibatch_bias(x, y, batches=(16,), reference=gwf.velocity(x, y, "minibatch_ot"), draws=5, seeds=2)
    same = gwf.minibatch_bias(x, y, batches=(16,), draws=5, seeds=2)
    assert own.equals(same) and (own.bias > 0).all() and np.isfinite(own.bias_sd).all()
    with pytest.raises(UsageError, match="batch = 65"):
        gwf.minibatch_bias(x, y, batches=(65,))


def test_measures_agree_with_those_of_the_library_and_of_scipy():
    x, y = clouds(200, 150, d=3)
    sliced = gwf.sliced_energy_distance(torch.as_tensor(x), torch.as_tensor(y), 2000)
    # Values of a line vary by about as much as their mean: 2000^(-1/2), thrice.
    assert sliced == pytest.approx(metrics.energy_distance(x, y), rel=0.07)
    line = gwf.sliced_energy_distance(x[:, :1], y[:, :1], 3)
    assert line == pytest.approx(scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2, rel=1e-9)
    assert gwf.sliced_energy_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert gwf.ksd(x, -x) == pytest.approx(scores.ksd(x, -x, scores.ksd_scale(x))) and gwf.ksd(x, -x) == gwf.ksd(
        x, lambda x: -x
    )
    assert gwf.ksd(torch.as_tensor(x), -x, 0.3) == pytest.approx(scores.ksd(x, -x, 0.3))
    assert gwf.frechet_distance(x, torch.as_tensor(y).requires_grad_()) == metrics.frechet_distance(x, y)
    for wrong in (x + 1j, np.ma.masked_greater(x, 1.0), [["a", "b"]], torch.as_tensor(x).bfloat16()):
        with pytest.raises(UsageError, match="x"):
            gwf.frechet_distance(wrong, y)
    assert gwf.l2_uvp(x + 1, x) == pytest.approx(100 * 3 / x.var(0).sum()) and gwf.l2_uvp(x + 1, x, 3.0) == 100
    with pytest.raises(UsageError, match="200 rows and true 150"):
        gwf.l2_uvp(x, y)


@pytest.mark.parametrize(
    "law, y, primal",
    [
        # scipy.integrate.quad of (x - y_j)^2 g over the cells, between quantiles, 1e-13 relative.
        (scipy.stats.t(3), [0.0, 1.0], 1.1801464673009108),
        (scipy.stats.lognorm(1), [0.0, 1.0], 2.537771723939004),
        (scipy.stats.gamma(0.1), [0.0, 1.0], 0.17436776370227025),
        (scipy.stats.f(3, 8), [0.0, 1.0], 1.339457175053108),  # whose isf(1e-17) is infinite
    ],
)
def test_a_step_on_the_line_knows_heavy_tails(law, y, primal):
    found = gwf.jko_step(law, y, 1.0)
    # The panels promise 1e-13 of the whole; the potentials are known to 1e-9, whose square the value has.
    assert abs(found.primal - primal) < 1e-11 * primal + found.gap < 1e-6


@pytest.mark.parametrize("law", [scipy.stats.t(2.2), scipy.stats.beta(0.5, 0.5), scipy.stats.arcsine(3, 1e-3), norm(1e6, 1e-3)])  # fmt: skip
def test_a_step_to_one_atom_costs_the_second_moment(law):
    """With an infinite density at an end, too. 1e-10: as far as the quantiles in the tail of t(2.2) are right."""
    second = float(law.var() + (law.mean() - 1) ** 2)
    assert gwf.jko_step(law, [1.0], 0.5).primal == pytest.approx(second, rel=1e-10)


@pytest.mark.parametrize("law, message", [(scipy.stats.t(2), "no finite second moment"), (scipy.stats.poisson(3), "no density")])  # fmt: skip
def test_laws_without_a_step_are_named(law, message):
    with pytest.raises(UsageError, match=message):
        gwf.jko_step(law, [0.0, 1.0], 1.0)


def test_sinkhorn_tends_to_exact_transport_as_the_temperature_falls():
    """Ten updates a temperature leave 3e-4 of W_2^2 / 2, a hundred 1e-5: the value is a dual one, and stays below."""
    x, y = clouds(100, 100)
    exact = ot.emd2([], [], ot.dist(x, y)) / 2
    for reg, iterations, off in ((1e-4, 10, 1e-3), (1e-6, 100, 3e-5), (1e-12, 100, 3e-5)):
        F = functionals.Sinkhorn(reg, iterations, relative=False, debias=False)
        value, V = F.value(torch.as_tensor(x), torch.as_tensor(y)), F.velocity(*map(torch.as_tensor, (x, y)))
        assert exact * (1 - off) <= float(value) <= exact * (1 + 1e-9) + 10 * reg and V.isfinite().all()
    for reg in (1e12, 1e300):  # the limit, half the squared distance of the means, and C^2 / reg above it
        value = entropic.divergence(torch.as_tensor(x), torch.as_tensor(y), reg, 5)
        assert float(value) == pytest.approx(((x.mean(0) - y.mean(0)) ** 2).sum() / 2, rel=1e-5)
    with pytest.warns(ConvergenceWarning, match="take more than 1 iterations"):
        gwf.velocity(x, y, reg=1e-6, iterations=1)


def test_the_unit_and_the_origin_of_drifting_do_not_matter():
    x, y = clouds()
    for name, degree in (("drifting", 1), ("drifting_released", 0)):
        V = gwf.velocity(x, y, name)
        # 1e-10 is the rounding of x + 1e6, and of D^2 by products, magnified by exp(-D / t) at t = .02 mean distances.
        for scale, shift, off in ((1e-18, 0.0, 1e-10), (1e18, 0.0, 1e-10), (1.0, 1e6, 1e-8)):
            other = gwf.velocity(scale * x + shift, scale * y + shift, name)
            assert np.abs(other / scale**degree - V).max() < off * np.abs(V).max()
    single = gwf.velocity(*(torch.as_tensor(t + 100, dtype=torch.float32) for t in (x, y)), "drifting_released")
    assert np.abs(single.numpy() - V).max() < 5e-3  # .34 before


def test_mmd_in_few_passes_is_that_of_differences():
    x, y = tensors(60, 70)
    F = functionals.MMD()
    F.prepare(y)
    r = lambda p, q: (p[:, None] - q) / ((p[:, None] - q).square().sum(2, keepdim=True) + 1e-12 * F.bandwidth**2).sqrt()
    with torch.no_grad():
        V = F.velocity(x, y)
    # Neighbours at .01 have r^2 = 1e-4 from squares of 5, with 1e-15: their unit vector to 1e-11.
    assert torch.allclose(V, r(x, x).mean(1) - r(x, y).mean(1), atol=1e-10)


def test_a_divergence_adds_up_mass_at_equal_points():
    """x = (0, 0, 9), y = (0, 2, 2): mu = (2/3, 0 | 1/3 off), nu = (1/3, 2/3), by the definition of twice Jensen-Shannon."""
    F = lambda name: gwf.flow([[0.0], [0.0], [9.0]], [[0.0], [2.0], [2.0]], name, method="jko", steps=1, step=0.5).history.functional[0]  # fmt: skip
    mu, nu = np.array([2, 0, 1]) / 3, np.array([1, 2, 0]) / 3
    entropy = lambda p: -scipy.special.xlogy(p, p).sum()
    assert F("kl") == math.inf and F("js") == pytest.approx(2 * entropy((mu + nu) / 2) - entropy(mu) - entropy(nu))
    found = gwf.flow([[0.0]], [[0.0], [2.0]], "reverse_kl", method="jko", step=0.5, steps=1)
    step = gwf.jko_step([[0.0]], [[0.0], [2.0]], 0.5, "reverse_kl")
    assert found.weights == pytest.approx(step.weights, rel=1e-6) and found.history.functional[0] == math.inf


@pytest.mark.parametrize(
    "name, setting",
    [
        *(("sliced", {"directions": wrong}) for wrong in (2.5, "3", None, 0, -1, True)),
        *(("w2", {"betas": wrong}) for wrong in (3, (0.5, 1.0), ("a", 0.5), (0.5,))),
        *(("w1", {"penalty_of": 3}), ("w1", {"lr": "3"}), ("w1", {"weight": -1}), ("w1", {"critic_steps": 0})),
        *(("drifting", {"reg": wrong}) for wrong in ("3", 0, np.ones(2))),
        *(("drifting", {"relative": "3"}), ("mmd", {"bandwidth": np.ones(2)}), ("kl", {"draws": -1})),
    ],
)
def test_settings_of_fields_are_checked(name, setting):
    x, y = clouds(5, 6)
    with pytest.raises(UsageError, match=f"{next(iter(setting))} = "):
        gwf.velocity(x, y, name, **setting)


@pytest.mark.parametrize("name, n, m", [("drifting_released", 1, 5), ("mmd_scaled", 1, 5), ("mmd_learned", 5, 1)])
def test_fields_of_pairs_need_a_pair(name, n, m):
    with pytest.raises(UsageError, match="needs pairs"):
        gwf.flow(*clouds(n, m), name, warm_up=0) if "mmd" in name else gwf.flow(*clouds(n, m), name)
