"""Ornstein-Uhlenbeck targets and a learned flow beside the exact one."""

from functools import partial

import numpy as np
import pytest
import torch

from gwf.exact.covariance import symkl_cov
from tests.notebook_code import load_notebook

ou = load_notebook("ou")


def learned(seed=0):
    """Moments of mu_2 after two steps of vwgf at tau = .05, d = 2, and those of the exact JKO iterate."""
    problem = ou.Problem(2, 0, "rotation")
    torch.manual_seed(seed)
    settings = dict(nets=ou.with_gaussian_part, width=8, ratio="log", rates=(3e-3, 3e-3), critic_updates=2)
    training = dict(iterations=10, first=20, batch=128, cache=2000, resimulate=False)
    draw = partial(ou.latents, seed, 2, True)
    *_, (_, law, _, _) = ou.vwgf(problem, "vwgf", draw, seed, 0.05, 2, **settings, **training)
    return law, problem.jko(0.05, 2)[-1]


def test_two_learned_steps_are_near_the_exact_iterate_and_repeat():
    """Below -2 in log10 SymKL: from N(0, I) to N(M, .) two short steps that did nothing would leave it above -1."""
    law, exact = learned()
    assert np.log10(symkl_cov(*law, *exact)) < -2
    again, _ = learned()
    assert all((a == b).all() for a, b in zip(law, again, strict=True)), "same seed, same law"


@pytest.mark.parametrize("target", ou.TARGETS)
def test_targets_are_covariances_whose_exact_laws_meet_for_small_steps(target):
    """JKO at tau and tau / 2 against the flow: first order, so the moments' errors halve (ratio 2 up to O(tau))."""
    problem = ou.Problem(3, 0, target)
    assert problem.eigenvalues.min() > 0 and np.allclose(problem.Sigma, problem.Sigma.T)
    errors = [np.abs(problem.jko(tau, round(0.4 / tau))[-1][0] - problem.flow(0.4)[0]).max() for tau in (0.01, 0.005)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.3)
