"""Variational steps: the Gaussian reference, compositions, the trained flow on Gaussians."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from gwf import divergences
from gwf.errors import UsageError
from gwf.exact import gaussian
from gwf.nets.residual import AffineResidualMLP, QuadraticMLP
from gwf.seeding import generator
from gwf.steps import references as ref
from gwf.steps.increments import (
    Composition,
    ParticleCache,
    VariationalStep,
    compositions,
    jacobian,
    passes,
    standardised,
)
from gwf.steps.jko import Players, quench
from tests.notebook_code import load_notebook

X = torch.linspace(-8, 8, 20001, dtype=torch.float64)
WEIGHTS = torch.full_like(X, float(X[1] - X[0]))


@pytest.mark.parametrize("ratio", sorted(ref.LOG_RATIO))
def test_kl_through_any_reference_is_the_same_kl(ratio):
    """Exact log r inserted: mean over grid points weighted by mu and R gives KL(mu | nu) for every R (1e-5: float32)."""
    nu, mu = ref.GaussianReference([0.5], [[2.0]]), ref.GaussianReference([0.2], [[0.6]])
    R = ref.GaussianReference([0.0], [[0.9]])
    x = X[:, None].float()
    log_r = mu.log_density(x) - R.log_density(x)
    invert = {
        "log": lambda l: l,
        "squared": lambda l: (l / 2).exp(),
        "capped": lambda l: 20 / 3 * torch.logit(torch.log1p(l.exp()) / 20),
    }[ratio]
    found = ref.log_ratio(ratio)(invert(log_r))
    one = ref.log_ratio(ratio)(torch.tensor(ref.OUTPUT_OF_ONE[ratio], dtype=torch.float64))
    assert abs(float(one)) < 1e-9, "the output a network starts from is that of r = 1"
    centre = (X.abs() < 3).numpy()
    assert np.allclose(found[centre], log_r[centre], atol=1e-4)
    w_mu, w_R = WEIGHTS * mu.log_density(x).exp(), WEIGHTS * R.log_density(x).exp()
    value = 1 + (w_mu * (log_r + R.log_density(x) - nu.log_density(x))).sum() - (w_R * log_r.exp()).sum()
    assert float(value) == pytest.approx(float(gaussian.kl(0.2, math.sqrt(0.6), 0.5, math.sqrt(2))), abs=1e-4)


def normal_points(m, s, n=4001):
    """n points of equal weight of N(m, s^2), (n, 1); their missing tails cost 1e-3 of a second moment."""
    return torch.tensor(m + s * norm.ppf((np.arange(n) + 0.5) / n), dtype=torch.float32)[:, None]


@pytest.mark.parametrize("ratio", sorted(ref.LOG_RATIO))
def test_value_of_the_reference_is_the_divergence_at_the_true_ratio_and_below_elsewhere(ratio):
    """KL(N(.3, .8^2) | N(1, 1.5^2)) with R = N(0, 1.1^2), by equal-weight points; r scaled by c loses c - 1 - log c."""
    (m, s), (M, S), (m_R, s_R) = (0.3, 0.8), (1.0, 1.5), (0.0, 1.1)
    nu, mu, R = (ref.GaussianReference([a], [[b**2]]) for a, b in ((M, S), (m, s), (m_R, s_R)))
    step = ref.KLThroughReference(nu.log_density, ref.always(R), ratio)
    step.begin(5, None)
    x, y = normal_points(m, s), normal_points(m_R, s_R)
    invert = {
        "log": lambda l: l,
        "squared": lambda l: (l / 2).exp(),
        "capped": lambda l: 20 / 3 * torch.logit(torch.log1p(l.exp()) / 20),
    }[ratio]
    for c in (1.0, 1.7):
        u_mu, u_R = (invert(mu.log_density(t) - R.log_density(t) + math.log(c))[:, None] for t in (x, y))
        lost = c - 1 - math.log(c)
        kl = float(gaussian.kl(m, s, M, S)) - lost
        assert float(step.value(u_mu, u_R, x)) == pytest.approx(kl, abs=2e-3)
        assert float(step.bound(u_mu, u_R)) == pytest.approx(float(gaussian.kl(m, s, m_R, s_R)) - lost, abs=2e-3)


def test_references_of_a_step():
    x = torch.randn(500, 2, generator=generator(0, "x")) * 2 + 1
    matched = ref.moment_matched(0, x)
    assert matched.m == pytest.approx(x.double().mean(0).numpy(), abs=1e-12)
    released = ref.first_then_matched(ref.GaussianReference.isotropic(2, 1.5))
    assert released(0, x).C == pytest.approx(1.5 * np.eye(2)) and released(1, x).C == pytest.approx(matched.C)
    draws = matched.sample(200_000, generator(0, "z"))
    assert draws.mean(0).numpy() == pytest.approx(matched.m, abs=0.03), "5 standard errors of .0045"


def test_gaussian_references_are_scipys_normal_laws():
    """Full covariances in three dimensions: both classes' log-densities (float32: 1e-5 relative) and draws (5 standard errors)."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3, 3))
    C, m = A @ A.T + 0.3 * np.eye(3), np.array([1.0, -2.0, 0.5])
    x = torch.tensor(m + rng.standard_normal((300, 3)) @ np.linalg.cholesky(C).T, dtype=torch.float32)
    fitted = ref.MomentGaussian().fit(x)
    own = np.cov(x.double().T.numpy())
    for law, mean, cov in ((ref.GaussianReference(m, C), m, C), (fitted, x.double().mean(0).numpy(), own)):
        exact = multivariate_normal(mean, cov).logpdf(x.numpy())
        assert law.log_density(x).flatten().numpy() == pytest.approx(exact, rel=1e-4, abs=1e-4)
        z = law.sample(40_000, generator(1, "z")).double().numpy()
        assert z.mean(0) == pytest.approx(mean, abs=5 * math.sqrt(np.trace(cov) / 40_000))
        assert np.cov(z.T) == pytest.approx(cov, abs=5 * 1.5 * np.trace(cov) / math.sqrt(40_000))
    assert np.cov(fitted.coordinates(x).double().T.numpy()) == pytest.approx(np.eye(3), abs=1e-4)
    moments = ref.GaussianReference.fitted(x)
    assert moments.C == pytest.approx(own * 299 / 300, rel=1e-12) and moments.m == pytest.approx(
        x.double().mean(0).numpy()
    )
    with pytest.raises(UsageError, match="3, 3"):
        ref.GaussianReference(m, C[:2])


@pytest.mark.parametrize("name", ["kl", "js", "chi2", "hellinger"])
def test_against_samples_the_value_is_the_divergence(name):
    """N(.4, .9^2) against N(0, 1) at the true ratio, equal-weight points: 2e-3 for their tails."""
    D = divergences.get(name)
    mu, nu = ref.GaussianReference([0.4], [[0.81]]), ref.GaussianReference.isotropic(1, 1.0)
    step = ref.AgainstSamples(D, nu.sample)
    x, y = normal_points(0.4, 0.9), normal_points(0.0, 1.0)
    log_r = lambda t: (mu.log_density(t) - nu.log_density(t))[:, None]
    u = {"js": lambda t: -log_r(t), "chi2": lambda t: log_r(t).exp()}.get(
        name, log_r
    )  # w = 2 / (1 + r) = 2 sigmoid(-log r)
    p, q = (law.log_density(X[:, None].float()).double().exp() for law in (mu, nu))
    exact = float(D.value(p, q, WEIGHTS))
    assert float(step.value(u(x), u(y), x)) == pytest.approx(exact, abs=2e-3)
    assert float(step.value(u(x) + 0.3, u(y) + 0.3, x)) < exact - 0.003
    assert step.sample(7, generator(0, "n")).shape == (7, 1)


def test_standardised_particles_have_exact_moments():
    m, C = ref.moments(standardised(torch.randn(400, 3, generator=generator(1, "x"))))
    assert np.abs(m).max() < 1e-6 and np.abs(C - np.eye(3)).max() < 1e-5, "float32"


# Compositions.


def affine(L, b):
    T = torch.nn.Linear(len(b), len(b))
    T.weight.data, T.bias.data = torch.tensor(L), torch.tensor(b)
    return T


def test_composition_follows_the_density_forwards_and_backwards():
    """Affine maps of N(0, I): the law is Gaussian and known; float32 gives about 1e-5 in the logs."""
    maps = Composition()
    for L, b in (([[0.9, 0.2], [0.1, 1.1]], [0.5, 0.0]), ([[1.2, 0.0], [-0.3, 0.8]], [0.0, -1.0])):
        maps.append(affine(L, b))
    A = np.array([[1.2, 0.0], [-0.3, 0.8]]) @ np.array([[0.9, 0.2], [0.1, 1.1]])
    m = np.array([[1.2, 0.0], [-0.3, 0.8]]) @ [0.5, 0.0] + [0.0, -1.0]
    law, standard = ref.GaussianReference(m, A @ A.T), ref.GaussianReference.isotropic(2, 1.0)
    z = torch.randn(50, 2, generator=generator(2, "z"))
    x, log_p = maps.with_log_density(z, standard.log_density(z))
    assert torch.allclose(x, maps(z), atol=1e-6) and torch.allclose(log_p, law.log_density(x), atol=1e-4)
    back, residual = maps.inverse(x)
    assert residual < 1e-4 and torch.allclose(back, z, atol=1e-4)
    assert torch.allclose(maps.log_density(x, standard.log_density), log_p, atol=1e-4)


def test_cache_moves_on_as_the_composition_does():
    maps, z = Composition(), torch.randn(100, 2, generator=generator(3, "z"))
    moving, again = ParticleCache(z), ParticleCache(z, fresh=lambda: z)
    for shift in (0.5, -2.0):
        maps.append(affine([[1.1, 0.0], [0.2, 0.9]], [shift, 0.0]))
        moving.advance(maps)
        again.advance(maps)
    assert torch.equal(moving.x, maps(z)) and torch.equal(again.x, moving.x)


def test_pass_counts_are_the_published_ones():
    """K = 50, N0 = 10k, N = 2k: 5.116 M against .324 M, 15.8; ratios for other K at 110k iterations in all."""
    assert passes(50, 10_000, 2000, "composition") == 5_116_000
    assert passes(50, 10_000, 2000, "whole") == 324_000
    for K, printed in ((10, 3.7), (20, 6.7), (50, 15.8), (100, 31), (200, 61)):
        N = 100_000 / (K - 1)
        ratio = passes(K, 10_000, N, "composition") / passes(K, 10_000, N, "whole")
        assert ratio == pytest.approx(printed, rel=0.05), "printed to two digits, N rounded to whole iterations"
    by_hand = sum(2 * (k + 1) * (70 if k == 0 else 30) for k in range(7))
    assert passes(7, 70, 30, "composition") == by_hand
    moved = [passes(K, 100, 100, "cache", cache=50) for K in (10, 20, 40)]
    assert moved[2] - moved[1] == 2 * (moved[1] - moved[0]), "linear in K"
    assert passes(40, 1, 1, "resimulated", cache=1) == 2 * 40 + 820, "quadratic only through the cache"


# Training.


def short_flow(tau_of_loss=None):
    """Two steps of tau = .3 from N(0, I) to N((1, -.5), diag(.5, 1)); returns moments of the cache per step."""
    nu = ref.GaussianReference([1.0, -0.5], np.diag([0.5, 1.0]))
    torch.manual_seed(0)
    step = VariationalStep(
        ref.KLThroughReference(nu.log_density),
        AffineResidualMLP(2, 0),
        QuadraticMLP(2, 0),
        tau_of_loss or 0.3,
        generator(0, "z"),
        lr_map=2e-2,
        lr_critic=2e-2,
        betas=(0.9, 0.99),
    )
    cache = ParticleCache(standardised(torch.randn(4000, 2, generator=generator(0, "mu_0"))))
    settings = dict(steps=2, iterations=150, batch=512, stream=generator(0, "batches"))
    return [ref.moments(cache.x) for _ in compositions(step, cache, **settings)]


EXACT = gaussian.jko_sequence([0, 0], [1, 1], [1, -0.5], np.sqrt([0.5, 1.0]), 0.3, 2)


def off(laws):
    return max(
        max(np.abs(m - EXACT[0][k + 1]).max(), np.abs(C - np.diag(EXACT[1][k + 1] ** 2)).max())
        for k, (m, C) in enumerate(laws)
    )


def test_trained_steps_follow_the_exact_jko_sequence():
    """Errors over ten seeds of moments stay below .01; .04 is far below the .1 that a wrong weight moves them."""
    assert off(short_flow()) < 0.04


def test_a_wrong_proximal_weight_is_noticed():
    """Negative control: weight 1/tau in place of 1/(2 tau) is the step of size tau/2."""
    assert off(short_flow(tau_of_loss=0.15)) > 0.08


def test_the_first_map_update_reuses_the_pass_of_the_critic():
    """Same parameters as a plain loop that evaluates everything afresh: bit for bit up to 1e-6 of fused Adam."""
    nu = ref.GaussianReference([1.0], [[0.5]])
    y = torch.randn(64, 1, generator=generator(4, "y"))

    def nets():
        torch.manual_seed(1)
        return AffineResidualMLP(1, 8), QuadraticMLP(1, 8)

    functional = ref.KLThroughReference(nu.log_density)
    step = VariationalStep(functional, *nets(), 0.1, generator(5, "z"), lr_map=1e-2, lr_critic=1e-2)
    step.begin(0, y)
    step.update(y)
    T, r = nets()
    R, z = ref.GaussianReference.fitted(y), ref.GaussianReference.fitted(y).sample(64, generator(5, "z"))
    adam_T, adam_r = torch.optim.Adam(T.parameters(), 1e-2), torch.optim.Adam(r.parameters(), 1e-2)
    for _ in range(3):
        adam_r.zero_grad()
        (r(z).exp().mean() - r(T(y).detach()).mean()).backward()
        adam_r.step()
    adam_T.zero_grad()
    x = T(y)
    loss = ((y - x) ** 2).sum(1).mean() / 0.2 + (r(x).squeeze(1) + R.log_density(x) - nu.log_density(x)).mean()
    loss.backward()
    adam_T.step()
    for own, plain in zip(
        [*step.T.parameters(), *step.r.parameters()], [*T.parameters(), *r.parameters()], strict=True
    ):
        assert torch.allclose(own, plain, atol=1e-6)


def test_the_dual_value_of_a_step_is_that_of_the_moved_particles():
    """KL at the true ratio of the image of N(0, 1) under x -> 2 x + 1 to its reference: equal-weight points, 1e-2 of 1.6."""
    nu, R = ref.GaussianReference([0.5], [[1.2]]), ref.GaussianReference([1.0], [[3.0]])
    image = ref.GaussianReference([1.0], [[4.0]])
    log_r = lambda x: (image.log_density(x) - R.log_density(x))[:, None]
    functional = ref.KLThroughReference(nu.log_density, ref.always(R))
    T, r = affine([[2.0]], [1.0]), torch.nn.Linear(1, 1)
    step = VariationalStep(functional, T, r, 0.1, generator(0, "z"), lr_map=1e-3, lr_critic=1e-3)
    step.begin(0, None)
    r.forward = log_r
    value = step.dual_value(normal_points(0.0, 1.0), normal_points(1.0, math.sqrt(3.0)))
    # r = dmu/dR has the tail e^(x^2 / 24): the points' cut costs half a per cent of E_R r.
    assert value == pytest.approx(float(gaussian.kl(1.0, 2.0, 0.5, math.sqrt(1.2))), abs=0.01)


def test_updates_of_both_players_are_as_many_as_asked_for():
    """SGD by hand in place of Adam, for quadratic losses: three updates of r at one T, then two of T at the r reached."""

    class Count(Players):
        def critic_loss(self, x, z, y):
            return (self.h.weight - 2 * x.detach().mean() - y).square().sum() / 2

        def map_loss(self, x, z, y):
            return (x - self.h.weight.detach()).square().mean() / 2

    T, h = (torch.nn.Linear(1, 1, bias=False) for _ in range(2))
    T.weight.data.fill_(1.0)
    h.weight.data.fill_(5.0)
    players = Count(T, h, 0.1, 0.5)
    players.adams = [torch.optim.SGD(net.parameters(), lr) for net, lr in ((T, 0.1), (h, 0.5))]
    z = torch.ones(4, 1)
    critic, maps = 5.0, 1.0
    for _ in range(3):
        critic -= 0.5 * (critic - 2 * maps - 0.25)
    for _ in range(2):
        loss = (maps - critic) ** 2 / 2
        maps -= 0.1 * (maps - critic)
    assert float(players.update(z, 0.25, 3, 2)) == pytest.approx(loss, rel=1e-6)
    assert h.weight.item() == pytest.approx(critic, rel=1e-6) and T.weight.item() == pytest.approx(maps, rel=1e-6)
    players.rates = [0.1, 0.5]
    players.fall(0.3)
    assert [adam.param_groups[0]["lr"] for adam in players.adams] == pytest.approx([0.03, 0.15])
    assert [quench(i, 4) for i in range(5)] == pytest.approx(
        [1, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4, 0]
    )


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: divergences.Power(1.0), "exponent m"),
        (lambda: ref.KLThroughReference(None, ratio="lg"), "did you mean 'log'"),
        (lambda: ref.GaussianReference([0, 0], np.zeros((2, 2))), "positive definite"),
        (lambda: VariationalStep(None, None, None, math.inf, None, lr_map=1, lr_critic=1), "tau"),
        (lambda: next(compositions(None, None, steps=0, iterations=1, batch=1, stream=None)), "steps"),
        (lambda: passes(5, 1, 1, "whol"), "did you mean 'whole'"),
    ],
)
def test_arguments_out_of_range_are_named(call, words):
    with pytest.raises(UsageError, match=words):
        call()


def test_cost_of_a_step_grows_with_the_determinant_alone():
    """Eight against two columns of a Hessian: at least 2; first and last layers of width 16: below 2."""
    cost, found = load_notebook("step_cost"), {}
    for d in (2, 8):
        steps = cost.steps_of(d, 0, 16, 3, 8)
        found[d] = {name: cost.operations(step, torch.randn(16, d)) for name, step in steps.items()}
    ratio = {name: found[8][name] / found[2][name] for name in found[2]}
    assert ratio[cost.EXACT] > 2 > ratio[cost.VWGF] >= 1


def test_the_jacobian_of_a_map_has_its_rows():
    A = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    y, J = jacobian(lambda x: x @ A.T, x := torch.randn(4, 2))
    assert torch.equal(y, x @ A.T) and torch.equal(J, A.expand(4, 2, 2))
