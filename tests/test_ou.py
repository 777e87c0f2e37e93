"""Ornstein-Uhlenbeck targets and a learned flow beside the exact one."""

from functools import partial

import numpy as np
import pytest
import torch

from gwf.exact.covariance import jko_sequence_cov, ou_flow_cov, symkl_cov
from gwf.steps.references import GaussianReference
from tests.notebook_code import load_notebook

ou = load_notebook("ou")


def exact_jko(nu, tau, steps):
    """Mean and covariance of the exact iterate after `steps` steps from N(0, I) towards nu."""
    means, covariances = jko_sequence_cov(np.zeros(nu.d), np.eye(nu.d), nu.m, nu.C, tau, steps)
    return means[-1], covariances[-1]


def learned(seed=0):
    """Moments of mu_2 after two steps of vwgf at tau = .05, d = 2, and those of the exact JKO iterate."""
    nu = GaussianReference(*ou.TARGETS["rotation"](2, np.random.default_rng(0)))
    torch.manual_seed(seed)
    settings = dict(nets=ou.with_gaussian_part, width=8, ratio="log", rates=(3e-3, 3e-3), critic_updates=2)
    training = dict(iterations=10, first=20, batch=128, cache=2000, resimulate=False)
    draw = partial(ou.latents, seed, 2, True)
    *_, (_, law, _, _) = ou.vwgf(nu, "vwgf", draw, seed, 0.05, 2, **settings, **training)
    return law, exact_jko(nu, 0.05, 2)


def test_two_learned_steps_are_near_the_exact_iterate_and_repeat():
    """Below -2 in log10 SymKL: from N(0, I) to N(M, .) two short steps that did nothing would leave it above -1."""
    law, exact = learned()
    assert np.log10(symkl_cov(*law, *exact)) < -2
    again, _ = learned()
    assert all((a == b).all() for a, b in zip(law, again, strict=True)), "same seed, same law"


@pytest.mark.parametrize("target", ou.TARGETS.values())
def test_targets_are_covariances_whose_exact_laws_meet_for_small_steps(target):
    """JKO at tau and tau / 2 against the flow: first order, so the moments' errors halve (ratio 2 up to O(tau))."""
    nu = GaussianReference(*target(3, np.random.default_rng(0)))
    assert np.linalg.eigvalsh(nu.C).min() > 0 and np.allclose(nu.C, nu.C.T)
    flow = ou_flow_cov(np.zeros(3), np.eye(3), nu.m, nu.C, 0.4)
    errors = [np.abs(exact_jko(nu, tau, round(0.4 / tau))[0] - flow[0]).max() for tau in (0.01, 0.005)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.3)
