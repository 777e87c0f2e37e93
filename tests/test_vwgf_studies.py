"""The studies of Ornstein-Uhlenbeck flows, mixtures and step costs, at tiny settings, and what the report makes of them."""

import matplotlib
import numpy as np
import pytest

from gwf.errors import UsageError
from gwf.evidence import ou as ou_evidence
from gwf.evidence import step_cost as cost_evidence
from gwf.studies import ou, step_cost

OU = {
    "d": 2,
    "tau": 0.05,
    "steps": 2,
    "target": "rotation",
    "methods": ["vwgf", "sjko", "icnn"],
    "particles": [300],
    "dt": 0.01,
    "iterations": 10,
    "first_iterations": 20,
    "batch": 128,
    "critic_updates": 2,
    "cache": 2000,
    "standardise": True,
    "resimulate": False,
    "width": 8,
    "gaussian_part": True,
    "ratio": "log",
    "lr_map": 3e-3,
    "lr_critic": 3e-3,
    "sjko_iterations": 10,
    "sjko_lr_map": 5e-3,
    "sjko_lr_critic": 2e-2,
    "icnn_iterations": 10,
    "icnn_width": 8,
    "icnn_batch": 64,
    "icnn_lr": 5e-3,
    "n_evaluate": 1000,
    "n_energy": 200,
    "n_kde": 200,
    "n_density": 50,
}
def quiet(done, total, **shown):
    assert 0 <= done <= total


@pytest.fixture(autouse=True)
def no_window():
    matplotlib.use("Agg")
    yield
    matplotlib.pyplot.close("all")


def test_ornstein_uhlenbeck_study():
    tables = ou.run(0, quiet, **OU)
    rows = tables["table"].set_index("method")
    assert rows.loc["VWGF", "log10 SymKL to exact JKO"] < -2, (
        "two short steps, from N(0, I) to N(M, .) it would be > -1"
    )
    assert rows["energy distance"].notna().all() and len(tables["curve"]) == 6
    assert tables["table"].equals(ou.run(0, quiet, **OU)["table"]), "same seed, same bytes"
    cases = {"ou_d2": {name: frame.assign(seed=0) for name, frame in tables.items()}}
    assert "exact JKO" in ou_evidence.table(cases)
    ou_evidence.figure(cases)


@pytest.mark.parametrize("target", ou.TARGETS)
def test_targets_are_covariances_whose_exact_laws_meet_for_small_steps(target):
    """JKO at tau and tau / 2 against the flow: first order, so the moments' errors halve (ratio 2 up to O(tau))."""
    problem = ou.Problem(3, 0, target)
    assert problem.eigenvalues.min() > 0 and np.allclose(problem.Sigma, problem.Sigma.T)
    errors = [np.abs(problem.jko(tau, round(0.4 / tau))[-1][0] - problem.flow(0.4)[0]).max() for tau in (0.01, 0.005)]
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.3)


def test_cost_of_a_step_grows_with_the_determinant_alone():
    tables = step_cost.run(
        0, quiet, dimensions=[2, 8], width=16, batch=16, critic_updates=3, cg_iterations=8, updates=1
    )
    growth = tables["table"].pivot(index="d", columns="method", values="million operations")
    ratio = growth.loc[8] / growth.loc[2]
    # Eight against two columns of a Hessian: at least 2; first and last layers of width 16: below 2.
    assert ratio["JKO-ICNN, exact log det"] > 2 > ratio["VWGF"] >= 1
    cases = {"step_cost": {name: frame.assign(seed=0) for name, frame in tables.items()}}
    cost_evidence.table(cases)
    cost_evidence.figure(cases)


@pytest.mark.parametrize(
    "study, change, words",
    [
        (ou, {"target": "rotatoin"}, "did you mean 'rotation'"),
        (ou, {"methods": ["vwgff"]}, "did you mean 'vwgf'"),
        (ou, {"tau": 0.0}, "tau"),
        (ou, {"width": 0, "gaussian_part": False}, "width = 0"),
    ],
)
def test_settings_out_of_range_are_named(study, change, words):
    with pytest.raises(UsageError, match=words):
        study.run(0, quiet, **(OU | change))
