"""Learned Crank-Nicolson steps against the exact ones between Gaussians."""

import math

import pytest
import torch
from torch import nn

from gwf.divergences import Boltzmann
from gwf.exact.covariance import crank_nicolson_step
from gwf.exact.gaussian import jko_step
from gwf.nets.mlp import AffineIncrement
from gwf.seeding import generator
from gwf.steps.increments import standardised
from gwf.steps.internal import EntropyDual, VariationalFlow, VariationalStep
from gwf.steps.references import MomentGaussian

M, LAM, TAU = 1.0, 0.5, 0.2


class CrankNicolsonFlow(VariationalFlow):
    r"""The Crank-Nicolson variant: half of the energy's first variation at the new law, half frozen at the old one, *both at
    the new position* (vwgf, appendix B):

        min_T max_r  E|T(z) - z|^2/(2 tau) + E V(T z) + dual(r; T# mu_k)/2 + E U'(mu_k)(T z)/2

    so it is a `VariationalStep` of half the weight with one more energy, which the dual of the step before gives without
    a density. For KL(. | N(m, lam)) the exact step is `gwf.exact.covariance.crank_nicolson_step`; like the JKO step it is
    of first order in tau, with a smaller constant (chapter `flows`).

    Parameters
    ----------
    dual, T, tau
        As in `VariationalStep`.
    first : callable
        y (n, d) -> scalar E U'(mu_0)(y), from the known density of the source; 1 + E log mu_0(y) for `Boltzmann`.
    potential : callable
        y (n, d) -> scalar E V(y). V acts linearly on laws, so its two halves are one whole.
    settings
        The remaining arguments of `VariationalFlow`.
    """

    def __init__(self, dual, T, tau, first, potential, x, stream, **settings):
        self.first_variation = first
        frozen_half = lambda y: self.first_variation(y) / 2
        super().__init__(VariationalStep(dual, T, tau, 0.5, (potential, frozen_half)), x, stream, **settings)

    def advance(self):
        """One step; then the frozen half is that of the law just reached."""
        super().advance()
        self.first_variation = self.step.dual.frozen().of_mu


class Quadratic(nn.Module):
    """log r = a + b x + c x^2: holds the exact ratio of two Gaussians."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x):
        return self.linear(torch.cat([x, x.square()], 1))


def log_standard_normal(y):
    return 1 - y.square().mean() / 2 - math.log(2 * math.pi) / 2


def learned(steps):
    x = standardised(torch.randn(20_000, 1, generator=generator(0, "source")))
    flow = CrankNicolsonFlow(
        EntropyDual(Boltzmann(), Quadratic(), MomentGaussian()),
        AffineIncrement(1),
        TAU,
        log_standard_normal,
        lambda y: (y - M).square().mean() / (2 * LAM),
        x,
        generator(0, "batches"),
        iterations=150,
        ratio_updates=3,
        batch=1024,
        lr_map=2e-2,
        lr_ratio=2e-2,
    )
    path = []
    for _ in range(steps):
        flow.advance()
        path.append((flow.x.mean().item(), flow.x.std().item()))
    return path


def test_learned_steps_are_crank_nicolson_and_not_jko():
    """Tolerance .006: batches of 1024 at rates that fall to zero; the JKO step, a broken half, is off by .018 and more."""
    exact = [crank_nicolson_step(0.0, 1.0, M, LAM, TAU)]
    exact.append(crank_nicolson_step(*exact[0], M, LAM, TAU))
    jko = jko_step(0.0, 1.0, M, math.sqrt(LAM), TAU)
    path = learned(2)
    for (a, s), (a_exact, s_exact) in zip(path, exact, strict=True):
        assert abs(a - float(a_exact)) < 0.006 and abs(s - float(s_exact)) < 0.006
    assert abs(path[0][0] - float(jko[0].item())) > 0.015 and abs(path[0][1] - float(jko[1].item())) > 0.012


def test_the_frozen_half_is_half_and_does_not_move():
    y, start = torch.tensor([[0.0], [2.0]]), torch.randn(100, 1, generator=generator(0, "x"))
    settings = {"iterations": 1, "ratio_updates": 1, "batch": 8, "lr_map": 1e-3, "lr_ratio": 1e-3}
    dual = EntropyDual(Boltzmann(), Quadratic(), MomentGaussian())
    potential, stream = lambda y: 0.0 * y.sum(), generator(0, "batches")
    flow = CrankNicolsonFlow(dual, AffineIncrement(1), TAU, log_standard_normal, potential, start, stream, **settings)
    half = flow.step.energies[1]
    assert half(y).item() == pytest.approx(log_standard_normal(y).item() / 2)
    flow.advance()
    before = half(y).item()
    assert before == dual.of_mu(y).item() / 2
    nn.init.ones_(dual.net.linear.weight)
    assert half(y).item() == before
