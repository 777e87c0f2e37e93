"""Explicit flows against dimension: pairs with known maps, what is measured on fields, the study, its claim and evidence."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from gwf.claims.outcome import NotRun
from gwf.claims.registry import computed

from gwf.claims import ledger
from gwf.claims.checks.dimension import dimension as check
from gwf.errors import UsageError
from gwf.evidence import dimension as evidence
from gwf.exact.gaussian import fitted_map
from gwf.studies import dimension as study


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
    field = study.make_field(name, 2, width=32, weight=10.0, critic_lr=2e-3, critic_steps=5, reg=0.05)
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
            step = study.Euler(
                T,
                study.make_field(name, d, width=8, weight=1.0, critic_lr=1e-3, critic_steps=1, reg=0.05),
                torch.optim.Adam(T.parameters(), 1e-3),
            )
            counts[name, d] = study.operations(name, step, pair, 32, 40)
            assert not step.field.potentials
    assert (
        counts["Sinkhorn", 2] > 4 * 4 * 40 * 32 * 32 / 2
        and counts["MMD, energy", 64] - counts["MMD, energy", 2] > 6 * 32 * 32 * 62
    )


SETTINGS = {
    "kinds": ["mixture", "gaussian"],
    "dimensions": [2, 6],
    "fields": ["W2 critic", "Sinkhorn"],
    "iterations": 3,
    "batch": 32,
    "persistency": 2,
    "lr": 1e-3,
    "width": 16,
    "weight": 10.0,
    "critic_lr": 5e-4,
    "critic_steps": 1,
    "start_updates": 3,
    "start_repeats": 1,
    "reg": 0.05,
    "moment_samples": 2000,
    "points": 100,
    "directions": 20,
}


def quiet(*args, **shown):
    """No progress."""


@pytest.fixture(scope="module")
def tables():
    return study.run(0, quiet, **SETTINGS)


def test_the_study_has_a_row_per_method_and_repeats_itself(tables):
    rows = tables["table"]
    assert len(rows) == 2 * 2 * 3 and set(tables) == {"table", "timing"}
    linear = rows[rows["method"] == "linear map"].set_index(["kind", "d"])
    # population moments up to 2000 samples of either side: exact on Gaussians within sampling, not on mixtures
    assert linear.loc[("gaussian", 6), "uvp_map"] < 2 < linear.loc[("mixture", 6), "uvp_map"]
    assert study.run(0, quiet, **SETTINGS)["table"].equals(rows)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"fields": ["sinkhron"]}, "did you mean 'Sinkhorn'"),
        ({"kinds": ["mixtur"]}, "did you mean 'mixture'"),
        ({"dimensions": [0]}, "dimensions"),
        ({"moment_samples": 6}, "moment_samples"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(UsageError, match=message):
        study.run(0, quiet, **(SETTINGS | change))


# The claim and the evidence.


def made_up(**changes):
    """A table in which every part of P6 holds; `changes` set (energy at d = 128) by method with _ for blanks."""
    energy = {"W2 critic": (2.0, 3.0), "Sinkhorn": (1.5, 4.0), "linear map": (6.0, 5.0)}
    for name, value in changes.items():
        energy[name.replace("_", " ")] = (energy[name.replace("_", " ")][0], value)
    rows = [
        {
            "kind": "mixture",
            "d": d,
            "method": method,
            "cosine": 0.95 - 0.002 * d,
            "uvp": 10.0,
            "uvp_scaled": 9.0,
            "uvp_map": 8.0,
            "energy": values[i],
            "energy_floor": 1.0,
            "energy_ratio": values[i],
            "sliced": 1.0,
            "sliced_floor": 0.5,
            "sliced_ratio": 2.0,
            "million_operations": math.nan if method == "linear map" else 40 + d / 10,
            "seed": seed,
        }
        for method, values in energy.items()
        for i, d in enumerate((2, 128))
        for seed in (0, 1, 2)
    ]
    return pd.DataFrame(rows)


class Source:
    """Sources with one made-up study."""

    def __init__(self, frame):
        self.frame = frame

    def study(self, name):
        return {"dimension_mixture": {"table": self.frame}}


@pytest.mark.parametrize(
    "frame, verdict",
    [
        (made_up(), "reproduced"),
        (made_up(W2_critic=4.9), "partly"),
        (made_up(W2_critic=9.0, Sinkhorn=8.0), "contradicted"),
        (made_up(Sinkhorn=1.2), "partly"),
    ],
)
def test_the_claim_goes_either_way_and_its_controls_turn_it(frame, verdict):
    claim = next(claim for claim in ledger.claims() if claim.id == "proposal-P6")
    found = ledger.judge(claim, computed()["proposal-P6"], Source(frame))
    assert found.verdict == verdict and found.control_verdict != verdict


def test_one_dimension_gives_no_verdict():
    with pytest.raises(NotRun, match="second dimension"):
        check(made_up().query("d == 2"))


def test_evidence_is_drawn_and_read(tables):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    both = {"all": {"table": pd.concat([tables["table"].assign(seed=seed) for seed in (0, 1)])}}
    assert len(evidence.table(both)) == len(tables["table"])
    plt.close(evidence.figure(both))
    assert "mixture, d = 2 to 6" in evidence.reading(both)
    assert "below the linear map (5.00) at d = 128: Sinkhorn, W2 critic" in evidence.reading(
        {"a": {"table": made_up()}}
    )
    assert "at d = 128: none" in evidence.reading({"a": {"table": made_up(W2_critic=9.0, Sinkhorn=8.0)}})
    assert "no trend" in evidence.reading({"a": {"table": made_up().query("d == 2")}})
