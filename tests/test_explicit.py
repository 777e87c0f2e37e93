"""Explicit flows against closed forms: W2 and its Euler steps, persistency, entropic plans, particles, the JSD flow.

Identities of Gaussians hold to rounding; W2 is a difference of traces, so that a small distance loses digits (a relative
error of 1e-16 times the traces over W2^2). What each tolerance allows for is said beside it where it is wider.
"""

import math
from functools import partial

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from scipy.stats import norm

from gwf import fields
from gwf.data import toys
from gwf.errors import UsageError
from gwf.exact import gaussian
from gwf.fields import entropic
from gwf.fields.minibatch_ot import MinibatchOT
from gwf.fields.mmd import MMD
from gwf.fields.sinkhorn import Sinkhorn
from gwf.fields.sliced import Sliced
from gwf.flows.measures import l2_uvp
from gwf.seeding import generator
from gwf.steps.euler import Euler, iterate, particle_flow
from notebooks.chapters import explicit_gaussian as euler
from notebooks.chapters.js_flow import JensenShannonFlow

few = settings(derandomize=True, deadline=None, max_examples=20)
seeds = st.integers(0, 10**6)


def pair(d, seed):
    """Means and covariances of two random Gaussians; condition numbers below about 100."""
    rng = np.random.default_rng([d, seed])
    roots = rng.standard_normal((2, d, d))
    m, C = rng.standard_normal((2, d)), roots @ roots.transpose(0, 2, 1) / d + 0.1 * np.eye(d)
    return m[0], C[0], m[1], C[1]


def start_distance(laws):
    return gaussian.w2_cov(*laws)


# The W2 flow and its Euler steps.


@pytest.mark.parametrize("t", [0.1, 0.5, 1.0, 2.0, 4.0])
def test_w2_decays_exactly_exponentially_in_five_dimensions(t):
    laws = pair(5, 0)
    ratio = gaussian.w2_cov(*euler.w2_flow(*laws, t), *laws[2:]) / (math.exp(-t) * start_distance(laws))
    assert abs(ratio - 1) < 2e-11


@few
@given(st.integers(1, 6), seeds, st.floats(0, 3), st.floats(0, 3))
def test_the_flow_is_a_semigroup_and_ends_at_the_data(d, seed, t, u):
    m_0, C_0, m_1, C_1 = pair(d, seed)
    once, twice = (
        euler.w2_flow(m_0, C_0, m_1, C_1, t + u),
        euler.w2_flow(*euler.w2_flow(m_0, C_0, m_1, C_1, t), m_1, C_1, u),
    )
    # Roots of matrices of condition 100, taken twice.
    assert np.allclose(once[0], twice[0], atol=1e-10) and np.allclose(once[1], twice[1], atol=1e-9)
    assert np.allclose(euler.w2_flow(m_0, C_0, m_1, C_1, math.inf)[1], C_1, atol=1e-9)


def test_a_clock_that_is_not_the_flows_is_caught():
    """Negative control: the geodesic at parameter t in place of 1 - e^-t."""
    laws = pair(5, 0)
    wrong = gaussian.w2_cov(*euler.w2_flow(*laws, -math.log(1 - 0.5)), *laws[2:]) / (
        math.exp(-0.5) * start_distance(laws)
    )
    assert abs(wrong - 1) > 0.1


@pytest.mark.parametrize("eps, factor", [(0.5, 0.0625), (0.1, 0.1215766546), (0.01, 0.1339796749)])
def test_published_factors_of_forward_euler(eps, factor):
    """W2 ratio after 2 / eps steps, each with its own Monge map."""
    laws, steps = pair(5, 0), round(2 / eps)
    m, C = euler.w2_euler(*laws, eps, steps)
    ratio = gaussian.w2_cov(m[-1], C[-1], *laws[2:]) / start_distance(laws)
    assert abs(ratio - euler.euler_factor(eps, steps)) < 1e-11
    assert abs(ratio - factor) < 1e-10  # ten printed digits
    assert abs(euler.implicit_factor(eps, steps) - factor) > 1e-3
    assert abs(euler.euler_factor(1.05 * eps, steps) - factor) > 1e-3


@few
@given(st.integers(1, 5), seeds, st.lists(st.floats(0.01, 0.9), min_size=1, max_size=6))
def test_every_schedule_of_steps_multiplies_w2_by_its_product(d, seed, eps):
    laws = pair(d, seed)
    m, C = euler.w2_euler(*laws, eps, len(eps))
    ratio = gaussian.w2_cov(m[-1], C[-1], *laws[2:]) / start_distance(laws)
    assert math.isclose(ratio, euler.euler_factor(eps, len(eps)), abs_tol=1e-7)  # sqrt(1e-15) where W2 is nearly 0


@few
@given(st.integers(1, 4), seeds, st.floats(0.05, 1))
def test_an_implicit_step_minimises_along_the_geodesic(d, seed, eps):
    """min_s (1 - s)^2 / 2 + s^2 / (2 eps) is at s = eps / (1 + eps), found here on laws of the geodesic."""
    laws = pair(d, seed)
    D = start_distance(laws)

    def objective(s):
        law = euler.w2_flow(*laws, -math.log1p(-s))
        return gaussian.w2_cov(*law, *laws[2:]) ** 2 / 2 + gaussian.w2_cov(*law, *laws[:2]) ** 2 / (2 * eps)

    best = 1 - euler.implicit_factor(eps, 1)
    assert objective(best) <= min(objective(best - 0.05 * best), objective(best + 0.05 * (1 - best))) + 1e-12 * D**2


def test_the_released_field_is_another_flow():
    """With exact potentials, eps = 1: an Euler step of the displacement lands on nu, grad p squares the error instead."""
    law, data = ([0.0], [[0.25]]), ([1.0], [[1.0]])
    m, C = euler.w2_euler(*law, *data, 1.0, 1)
    assert abs(m[1, 0] - 1) < 1e-12 and abs(C[1, 0, 0] - 1) < 1e-12
    m, C = euler.w2_euler(*law, *data, 1.0, 5, euler.released_displacement)
    sd = np.sqrt(C[:, 0, 0])
    assert np.allclose(1 - sd[1:], (1 - sd[:-1]) ** 2, atol=1e-12) and np.allclose(
        1 - m[1:, 0], (1 - m[:-1, 0]) * (1 - sd[:-1]), atol=1e-12
    )
    wide = euler.w2_euler([0.0], [[9.0]], *data, 1.0, 1, euler.released_displacement)[1][1, 0, 0]
    assert math.isclose(wide, 9.0)  # s = 3 goes to -3: reflected, and for larger s further out


@few
@given(st.integers(1, 4), seeds)
def test_released_and_true_fields_agree_at_the_data(d, seed):
    _, _, m_1, C_1 = pair(d, seed)
    assert np.allclose(euler.displacement(m_1, C_1, m_1, C_1)[0], 0, atol=1e-9)
    assert np.allclose(euler.released_displacement(m_1, C_1, m_1, C_1)[0], 0, atol=1e-9)


# Persistency.


@pytest.mark.parametrize("J, published", [(1, 0.358486), (3, 0.0543626)])
def test_published_law_of_persistency(J, published):
    """eps .5, rate .05, 20 outer steps: six printed digits."""
    m_0, C_0, m_1, C_1 = pair(3, 1)
    root = np.linalg.cholesky(C_0)
    A, b = euler.persistent_euler(root, m_0, m_1, C_1, 0.5, 0.05, J, 20)[-1]
    ratio = gaussian.w2_cov(b, A @ A.T, m_1, C_1) / gaussian.w2_cov(m_0, C_0, m_1, C_1)
    assert abs(ratio - published) < 6e-7 and math.isclose(
        ratio, euler.persistency_factor(0.5, 0.05, J, 20), rel_tol=1e-6
    )
    naive = euler.persistent_euler(root, m_0, m_1, C_1, 0.5, 0.05, J, 20, frozen=False)[-1]
    moved = gaussian.w2_cov(naive[1], naive[0] @ naive[0].T, m_1, C_1) / gaussian.w2_cov(m_0, C_0, m_1, C_1)
    assert (abs(moved - published) < 6e-7) == (J == 1)  # a target that moves is told apart as soon as J > 1


@few
@given(st.integers(1, 4), seeds, st.data())
def test_persistency_law_for_any_schedule(d, seed, data):
    m_0, C_0, m_1, C_1 = pair(d, seed)
    steps = data.draw(st.integers(1, 5))
    eps, lr = (
        data.draw(st.lists(st.floats(low, high), min_size=steps, max_size=steps))
        for low, high in ((0.05, 1), (0.01, 0.45))
    )
    J = data.draw(st.lists(st.integers(1, 10), min_size=steps, max_size=steps))
    A, b = euler.persistent_euler(np.linalg.cholesky(C_0), m_0, m_1, C_1, eps, lr, J, steps)[-1]
    ratio = gaussian.w2_cov(b, A @ A.T, m_1, C_1) / gaussian.w2_cov(m_0, C_0, m_1, C_1)
    assert math.isclose(ratio, euler.persistency_factor(eps, lr, J, steps), abs_tol=1e-6)  # W2 near 0: see the top
    assert euler.effective_step(lr[0], J[0]) < 1  # never beyond the Euler step


def test_naive_steps_have_no_such_bound():
    """From a narrow law the frozen target stops at nu; the naive steps pass it, by (1 + 2 lr eps (T - 1))^J."""
    A, b, m_1, C_1 = np.array([[0.05]]), np.zeros(1), np.zeros(1), np.array([[0.5]])
    T = float(gaussian.monge_matrix(A @ A.T, C_1)[0, 0])
    frozen = euler.persistent_euler(A, b, m_1, C_1, 1.0, 0.05, 30, 1)[-1][0][0, 0]
    naive = euler.persistent_euler(A, b, m_1, C_1, 1.0, 0.05, 30, 1, frozen=False)[-1][0][0, 0]
    assert frozen < math.sqrt(0.5) and math.isclose(naive, 0.05 * (1 + 0.1 * (T - 1)) ** 30, rel_tol=1e-10)
    assert naive > 10 * math.sqrt(0.5)


class Displacement:
    """The exact W2 field of an affine map of N(0, I), in the interface of `gwf.fields.learned`."""

    needs_other, critic_steps = False, 0

    def __init__(self, T, m_1, C_1):
        self.T, self.data = T, (m_1, C_1)

    def __call__(self, x, y=None, other=None, generator=None):
        A, b = self.T.weight.detach().numpy(), self.T.bias.detach().numpy()
        slope, offset = euler.displacement(b, A @ A.T, *self.data)
        return x @ torch.as_tensor(slope).T + torch.as_tensor(offset)


def loop(eps, lr, J, steps, T_of=Displacement):
    """W2 ratio after `steps` of the training loop's own Euler step under SGD, on latents with exact moments."""
    m_0, C_0, m_1, C_1 = pair(2, 3)
    T = torch.nn.Linear(2, 2).double()
    with torch.no_grad():
        T.weight.copy_(torch.as_tensor(np.linalg.cholesky(C_0)))
        T.bias.copy_(torch.as_tensor(m_0))
    # Mean 0 and covariance I exactly, so that the batch's gradient is the population's.
    z = np.random.default_rng(0).standard_normal((50, 2))
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z.T, bias=True)), (z - z.mean(0)).T).T
    step = Euler(T, T_of(T, m_1, C_1), torch.optim.SGD(T.parameters(), lr=lr), eps, J)
    for _ in range(steps):
        step.update(torch.as_tensor(z), None)
    A, b = T.weight.detach().numpy(), T.bias.detach().numpy()
    return gaussian.w2_cov(b, A @ A.T, m_1, C_1) / gaussian.w2_cov(m_0, C_0, m_1, C_1)


@settings(few, max_examples=8)
@given(st.floats(0.1, 1), st.floats(0.01, 0.4), st.integers(1, 6))
def test_the_training_step_obeys_the_law(eps, lr, J):
    """The loop that trains networks, on a linear layer."""
    assert math.isclose(loop(eps, lr, J, 4), euler.persistency_factor(eps, lr, J, 4), abs_tol=1e-7)


def test_a_wrong_step_breaks_the_law():
    """Negative controls: another eps, and a mean over coordinates in place of their sum, which halves the rate in the plane."""
    expected = euler.persistency_factor(0.5, 0.1, 3, 4)
    assert abs(loop(0.5, 0.1, 3, 4) - expected) < 1e-9
    assert abs(loop(0.6, 0.1, 3, 4) - expected) > 0.02
    assert abs(loop(0.5, 0.05, 3, 4) - expected) > 0.02


def test_schedules_of_another_length_are_refused():
    with pytest.raises(UsageError, match="one for each step"):
        euler.euler_factor([0.1, 0.2], 3)
    with pytest.raises(UsageError, match="eps"):
        euler.w2_euler(*pair(2, 0), 1.5, 1)


def test_uvp_and_cosine_of_known_fields():
    rng = np.random.default_rng(0)
    m_0, C_0, m_1, C_1 = pair(3, 0)
    x = rng.multivariate_normal(m_0, C_0, 20_000)
    A, b = euler.displacement(m_0, C_0, m_1, C_1)
    exact = x @ A.T + b
    assert l2_uvp(exact, exact, np.trace(C_1)) == 0 and math.isclose(euler.cosine(exact, exact), 1)
    constant = m_1 - x
    # E |t - m_1|^2 = Var(nu); 20,000 draws leave a per cent.
    assert abs(l2_uvp(constant, exact, np.trace(C_1)) - 100) < 3
    assert math.isclose(euler.cosine(-2 * exact, exact), -1)


# Entropic transport.


def cloud(n, d, seed, shift=0.0):
    return torch.as_tensor(np.random.default_rng([n, d, seed]).standard_normal((n, d)) + shift)


def test_balanced_plan_is_pots():
    x, y = cloud(12, 2, 0), cloud(9, 2, 1, 0.5)
    C = entropic.half_squared(x, y)
    P = entropic.plan(C, *entropic.potentials(C, 0.3, 2000), 0.3).numpy()
    theirs = ot.sinkhorn(np.full(12, 1 / 12), np.full(9, 1 / 9), C.numpy(), 0.3, stopThr=1e-14, numItermax=10_000)
    assert np.abs(P - theirs).max() < 1e-12


@pytest.mark.parametrize("relaxation", [0.1, 1.0, 10.0])
def test_relaxed_plan_is_pots(relaxation):
    """P 1 = a hard, KL(P^T 1 | b) priced: POT takes an infinite weight for the first, and the entropy relative to a b^T."""
    x, y = cloud(12, 2, 0), cloud(9, 2, 1, 0.5)
    C, a, b = entropic.half_squared(x, y), np.full(12, 1 / 12), np.full(9, 1 / 9)
    f, g = entropic.potentials(C, 0.3, 5000, relaxation)
    P = entropic.plan(C, f, g, 0.3).numpy()
    theirs = ot.unbalanced.sinkhorn_unbalanced(
        a, b, C.numpy(), 0.3, (math.inf, relaxation), reg_type="kl", c=np.outer(a, b), stopThr=1e-14, numItermax=20_000
    )
    assert np.abs(P - theirs).max() < 1e-10
    assert np.allclose(P.sum(1), a, atol=1e-14)
    kept = entropic.kept_mass(C, f, g, 0.3)
    assert torch.allclose(kept, torch.exp(-g / relaxation), atol=1e-10) and abs(kept.mean() - 1) < 1e-12
    primal = (P * C.numpy()).sum() + 0.3 * (P * np.log(P / np.outer(a, b))).sum()
    primal += relaxation * (P.sum(0) * np.log(P.sum(0) / b) - P.sum(0) + b).sum()
    assert abs(primal - float(entropic.cost(C, f, g, 0.3, relaxation))) < 1e-10


def test_an_unbounded_price_is_the_balanced_plan():
    C = entropic.half_squared(cloud(8, 2, 0), cloud(8, 2, 1))
    balanced, priced = (entropic.plan(C, *entropic.potentials(C, 0.3, 500, w), 0.3) for w in (math.inf, 1e7))
    weak = entropic.plan(C, *entropic.potentials(C, 0.3, 500, 0.1), 0.3)
    assert (balanced - priced).abs().max() < 1e-7 < 1e-3 < (balanced - weak).abs().max()


@pytest.mark.filterwarnings("error")
def test_a_plan_warns_at_the_share_of_mass_in_the_wrong_place():
    """Total variation of the target's marginal, the largest of the three plans', here after two iterations: .1 % about it."""
    x, y, reg = cloud(7, 2, 20), cloud(5, 2, 21, 1.0), 0.05
    missed = []
    for a, b in ((x, y), (x, x), (y, y)):
        C = entropic.half_squared(a, b)
        marginal = entropic.plan(C, *entropic.potentials(C, reg, 2), reg).sum(0)
        missed.append(float((marginal - 1 / len(b)).abs().sum()) / 2)
    assert max(missed) > 1e-3
    entropic.divergence(x, y, reg, 2, 1.001 * max(missed))
    with pytest.warns(RuntimeWarning, match=f"{max(missed):.1%}".replace(".", r"\.")):
        entropic.divergence(x, y, reg, 2, 0.999 * max(missed))


def test_potentials_refuse_what_is_out_of_range_and_start_where_they_are_told():
    """Numbers are looked at, tensors are not; from the potential of a converged plan one iteration stays there."""
    C = entropic.half_squared(cloud(6, 2, 22), cloud(4, 2, 23))
    for reg, iterations, relaxation in ((0.0, 5, 1.0), (-1.0, 5, 1.0), (0.3, 5, 0.0), (0.3, 0, 1.0), (0.3, 1.5, 1.0)):
        with pytest.raises(UsageError, match="reg|iterations|relaxation"):
            entropic.potentials(C, reg, iterations, relaxation)
    for relaxation in (math.inf, 0.7):
        f, g = entropic.potentials(C, 0.3, 3000, relaxation)
        again = entropic.potentials(C, 0.3, 1, relaxation, g)
        assert torch.allclose(again[0], f, atol=1e-12) and torch.allclose(again[1], g, atol=1e-12)
        late = relaxation if math.isinf(relaxation) else torch.tensor(relaxation, dtype=torch.float64)
        assert torch.equal(entropic.potentials(C, torch.tensor(0.3, dtype=torch.float64), 3000, late)[1], g)
        # One more update by hand, of sums without logarithms.
        s = 1 if math.isinf(relaxation) else relaxation / (relaxation + 0.3)
        once = -s * 0.3 * (((f[:, None] - C) / 0.3).exp().mean(0)).log()
        assert torch.allclose(once, g, atol=1e-9)


def grid_plan(a, b, shift, reg):
    """Entropic plan of N(0, a) and N(shift, b) on grids, by POT; the grids and the plan."""
    x, y = np.linspace(-6, 6, 121) * math.sqrt(a), shift + np.linspace(-6, 6, 121) * math.sqrt(b)
    p, q = norm.pdf(x, 0, math.sqrt(a)), norm.pdf(y, shift, math.sqrt(b))
    p, q = p / p.sum(), q / q.sum()
    return x, y, p, q, ot.bregman.sinkhorn_log(p, q, (x[:, None] - y) ** 2 / 2, reg, stopThr=1e-13, numItermax=5000)


@pytest.mark.parametrize("a, b, reg", [(1.0, 0.3, 0.5), (0.4, 1.5, 0.2), (1.0, 1.0, 2.0)])
def test_entropic_map_and_cost_between_gaussians_on_the_line(a, b, reg):
    x, y, p, q, P = grid_plan(a, b, 0.7, reg)
    inside = np.abs(x) < 2 * math.sqrt(a)
    barycentre = (P @ y / P.sum(1))[inside]
    L = euler.entropic_map([[a]], [[b]], reg)[0, 0]
    # The trapezoidal rule on a Gaussian is exact to rounding; the fixed point stops at 1e-13 in the marginals.
    assert np.abs(barycentre - 0.7 - L * x[inside]).max() < 1e-6
    value = (P * (x[:, None] - y) ** 2 / 2).sum() + reg * (P * np.log(P / (p[:, None] * q))).sum()
    assert abs(value - euler.entropic_cost([0.0], [[a]], [0.7], [[b]], reg)) < 1e-6
    assert abs(euler.entropic_map([[a]], [[b]], 1.2 * reg)[0, 0] - L) > 1e-2


@few
@given(st.integers(1, 5), seeds)
def test_limits_of_the_entropic_map(d, seed):
    _, C_0, _, C_1 = pair(d, seed)
    assert np.allclose(euler.entropic_map(C_0, C_1, 1e-9), gaussian.monge_matrix(C_0, C_1), atol=1e-6)
    assert np.abs(euler.entropic_map(C_0, C_1, 1e6)).max() < 1e-4


@few
@given(st.integers(1, 4), seeds, st.floats(0.05, 3))
def test_sinkhorn_divergence_falls_at_the_rate_of_its_velocity(d, seed, reg):
    """dS/dt = -E |V|^2, by differences along the flow's own velocity."""
    m_0, C_0, m_1, C_1 = pair(d, seed)
    A, b = euler.sinkhorn_velocity(m_0, C_0, m_1, C_1, reg)

    def S(t):
        M = np.eye(d) + t * A
        return euler.sinkhorn_divergence(m_0 + t * (A @ m_0 + b), M @ C_0 @ M, m_1, C_1, reg)

    speed = (A @ m_0 + b) @ (A @ m_0 + b) + np.trace(A @ C_0 @ A)
    # Central differences of step 1e-4: 1e-8 times a third derivative, and rounding of 1e-12.
    assert math.isclose((S(1e-4) - S(-1e-4)) / 2e-4, -speed, rel_tol=1e-4, abs_tol=1e-7)
    assert S(0) >= -1e-12 and abs(euler.sinkhorn_divergence(m_1, C_1, m_1, C_1, reg)) < 1e-12


def test_sinkhorn_flow_between_gaussians():
    laws, reg = pair(3, 2), 0.4
    means, C = euler.sinkhorn_flow(*laws, reg, [0, 1, 60])
    assert np.allclose(means[1], laws[2] + math.exp(-1) * (laws[0] - laws[2])) and np.allclose(C[0], laws[1])
    # The slowest rate, b / sqrt(b^2 + r^2) for the least eigenvalue b of C_1, is about .5 here.
    assert np.abs(C[2] - laws[3]).max() < 1e-6
    commuting = euler.sinkhorn_flow([0, 0], np.diag([1.0, 0.2]), [0, 0], np.diag([0.3, 0.9]), reg, [0.5])[1][0]
    alone = [euler.sinkhorn_flow([0], [[a]], [0], [[b]], reg, [0.5])[1][0, 0, 0] for a, b in ((1.0, 0.3), (0.2, 0.9))]
    assert np.allclose(commuting, np.diag(alone), atol=1e-9)


def test_late_rate_of_the_sinkhorn_flow():
    b, reg = 0.5, 1.0
    (_, a, later) = euler.sinkhorn_flow([0], [[0.8]], [0], [[b]], reg, [0, 15, 16])[1].ravel()
    assert abs(math.log((a - b) / (later - b)) - b / math.hypot(b, reg / 2)) < 1e-4  # (a - b)^2 is left out


def test_degenerate_target_has_the_tail_of_one_over_t():
    """Only the axis without variance in the data is slow; its variance times t tends to reg / 2."""
    reg, times = 0.5, [1.0, 10.0, 100.0]
    C = euler.sinkhorn_flow([0, 0], np.eye(2), [0, 0], np.diag([1.0, 0.0]), reg, times)[1]
    exact = [euler.degenerate_variance(1.0, reg, t) for t in times]
    assert np.allclose(C[:, 1, 1], exact, rtol=1e-7) and np.allclose(C[:, 0, 0], 1)
    assert abs(exact[-1] * 100 / (reg / 2) - 1) < 0.02
    w2 = [gaussian.w2_cov(*euler.w2_flow([0], [[1.0]], [0], [[0.0]], t), [0], [[0.0]]) for t in (1.0, 10.0)]
    assert abs(w2[1] / w2[0] - math.exp(-9)) < 1e-9  # W2's own flow is exponential here too


@pytest.mark.parametrize("a_0", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("reg", [1e-6, 0.3, 1e6])
@pytest.mark.parametrize("t", [1e-9, 1.0, 1e3, 1e12])
def test_degenerate_variance_over_its_whole_range(a_0, reg, t):
    """Bounds of a' = 2 r - 2 sqrt(a^2 + r^2): it is between -2 a and -a^2 / r, so a is between two closed forms."""
    a, r = euler.degenerate_variance(a_0, reg, t), reg / 2
    assert a_0 * math.exp(-2 * t) * (1 - 1e-9) <= a <= a_0 * (1 + 1e-12)
    assert 1 / a <= (1 / a_0 + t / r) * (1 + 1e-9)
    if a < 1e-3 * r and (a_0 < 1e-3 * r or t > 1e9):
        # Where a is far below r, a' = -a^2 / r to order (a / r)^2; from above, the rest of the way is no time.
        assert 1 / a == pytest.approx((1 / a_0 if a_0 < 1e-3 * r else 0) + t / r, rel=1e-5)


def test_the_edges_of_the_sinkhorn_flow():
    laws = [0.0], [[2.0]], [1.0], [[0.5]]
    means, C = euler.sinkhorn_flow(*laws, 0.3, [0.0])
    assert means == pytest.approx(np.zeros((1, 1))) and C == pytest.approx(np.full((1, 1, 1), 2.0))
    for wrong in (lambda: euler.sinkhorn_flow(*laws, 0.3, []), lambda: euler.degenerate_variance(1.0, 0.0, 1.0)):
        with pytest.raises(UsageError, match="times|reg"):
            wrong()


# Velocities on samples.


def test_sinkhorn_velocity_is_the_gradient_of_the_divergence():
    """With x as its own second batch V = -n dS/dx_i, by the envelope theorem; autograd through converged iterations."""
    x, y = cloud(10, 2, 0).requires_grad_(True), cloud(8, 2, 1, 1.0)
    (slope,) = torch.autograd.grad(entropic.divergence(x, y, 0.5, 500), x)
    V = Sinkhorn(0.5, 500, relative=False).velocity(x.detach(), y, x.detach())
    assert torch.allclose(V, -10 * slope, atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_a_divergence_that_has_not_converged_says_so():
    """x and x + 1, fifty points: exactly 1/2 |1|^2. One iteration gives .35 of it, and said nothing."""
    x = cloud(50, 2, 0)
    for iterations in (1, 10):
        with pytest.warns(RuntimeWarning, match="of the mass in the wrong place"):
            entropic.divergence(x, x + torch.tensor([1.0, 0.0]), 0.01, iterations)
    far = entropic.divergence(x, x + torch.tensor([1.0, 0.0]), 0.01, 4000)
    assert float(far) == pytest.approx(0.5, abs=0.02)
    assert float(entropic.divergence(x, x, 1.0, 200)) == pytest.approx(0, abs=1e-12)


def test_the_size_of_the_points_does_not_matter_to_a_divergence():
    """S(c x, c y) at c^2 reg is c^2 S(x, y), in float32 too; other temperatures are refused."""
    x, y = cloud(20, 2, 0).float(), cloud(15, 2, 1, 1.0).float()
    one = entropic.divergence(x, y, 0.5, 300)
    for c in (1e-12, 1e18):
        assert float(entropic.divergence(c * x, c * y, 0.5 * c**2, 300)) == pytest.approx(c**2 * float(one), rel=1e-5)
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="reg"):
            entropic.divergence(x, y, wrong, 10)
    with pytest.raises(UsageError, match="finite"):
        entropic.divergence(x * math.nan, y, 0.5, 10)


@pytest.mark.parametrize("kernel", ["energy", "gaussian", "multiquadric"])
def test_an_mmd_velocity_does_not_know_where_the_origin_is(kernel):
    """Float32 at offset 100 (imputation's error was 121 for .9): V as at 0, to the rounding of the points, 1e-5 of each."""
    x, y, other = (cloud(60, 3, seed) for seed in (0, 1, 2))
    field = MMD(kernel)
    here = field.velocity(x, y, other)
    there = field.velocity(*((t + 100).float() for t in (x, y, other))).double()
    assert torch.allclose(here, there, atol=2e-3) and here.abs().max() > 0.05


def test_identities_of_velocities():
    x, y, other = cloud(10, 2, 0), cloud(10, 2, 1, 1.0), cloud(10, 2, 2)
    assert Sinkhorn().velocity(x, y, y).abs().max() == 0 and MMD().velocity(x, y, y).abs().max() == 0
    assert Sinkhorn().velocity(x, y, other).abs().max() > 0.1
    line, data = cloud(20, 1, 0), cloud(20, 1, 1)
    assert torch.allclose(Sliced(5).velocity(line, data), MinibatchOT().velocity(line, data), atol=1e-12)
    shift = torch.tensor([0.3, -0.7], dtype=torch.float64)
    assert torch.allclose(MinibatchOT().velocity(x, x + shift), shift.expand(10, 2), atol=1e-12)
    sliced = Sliced(20_000).velocity(x, x + shift, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(sliced, shift.expand(10, 2), atol=0.02)  # E w w^T = I / d over 20,000 lines: errors of .005
    spread = 2 * x + 0.1 * y  # far apart, so that a small reg decides
    small = Sinkhorn(2e-3, 500, relative=False).velocity(x, spread, x)
    assert torch.allclose(small, MinibatchOT().velocity(x, spread), atol=0.01)  # reg -> 0, same batch: exact transport


@pytest.mark.parametrize("kernel", ["energy", "gaussian", "multiquadric"])
def test_mmd_velocity_is_a_gradient(kernel):
    k = {
        "energy": lambda r2: -(r2.sqrt()),
        "gaussian": lambda r2: torch.exp(-r2 / 2),
        "multiquadric": lambda r2: (1 + r2).rsqrt(),
    }[kernel]
    x, y, other = cloud(6, 2, 0).requires_grad_(True), cloud(5, 2, 1), cloud(7, 2, 2)

    def mean_kernel(z):
        return k((x[:, None] - z).square().sum(2)).mean(1).sum()

    (slope,) = torch.autograd.grad(mean_kernel(other) - mean_kernel(y), x)
    assert torch.allclose(MMD(kernel).velocity(x.detach(), y, other), -slope, atol=1e-9)


@pytest.mark.parametrize(
    "kernel, bandwidth", [("gaussian", 0.6), ("gaussian", 2.5), ("multiquadric", 0.4), ("multiquadric", 3.0)]
)
def test_the_bandwidth_of_an_mmd_is_a_unit_of_length(kernel, bandwidth):
    """k is a function of the points over s: V at (x, s) is V at (x / s, 1) over s, a gradient; rounding alone."""
    x, y, other = cloud(6, 3, 5), cloud(5, 3, 6, 0.4), cloud(7, 3, 7)
    V, unit = (
        MMD(kernel, bandwidth).velocity(x, y, other),
        MMD(kernel).velocity(*(t / bandwidth for t in (x, y, other))),
    )
    assert torch.allclose(V, unit / bandwidth, rtol=1e-12, atol=0)


CLOSED = {
    "sinkhorn": dict(reg=0.1, iterations=20, relaxation=0.5),
    "sinkhorn_single": dict(reg=0.1, iterations=20),
    "drifting": dict(reg=0.1),
    "drifting_released": {},
    "mmd": {},
    "sliced": dict(directions=16),
    "minibatch_ot": {},
}


@pytest.mark.parametrize("name", CLOSED)
def test_velocities_of_images_are_those_of_their_pixels_and_have_the_unit_of_x(name):
    """Images (n, 1, 2, 2) against rows of 4, and c times everything against c times V (but for unit forces); 5 to 7 points."""
    x, y, other = cloud(5, 4, 0), cloud(7, 4, 1, 1.0), cloud(6, 4, 2)
    V = lambda *t: fields.get(name, **CLOSED[name])(*t, generator(0, "lines"))
    rows, images = V(x, y, other), V(*(t.reshape(-1, 1, 2, 2) for t in (x, y, other)))
    assert images.shape == (5, 1, 2, 2) and torch.allclose(images.flatten(1), rows, atol=1e-12)
    assert torch.allclose(
        V(3 * x, 3 * y, 3 * other), rows * (1 if name in ("drifting_released", "mmd") else 3), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["sinkhorn", "drifting"])
def test_relative_temperatures_are_multiples_of_the_mean_cost(name):
    x, y, other = cloud(6, 3, 3), cloud(4, 3, 4, 2.0), cloud(5, 3, 5)
    unit = float((x[:, None] - y).square().sum(2).mean() / 2)
    absolute = {key: value * (unit if key != "iterations" else 1) for key, value in CLOSED[name].items()}
    one, two = fields.get(name, **CLOSED[name]), fields.get(name, **absolute, relative=False)
    assert torch.allclose(one(x, y, other), two(x, y, other), atol=1e-12)
    assert not torch.allclose(
        one(x, y, other), fields.get(name, **CLOSED[name], relative=False)(x, y, other), atol=1e-3
    )


def test_drifting_as_released_entry_by_entry():
    """Softmax by softmax over the joint table, in three dimensions, 4 points against 6 data, without array tricks."""
    x, y = cloud(4, 3, 6), cloud(6, 3, 7, 0.5)
    table = torch.cat([x, y])
    D = [[float((a - b).norm()) for b in table] for a in x]
    unit = sum(D[i][j] for i in range(4) for j in range(10) if i != j) / 36
    V = torch.zeros_like(x)
    for t in (0.02, 0.05, 0.2):
        k = [[0.0 if i == j else math.exp(-D[i][j] / (t * unit)) for j in range(10)] for i in range(4)]
        columns = [sum(row[j] for row in k) for j in range(10)]
        A = [[e / math.sqrt(sum(row) * columns[j]) for j, e in enumerate(row)] for row in k]
        force = torch.zeros_like(x)
        for i in range(4):
            p, q = sum(A[i][4:]), sum(A[i][:4])
            force[i] = q * sum(A[i][4 + j] * y[j] for j in range(6)) - p * sum(A[i][j] * x[j] for j in range(4))
        V += force / force.square().mean().sqrt()
    assert torch.allclose(fields.get("drifting_released")(x, y), V, rtol=1e-9)


def test_batches_of_two_sizes_have_the_barycentric_map_of_the_optimal_plan():
    """Against linear programming, 4 points and 6 data; sliced transport on the line against the quantiles of the hazen rule."""
    x, y = cloud(4, 2, 8), cloud(6, 2, 9, 1.0)
    C = (x[:, None] - y).square().sum(2).numpy()
    marginals = np.vstack([np.kron(np.eye(4), np.ones(6)), np.kron(np.ones(4), np.eye(6))])
    plan = linprog(C.ravel(), A_eq=marginals, b_eq=np.repeat([1 / 4, 1 / 6], [4, 6])).x.reshape(4, 6)
    assert torch.allclose(MinibatchOT()(x, y), torch.as_tensor(4 * plan @ y.numpy()) - x, atol=1e-9)
    for n, m in ((4, 7), (9, 3), (5, 5)):
        x, y = cloud(n, 1, 10), cloud(m, 1, 11, 1.0)
        target = np.quantile(y.numpy().ravel(), (np.arange(n) + 0.5) / n, method="hazen")
        moved = (x + Sliced(3)(x, y, generator=generator(0, "lines"))).ravel()
        # The levels are float32 numbers.
        assert moved[x.ravel().argsort()].numpy() == pytest.approx(target, abs=1e-6)


def test_sinkhorn_particles_follow_the_gaussian_flow():
    """Stratified normal points on the line, small Euler steps, against the differential equation of the variance."""
    n, reg = 120, 0.5
    q = torch.as_tensor(norm.ppf((np.arange(n) + 0.5) / n))[:, None]
    y = 1.0 + 0.5 * q
    x = particle_flow(Sinkhorn(reg, 30, relative=False), 1.5 * q, y, 0.05, 20, other="same")
    means, C = euler.sinkhorn_flow([0.0], [[2.25]], [1.0], [[0.25]], reg, [1.0])
    # Euler's error at eps .05 is about eps t / 2 = 2.5 % of the way; quantiles cut the tails by half a per cent.
    assert abs(float(x.mean()) - means[0, 0]) < 0.02 and abs(float(x.std()) / math.sqrt(C[0, 0, 0]) - 1) < 0.03


# Particles.


def ring_clouds(n, seed):
    stream = generator(seed, "test_explicit")
    return toys.normal(n, stream).double(), toys.ring(n, stream).double()


def w2(x, y):
    """W2 of two clouds of one size, by exact assignment."""
    return float(MinibatchOT().velocity(x, y).square().sum(1).mean().sqrt())


def test_particles_on_the_geodesic_at_the_published_size():
    """n = 512, eps .1: W2(k) = .9^k W2(0); the published draw starts at .950, another one within .01."""
    x, y = ring_clouds(512, 0)
    found = [w2(x, y)]
    particle_flow(
        MinibatchOT(), x, y, 0.1, 20, after=lambda k, now: found.append(w2(now, y)) if k in (1, 5, 10, 20) else None
    )
    assert abs(found[0] - 0.95) < 0.01
    assert np.allclose(np.array(found[1:]) / found[0], [0.9**k for k in (1, 5, 10, 20)], rtol=1e-10)


@few
@given(seeds, st.floats(0.02, 0.9), st.integers(1, 4), st.sampled_from([10, 33]))
def test_any_clouds_any_step_any_dimension(seed, eps, d, n):
    x, y = cloud(n, d, seed), 2 * cloud(n, d, seed + 1, 0.5)
    moved = particle_flow(MinibatchOT(), x, y, eps, 4)
    assert math.isclose(w2(moved, y), (1 - eps) ** 4 * w2(x, y), rel_tol=1e-9)


class Mean:
    """A field that pulls by the mean of its second batch and of the data; it keeps what it has seen."""

    def __init__(self, needs_other, critic_steps=0):
        self.needs_other, self.critic_steps, self.seen, self.improved = needs_other, critic_steps, [], []

    def improve(self, x, y, generator=None):
        self.improved.append((x.clone(), y))

    def __call__(self, x, y, other=None, generator=None):
        self.seen.append((x.clone(), y, other))
        return (y.mean(0) + (other.mean(0) if self.needs_other else 0)).expand_as(x)


@pytest.mark.parametrize("n", [8, 9])
def test_either_half_of_the_cloud_is_the_others_second_batch(n):
    """Points moved by m are one half, m the mean of the other: for an even and an odd number of them."""
    x, y = cloud(n, 2, 0), torch.zeros(3, 2, dtype=torch.float64)
    start = x.clone()
    moved = particle_flow(Mean(True), x, y, lambda step: 0.5 / (step + 1), 1, generator(0, "halves"))
    assert torch.equal(x, start)
    moves = (moved - x) / 0.5
    first = (moves - moves[0]).abs().sum(1) < 1e-12
    assert int(first.sum()) in (n // 2, n - n // 2) and n // 2 > 1
    assert torch.allclose(moves[first], x[~first].mean(0)) and torch.allclose(moves[~first], x[first].mean(0))
    same = particle_flow(Mean(True), x, y, 0.5, 1, other="same")
    assert torch.allclose(same, x + 0.5 * x.mean(0))
    with pytest.raises(UsageError, match="other"):
        particle_flow(Mean(True), x, y, 0.5, 1, other="half")


def test_parts_of_a_cloud_move_one_after_the_other_against_as_many_data():
    """10 particles in parts of 4: each moves once a step, by the rate of the step, after three updates of the critic."""
    x, sizes, now = cloud(10, 2, 1), [], []
    field = Mean(False, critic_steps=3)

    def data(n, stream):
        sizes.append(n)
        return torch.ones(n, 2, dtype=torch.float64)

    eps = lambda step: 0.1 * (step + 1)
    after = lambda k, x: now.append((k, x.clone()))
    end = particle_flow(field, x, data, eps, 2, generator(0, "parts"), batch=4, after=after)
    assert sizes == [4, 4, 2, 4, 4, 2] and [k for k, _ in now] == [1, 2]
    assert torch.allclose(now[0][1], x + 0.1) and torch.allclose(end, x + 0.3) and torch.equal(end, now[1][1])
    assert len(field.improved) == 18 and all(len(a) == len(b) for a, b in field.improved)
    order = torch.cat([part for part, _, _ in field.seen[:3]])
    assert not torch.equal(order, x) and torch.equal(order.sort(0).values, x.sort(0).values)


def test_an_iteration_improves_the_field_and_then_moves_the_map():
    """Two updates of the critic on fresh batches; the second generated batch is drawn where the field looks at one."""
    for needs_other in (False, True):
        T = torch.nn.Linear(2, 2).double()
        field = Mean(needs_other, critic_steps=2)
        step = Euler(T, field, torch.optim.SGD(T.parameters(), lr=0.1), 0.7, 2)
        drawn = {"latent": [], "data": []}

        def draw(name, n, stream, drawn=drawn):
            drawn[name].append(torch.randn(n, 2, generator=stream, dtype=torch.float64))
            return drawn[name][-1]

        A, b = T.weight.detach().clone(), T.bias.detach().clone()
        loss = iterate(step, *(partial(draw, name) for name in ("data", "latent")), 5, generator(0, "draws"))
        assert len(drawn["data"]) == 3 and len(drawn["latent"]) == 3 + needs_other
        for (x, y), z, data in zip(field.improved, drawn["latent"], drawn["data"], strict=False):
            assert torch.allclose(x, z @ A.T + b) and y is data
        ((x, y, other),) = field.seen
        assert torch.allclose(x, drawn["latent"][-1] @ A.T + b) and y is drawn["data"][-1]
        pull = y.mean(0)
        if needs_other:
            assert torch.allclose(other, drawn["latent"][-2] @ A.T + b)
            pull = pull + other.mean(0)
        # |T(z) - zeta|^2 = eps^2 |V|^2 before the first of the two regression steps.
        assert float(loss) == pytest.approx(0.49 * float(pull.square().sum()), rel=1e-12)


def test_fresh_minibatches_widen_the_modes():
    """Batches of 128 from 512 particles, 60 steps: within-mode std far above the data's .1, which a fixed cloud keeps."""
    centres = toys.get("ring").centres.double()

    def within(x):
        nearest = torch.cdist(x, centres).argmin(1)
        return float((x - centres[nearest]).square().mean().sqrt())

    x, y = ring_clouds(512, 1)
    full = particle_flow(MinibatchOT(), x, y, 0.3, 20)
    fresh = particle_flow(
        MinibatchOT(), x, lambda n, stream: toys.ring(n, stream).double(), 0.1, 60, generator(1, "fresh"), batch=128
    )
    assert abs(within(full) - 0.1) < 0.01 and 0.115 < within(fresh) < 0.16


def test_two_sample_floor_of_the_ring():
    """W1 .047 and W2 .057, each +- .002, for n = 512: means of four pairs, so a spread of .001."""
    found = []
    for seed in range(4):
        stream = generator(seed, "floor")
        x, y = (toys.ring(512, stream).numpy().astype(float) for _ in range(2))
        a = np.full(512, 1 / 512)
        found.append((ot.emd2(a, a, ot.dist(x, y, "euclidean")), math.sqrt(ot.emd2(a, a, ot.dist(x, y)))))
    assert np.allclose(np.mean(found, 0), [0.047, 0.057], atol=0.003)


# The Jensen-Shannon flow.


def test_jensen_shannon_flow_conserves_mass_and_falls():
    flow = JensenShannonFlow(((-1.0, 0.0), np.diag([0.4, 0.4])), ((0.5, 0.0), np.eye(2)), size=32)
    start = gaussian.js([-1.0, 0.0], np.sqrt([0.4, 0.4]), [0.5, 0.0], [1.0, 1.0])
    _, values, moved = flow.run(2.0, flow.h**2 / 4.5, np.array([[-1.0, 0.0]]))
    assert abs(values[0] - start) < 1e-3  # the grid's JS of the two laws against Gauss-Hermite
    assert abs(flow.rho.sum() - 1) < 1e-12 and flow.rho.min() > 0 and (np.diff(values) < 0).all()
    assert moved[0, 0] > -0.9 and abs(moved[0, 1]) < 1e-9
    with pytest.raises(UsageError, match="dt"):
        flow.advance(1.0)


def test_jensen_shannon_falls_at_the_rate_of_its_velocity():
    """dJS/dt = -E_mu |V|^2 and d E_mu x / dt = E_mu V, V at the cells' centres: differences of second order in h, 1 %."""
    flow = JensenShannonFlow(((-0.8, 0.3), np.diag([0.5, 0.8])), ((0.4, 0.0), np.diag([1.0, 0.6])), size=64)
    points = np.stack(np.meshgrid(flow.axis, flow.axis, indexing="ij"), -1).reshape(-1, 2)
    V, rho, dt = flow.velocity(points), flow.rho.ravel(), 1e-4
    before, mean = flow.divergence(), rho @ points
    flow.advance(dt)
    assert (flow.divergence() - before) / dt == pytest.approx(-rho @ (V**2).sum(1), rel=0.01)
    assert (flow.rho.ravel() @ points - mean) / dt == pytest.approx(rho @ V, rel=0.01)


def test_the_data_is_a_fixed_point_of_the_jensen_shannon_flow():
    law = ((0.5, 0.0), np.eye(2))
    flow = JensenShannonFlow(law, law, size=16)
    assert flow.divergence() < 1e-15 and np.abs(flow.velocity(np.zeros((1, 2)))).max() < 1e-12
