"""The densities with exact samplers: normalised, sampled as they say; the published metric; the map's log det."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from gwf.flows.measures import sliced_energy_distance
from gwf.seeding import generator
from gwf.steps.increments import jacobian
from notebooks.experiments.densities_laws import TARGETS, Couplings, target


def mass(density, low, high, cells):
    """Integral of a density in the plane over a box, by the midpoint rule."""
    axes = [torch.linspace(a, b, n + 1, dtype=torch.float64) for a, b, n in zip(low, high, cells, strict=True)]
    middle = [(axis[1:] + axis[:-1]) / 2 for axis in axes]
    size = math.prod(float(axis[1] - axis[0]) for axis in axes)
    points = torch.cartesian_prod(*middle)
    return sum(float(density(part).exp().sum()) for part in points.split(2**18)) * size


@pytest.mark.parametrize("name", ["8 modes", "8 peaky"])
def test_a_ring_has_mass_one(name):
    """The midpoint rule is exact to rounding for a smooth density once the spacing, .01, is a seventh of the least std;
    the box leaves out 5 standard deviations and more. The control: coordinates stretched by 1.1, mass 1 / 1.21."""
    law = target(name)
    assert abs(mass(law.log_density, (-2.8, -1.8), (0.8, 1.8), (360, 360)) - 1) < 1e-5
    assert abs(mass(lambda x: law.log_density(1.1 * x), (-2.8, -1.8), (0.8, 1.8), (360, 360)) - 1 / 1.21) < 1e-5


def test_the_mustache_has_mass_one():
    """In coordinates in which it is a ridge of standard deviation .44: y = (x^2 - 1)^2 + .9 x + r has determinant 1. |x| < 5.5 leaves
    out 4e-8, |r| < 3 leaves out 6e-12. The control: without the bend the box leaves out a tenth."""
    law, bend = target("mustache"), lambda x: (x.square() - 1).square() + 0.9 * x
    along = lambda r: law.log_density(torch.stack([r[:, 0], bend(r[:, 0]) + r[:, 1]], 1))
    assert abs(mass(along, (-5.5, -3), (5.5, 3), (550, 300)) - 1) < 1e-5
    assert mass(law.log_density, (-5.5, -3), (5.5, 3), (550, 300)) < 0.95


def test_log_densities_are_scipys():
    """In float64 to rounding, at samples: the funnel's as a product of normals, a ring's as a mean of normals, the
    mustache's as the normal of its two coordinates before the shear."""
    for name in TARGETS:
        law = target(name)
        x = law.sample(50, generator(0, "tests")).double()
        p = x.numpy()
        if name == "funnel":
            rest = stats.norm(0, np.exp(p[:, :1] / 2)).logpdf(p[:, 1:]).sum(1)
            known = stats.norm(0, 3).logpdf(p[:, 0]) + rest
        elif name == "mustache":
            before = np.stack([-p[:, 0], (p[:, 0] ** 2 - 1) ** 2 - p[:, 1]], 1)
            known = stats.multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]]).logpdf(before)
        else:
            parts = [stats.multivariate_normal(c, law.variance).pdf(p) for c in law.centres.double().numpy()]
            known = np.log(np.mean(parts, 0))
        assert np.allclose(law.log_density(x).numpy(), known, rtol=1e-10, atol=1e-9), name


@pytest.mark.parametrize("name", TARGETS)
def test_samples_have_the_moments_that_are_stated(name):
    """Means of 2^18 draws within five standard errors, by the draws' own spread, of the stated mean, and of the stated second
    moments where these are finite enough to see: the funnel's rest has E x^4 = 3 e^18, so there log x^2 takes its place, whose
    mean given v is v - 1.2704. The control: the same test against a mean .05 standard deviations off."""
    law = target(name)
    x = law.sample(2**18, generator(1, "tests")).double()
    off = lambda values, known: float(((values.mean(0) - known).abs() / (values.std(0) / 2**9)).max())
    if name == "funnel":
        assert off(x[:, :1].square(), 9.0) < 5 and off(x[:, 1:].square().log(), -1.2704) < 5
    else:
        centred = x - law.mean.double()
        assert off((centred[:, :, None] * centred[:, None]).flatten(1), law.covariance.double().flatten()) < 5
        x = x[:, :2]
        assert off(x, law.mean[:2].double()) < 5
    first = x[:, :1]
    assert off(first, law.mean[:1].double()) < 5 < off(first, law.mean[:1] + 0.05 * float(first.std()))


def test_samples_and_density_agree():
    """E log nu under the sampler: the entropy of the shear's Gaussian and of the funnel in closed form, 2^18 draws, five standard
    errors. The control: the draws of one ring under the density of the other."""
    for name, entropy in (
        ("mustache", 1 + math.log(2 * math.pi) + math.log(0.19) / 2),
        ("funnel", 5 * (1 + math.log(2 * math.pi)) + math.log(3)),
    ):
        value = target(name).log_density(target(name).sample(2**18, generator(2, "tests"))).double()
        assert abs(float(value.mean()) + entropy) < 5 * float(value.std()) / 2**9, name
    x = target("8 modes").sample(2**14, generator(3, "tests"))
    own, other = (float(target(name).log_density(x).mean()) for name in ("8 modes", "8 peaky"))
    assert own > other + 0.1  # the KL divergence of their modes is log 1/2 + 1 = .307


def test_half_the_sliced_energy_distance_is_the_published_metric():
    """The mean over directions of the integral of (F - G)^2 times a constant of d, here with the products that are published. Two points
    at distance a in the plane: pi/2 times E |w . a| = 2 a / pi is a, of which the energy distance 2 |a| is twice. In d = 10 the
    constant is the same as Gamma's."""
    a, b = np.zeros((1, 2)), np.array([[3.0, 4.0]])
    assert sliced_energy_distance(a, b, 4000) / 2 == pytest.approx(
        5, rel=0.03
    )  # relative error .48 / sqrt(4000), four of them
    published = math.pi / 2 * math.prod((2 * j + 1) / (2 * j) for j in range(1, 5))
    assert published == pytest.approx(math.sqrt(math.pi) * math.gamma(5.5) / math.gamma(5))
    # Two samples of 50,000 of one law: E|X - X'| / 50,000, published as 2.6e-5 for the eight modes.
    x, y = (target("8 modes").sample(50_000, generator(i, "tests")) for i in (4, 5))
    assert 0.5e-5 < sliced_energy_distance(x, y, 50) / 2 < 1e-4


@pytest.mark.parametrize("d", [2, 5])
def test_the_log_det_of_couplings_is_that_of_their_jacobian(d):
    """Weights at random, float64. The control: the log det of a map with its first net exchanged."""
    torch.manual_seed(0)
    T = Couplings(d, 8, 3, generator(0, "tests")).double()
    x = torch.randn(20, d, dtype=torch.float64)
    assert torch.equal(T(x), x)
    for parameter in T.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    y, J = jacobian(T, x)
    mapped, log_det = T.with_log_det(x)
    known = torch.linalg.slogdet(J)[1]
    assert torch.allclose(mapped, y) and torch.allclose(log_det, known, atol=1e-9)
    torch.nn.init.normal_(T.nets[0][-1].bias, 0, 0.5)
    assert not torch.allclose(T.with_log_det(x)[1], known, atol=1e-2)
