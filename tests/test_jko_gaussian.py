"""Small networks trained by the JKO step on Gaussians follow the exact JKO sequence.

The law of a learned map is measured by quadrature, so what is left of an error is training noise:
mini-batches of 512, a critic that is not quite optimal. Over nine seeds and more at each of tau = .1, .5, 2
the errors of m_k and s_k have standard deviations up to 0.012 and a largest value of 0.021. The tolerance is
four of these standard deviations. The closed form says what it must separate: with the proximal weight
doubled, the sequence is off by 0.22 and more.
"""

import copy
import math

import numpy as np
import pytest
import torch

from gwf import functionals
from gwf.errors import UsageError
from gwf.exact import gaussian
from gwf.nets.mlp import ResidualMLP
from gwf.seeding import generator
from gwf.steps.gaussian_study import Gaussian, QuadraticCritic, affine_map, kl_of_map, learn
from gwf.steps.jko import JKO, JKOStep

TOLERANCE = 0.05
TAUS = (0.1, 0.5, 2.0)
STEPS = 3
MU_0, NU = Gaussian.product(2.0, 0.5), Gaussian.product(0.0, 1.0)


def residual_run(tau, steps=STEPS, seed=0):
    """A learned sequence with a residual MLP from mu_0."""
    torch.manual_seed(seed)
    return learn(ResidualMLP(1, width=16, depth=2), QuadraticCritic(1), MU_0, NU, tau, steps, seed=seed)


@pytest.fixture(scope="module")
def runs():
    """One learned sequence for every tau."""
    return {tau: residual_run(tau) for tau in TAUS}


def error(learned, tau):
    """Largest |m_k - exact| and |s_k - exact| along `learned`, for the exact sequence of step tau."""
    m, s = gaussian.jko_sequence(2.0, 0.5, 0.0, 1.0, tau, len(learned.m) - 1)
    return max(np.abs(learned.m - m).max(), np.abs(learned.s - s).max())


@pytest.mark.parametrize("tau", TAUS)
def test_learned_sequence_follows_the_exact_one(runs, tau):
    assert error(runs[tau], tau) < TOLERANCE


@pytest.mark.parametrize("tau", TAUS)
def test_learned_sequence_satisfies_the_energy_inequality(runs, tau):
    """F(mu_{k+1}) + E|T_{k+1} - T_k|^2/(2 tau) <= F(mu_k), with the latent cost, at least W_2^2.

    No slack is needed: the least margin of the exact sequences, 0.0168 at the last step of tau = 2,
    is six times the error of the learned energies there.
    """
    learned = runs[tau]
    assert (learned.margins(tau) > 0).all()
    m, s = gaussian.jko_sequence(2.0, 0.5, 0.0, 1.0, tau, STEPS)
    assert learned.F == pytest.approx(gaussian.kl(m, s, 0.0, 1.0), abs=TOLERANCE)


def test_doubled_proximal_weight_is_caught(runs):
    """Negative control: weight 1/tau, which is tau/2, breaks the very check that the right weight passes."""
    broken = residual_run(0.5 / 2, steps=1)
    assert error(broken, 0.5) > 4 * TOLERANCE
    assert error(broken, 0.25) < TOLERANCE, "it is the exact sequence of another tau, not a failure to train"
    for tau in TAUS:
        m, s = gaussian.jko_sequence(2.0, 0.5, 0.0, 1.0, tau / 2, STEPS)
        assert error(runs[tau], tau) < TOLERANCE < 4 * TOLERANCE < np.abs(runs[tau].m - m).max()


def test_affine_map_from_a_rotation_takes_the_exact_step():
    """T_0 is a rotation by 90 degrees, no Monge map; T_1 = D R + b with D, b of the exact step from N(0, I).

    Two dimensions and anisotropic target: the errors' spread over seeds is 0.012, the tolerance again 0.05.
    """
    torch.manual_seed(0)
    mu_0, nu, tau = Gaussian(np.zeros(2), np.eye(2)), Gaussian.product((1.0, 0.5), (0.6, 1.5)), 0.3
    rotation = np.array([[0.0, -1.0], [1.0, 0.0]])
    T = affine_map(rotation, np.zeros(2))
    learned = learn(T, QuadraticCritic(2), mu_0, nu, tau, steps=1, lr_map=2e-2)
    m, C = gaussian.jko_step_cov(np.zeros(2), np.eye(2), nu.m, nu.C, tau)
    assert learned.m[1] == pytest.approx(m, abs=TOLERANCE)
    assert T.weight.detach().numpy() == pytest.approx(np.sqrt(C) @ rotation, abs=TOLERANCE)
    assert learned.F[1] == pytest.approx(gaussian.kl_cov(m, C, nu.m, nu.C), abs=TOLERANCE)


def test_residual_map_in_the_plane_with_covariances_that_do_not_commute():
    torch.manual_seed(0)
    mu_0 = Gaussian((-0.5, 1.0), [[0.4, 0.2], [0.2, 0.5]])
    nu = Gaussian((0.5, 0.0), [[0.5, -0.2], [-0.2, 1.0]])
    assert np.abs(mu_0.C @ nu.C - nu.C @ mu_0.C).max() > 0.05
    learned = learn(ResidualMLP(2, width=32, depth=2), QuadraticCritic(2), mu_0, nu, tau=0.4, steps=1)
    m, C = gaussian.jko_step_cov(mu_0.m, mu_0.C, nu.m, nu.C, 0.4)
    assert learned.m[1] == pytest.approx(m, abs=TOLERANCE)
    assert np.abs(learned.C[1] - C).max() < 2 * TOLERANCE, "an error e of a standard deviation is 2 s e in C"


def plain_gan(T, h, updates, batch, lr_T, lr_h, seed):
    """The generative adversarial network of the functional, written without any part of `gwf.steps.jko`."""
    F = functionals.get("kl_dv")
    adam_T = torch.optim.Adam(T.parameters(), lr_T, betas=(0.5, 0.9), fused=True)
    adam_h = torch.optim.Adam(h.parameters(), lr_h, betas=(0.5, 0.9), fused=True)
    latent, data = generator(seed, "latent"), generator(seed, "data")
    for i in range(updates):
        fall = (1 + math.cos(math.pi * i / updates)) / 2
        adam_T.param_groups[0]["lr"], adam_h.param_groups[0]["lr"] = fall * lr_T, fall * lr_h
        x = T(MU_0.sample(batch, latent)).detach()
        adam_h.zero_grad()
        # One pass for both batches, as there: two would differ in rounding.
        F.critic_loss(*h(torch.cat([x, NU.sample(batch, data)])).split(batch)).backward()
        adam_h.step()
        adam_T.zero_grad()
        F.map_loss(h(T(MU_0.sample(batch, latent)))).backward()
        adam_T.step()


def trained_pair(tau):
    """Parameters of map and critic after 100 updates of the JKO loop from a fixed start."""
    torch.manual_seed(0)
    T, h = ResidualMLP(1, width=16, depth=2), QuadraticCritic(1)
    start = copy.deepcopy((T, h))
    learn(T, h, MU_0, NU, tau, steps=1, iterations=100, critic_updates=1, batch=64, seed=3)
    return start, [p for net in (T, h) for p in net.parameters()]


def test_infinite_tau_is_the_plain_gan_bit_for_bit():
    (T, h), parameters = trained_pair(math.inf)
    plain_gan(T, h, 100, 64, 5e-3, 2e-2, seed=3)
    for ours, plain in zip(parameters, [p for net in (T, h) for p in net.parameters()], strict=True):
        assert torch.equal(ours, plain)
    _, finite = trained_pair(10.0)
    same = [torch.equal(a, b) for a, b in zip(finite, parameters, strict=True)]
    assert not all(same), "a finite tau must differ"


def test_infinite_tau_never_makes_an_anchor():
    prox = JKO(ResidualMLP(1), math.inf)
    prox.advance()
    assert prox.T_k is None and prox.proximal(torch.ones(4, 1), torch.zeros(4, 1)) == 0


def test_proximal_term_has_the_weight_of_the_definition():
    """T = id against T_k = 0 on N(0, I_d): E|T - T_k|^2/(2 tau) = d/(2 tau), or 1/(2 tau) per dimension."""
    d, tau = 3, 0.4
    T = affine_map(np.zeros((d, d)), np.zeros(d))
    z = Gaussian(np.zeros(d), np.eye(d)).sample(20_000, generator(0, "latent"))
    euclidean = JKO(T, tau)
    assert float(euclidean.proximal(z, z)) == pytest.approx(d / (2 * tau), rel=0.02), "sd of the mean: 0.6 %"
    per_dimension = JKO(T, tau, per_dimension=True)
    assert float(per_dimension.proximal(z, z)) == pytest.approx(1 / (2 * tau), rel=0.02)
    assert per_dimension.euclidean_tau(d) == pytest.approx(d * tau)
    step = JKOStep(functionals.get("kl_dv"), QuadraticCritic(d), euclidean)
    assert float(step.map_loss(z, z, None)[1]) == pytest.approx(d / (2 * tau), rel=0.02)


def test_energy_of_a_map_agrees_with_the_closed_form_and_notices_a_fold():
    T = affine_map([[1.4]], [0.3])
    expected = gaussian.kl(2 * 1.4 + 0.3, 0.5 * 1.4, 0, 1)
    assert kl_of_map(T, MU_0, NU) == pytest.approx(expected, abs=1e-3), "mass left out beyond 4.5 sd"
    assert math.isnan(kl_of_map(lambda z: (z - 2) ** 2, MU_0, NU))


def test_laws_that_do_not_fit_are_refused():
    with pytest.raises(UsageError, match="share d"):
        learn(ResidualMLP(1), QuadraticCritic(1), MU_0, Gaussian(np.zeros(2), np.eye(2)), 1.0, 1)
