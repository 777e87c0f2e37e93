"""Explicit flows against dimension: pairs with known maps, what is measured on fields and samples."""

import numpy as np
import pytest
import torch

from gwf.exact.gaussian import fitted_map
from tests.notebook_code import load_notebook

study = load_notebook("dimension")


def field_of(name, d, width, **settings):
    """A field with critics of this width, if it has any."""
    settings = {"weight": 10.0, "critic_steps": 5, "reg": 0.05, **settings}
    return study.field_of(study.FIELDS[name], lambda: study.PlanePotential(d, width), **settings)


@pytest.mark.parametrize("kind", study.KINDS)
@pytest.mark.parametrize("d", [2, 8])
def test_the_maps_are_gradients_of_convex_functions(kind, d):
    """Their Jacobians are symmetric (float32: 1e-5) with eigenvalues of at least 1/2, so that they are optimal (Brenier)."""
    pair = study.Pair(kind, d, 0)
    for x in torch.randn(5, d, generator=torch.Generator().manual_seed(0)):
        J = torch.autograd.functional.jacobian(lambda z: pair.optimal(z[None])[0], x)
        assert (J - J.T).abs().max() < 1e-5
        assert torch.linalg.eigvalsh((J + J.T) / 2).min() > 0.5 - 1e-4


def test_the_mixture_has_clusters_and_the_gaussian_none():
    """Most points of the mixture's law carry one softmax weight above 1/2: it is no Gaussian, and the linear map errs."""
    for d in (2, 32):
        pair, stream = study.Pair("mixture", d, 0), torch.Generator().manual_seed(0)
        x = pair.source(4000, stream).double().numpy()
        y = pair.optimal(torch.tensor(x, dtype=torch.float32)).double().numpy()
        error = np.square(fitted_map(x, y)(x) - y).sum(1).mean() / y.var(0).sum()
        assert error > 0.05
        pair = study.Pair("gaussian", d, 0)
        y = pair.optimal(torch.tensor(x, dtype=torch.float32)).double().numpy()
        # the same sample on both sides: sample moments transform exactly, the rest is float32
        assert np.square(fitted_map(x, y)(x) - y).sum(1).mean() / y.var(0).sum() < 1e-8


def test_a_true_field_scores_perfectly_and_the_wrong_sign_the_opposite():
    u = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    spread = float(u.double().var(0).sum())
    assert study.accuracy(u, u, spread) == pytest.approx((1, 0, 0), abs=1e-9)
    cosine, uvp, scaled = study.accuracy(-u, u, spread)
    # |2 u|^2 over Var: 400 %, up to the sample mean
    assert cosine == pytest.approx(-1) and uvp == pytest.approx(400, rel=0.02) and scaled == pytest.approx(0, abs=1e-9)
    # half the field: right direction, UVP 25 %, no error at the best multiple
    assert study.accuracy(u / 2, u, spread) == pytest.approx((1, 25, 0), rel=0.02, abs=1e-9)
    assert study.accuracy(torch.zeros_like(u), u, spread)[0] == 0


@pytest.mark.parametrize("name", study.FIELDS)
def test_fields_point_the_right_way_in_two_dimensions_and_wrongly_when_reversed(name):
    """Gaussian pair, batch 128: every cosine is above .6, and that of the field with the other sign below -.6."""
    pair, stream = study.Pair("gaussian", 2, 0), torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    field = field_of(name, 2, 32, lr=2e-3)
    V, u = study.field_at_start(field, pair, stream, 128, 100, 2)
    right, wrong = study.accuracy(V, u, 1.0)[0], study.accuracy(-V, u, 1.0)[0]
    assert right > 0.6 and wrong == pytest.approx(-right)


def test_the_judge_gives_one_for_data_and_more_for_the_source():
    """The optimal map scores its floor within sampling (a factor 2 at 4 draws of n = 300), the identity far more."""
    judge = study.Judge(study.Pair("mixture", 4, 0), 0, "mixture", 300, 50)
    pair = study.Pair("mixture", 4, 0)
    assert judge(pair.optimal)["energy_ratio"] < 2 and judge(pair.optimal)["sliced_ratio"] < 2
    assert judge(lambda z: z)["energy_ratio"] > 5


def test_operations_count_what_grows():
    """Sinkhorn's n^2 term does not depend on d; the table of distances does."""
    counts = {}
    for d in (2, 64):
        pair = study.Pair("gaussian", d, 0)
        for name in ("Sinkhorn", "MMD, energy"):
            T = study.PlaneMap(d, 8, normalise=False)
            step = study.Euler(T, field_of(name, d, 8), torch.optim.Adam(T.parameters(), 1e-3))
            counts[name, d] = study.operations(step, pair, 32)
            assert not step.field.potentials
    assert (
        counts["Sinkhorn", 2] > 4 * 4 * 40 * 32 * 32 / 2
        and counts["MMD, energy", 64] - counts["MMD, energy", 2] > 6 * 32 * 32 * 62
    )
