"""Studies of initialisation, schedules and diversity: small runs, their scores against known answers, and what the report shows."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from gwf import fields
from gwf.claims.checks import proposal
from gwf.data import toys
from gwf.errors import UsageError
from gwf.evidence import diversity as shown_diversity
from gwf.evidence import initialisation as shown_initialisation
from gwf.evidence import schedules as shown_schedules
from gwf.fields import entropic
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import generator
from gwf.studies import diversity, initialisation, schedules

UNIT = {"w2": 3.5, "w1": 2.5, "entries": 4.0, "cloud": 1.6, "assignment": 110.0}
SMALL = {
    "initialisation": dict(
        inits=["none", "flow", "flow, straight", "other flow"],
        fields=["sinkhorn"],
        eps={},
        iterations={"sinkhorn": 12},
        width=16,
        batch=32,
        persistency=2,
        lr=1e-3,
        critic_steps=1,
        reg=0.02,
        plan_iterations=5,
        particles=32,
        flow_steps=3,
        short_steps=1,
        flow_eps=0.3,
        regression_steps=5,
        regression_lr=2e-3,
        every=5,
        n=64,
        pairs=1,
        n_modes=200,
        n_curve=64,
        threshold=0.12,
        unit=UNIT,
        bar_particles=64,
        bar_batch=16,
        bar_steps=3,
        bar_eps=0.1,
    ),
    "schedules": dict(
        schedules={"sinkhorn": ["constant", "temperature", "all"], "w2": ["constant", "cosine", "all"]},
        only_constant=["sinkhorn_single"],
        width=16,
        batch=32,
        iterations=8,
        persistency=2,
        lr=1e-3,
        eps={},
        critic_steps=1,
        reg=0.02,
        plan_iterations=5,
        decay=0.9,
        every=4,
        n=64,
        pairs=1,
        n_modes=200,
        n_curve=64,
        threshold=0.12,
        failure=4,
        unit=UNIT,
        persistencies=[1, 3],
        rates=[1e-3],
        persistency_iterations=5,
    ),
    "diversity": dict(
        toy_names=["minor_modes"],
        fields=["w2", "sinkhorn", "sinkhorn_single", "mmd"],
        regs=[0.02],
        eps={},
        lr=2e-3,
        width=16,
        batch=32,
        iterations=4,
        persistency=2,
        plan_iterations=5,
        n_modes=300,
        n_distance=64,
        floors=2,
        self_regs=[0.02],
        self_n=32,
        self_steps=3,
        self_eps=0.3,
        points=50,
    ),
}
STUDIES = {
    "initialisation": (initialisation, shown_initialisation),
    "schedules": (schedules, shown_schedules),
    "diversity": (diversity, shown_diversity),
}


@pytest.fixture(scope="module")
def small():
    """One run of each study, as `gwf.studies.read` gives it."""
    found = {}
    for name, (study, _) in STUDIES.items():
        frames = study.run(0, lambda *a, **k: None, **SMALL[name])
        found[name] = {f"{name}_case": {key: frame.assign(seed=0) for key, frame in frames.items()}}
    return found


@pytest.mark.parametrize("name", STUDIES)
def test_a_run_is_shown(small, name):
    """One row per setting and more, whatever the numbers are; the figure draws."""
    import matplotlib

    matplotlib.use("Agg")
    _, shown = STUDIES[name]
    frame = shown.table(small[name])
    assert len(frame) >= 4 and isinstance(shown.reading(small[name]), str)
    shown.figure(small[name]).canvas.draw()


def test_the_same_seed_gives_the_same_numbers(small):
    again = schedules.run(0, lambda *a, **k: None, **SMALL["schedules"])
    for name in ("table", "curve", "persistency"):
        pd.testing.assert_frame_equal(again[name].assign(seed=0), small["schedules"]["schedules_case"][name])
    assert "seconds" not in small["schedules"]["schedules_case"]["table"]


def test_every_initialisation_has_the_work_of_the_cold_start(small):
    """What phase 1 costs is taken from the Euler steps: no run exceeds the budget, or leaves an iteration of it."""
    table = small["initialisation"]["initialisation_case"]["table"]
    cost = 2 + fields.get("sinkhorn", iterations=5).work(32, UNIT)
    left = table["work"] - table["work_before"] - table["iterations"] * cost
    assert (left > -1e-4).all() and (left < cost + 1e-4).all()
    assert list(table["iterations"]) == sorted(table["iterations"], reverse=True) and table["iterations"].iloc[0] == 12


def test_work_by_hand():
    # 2 plans of 6 double passes over 32^2 entries at 4 a million; 5 critic steps at 3.5.
    assert fields.get("sinkhorn", iterations=5).work(32, UNIT) == pytest.approx(4 * 6 * 1024e-6 * 4)
    assert fields.get("w2", PlanePotential).work(32, UNIT) == pytest.approx(5 * 3.5)


@pytest.mark.parametrize(("name", "settings", "meant"), [("sinkhron", {}, "sinkhorn"), ("w2", {"leer": 1}, "lr")])
def test_unknown_fields_and_settings_name_the_nearest(name, settings, meant):
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        fields.get(name, PlanePotential, **settings)


def test_single_batch_field_is_the_self_comparison():
    toy, stream = toys.get("ring"), generator(0, "t")
    x, y = toy.data(32, stream), toy.data(32, stream)
    single, two = (fields.get(name, reg=0.1, iterations=20, relative=False) for name in ("sinkhorn_single", "sinkhorn"))
    assert torch.equal(single(x, y), two(x, y, x)) and not torch.equal(single(x, y), two(x, y, toy.data(32, stream)))
    # As reg -> 0 its self term is x itself: what is left is the barycentre of the data, uncorrected.
    sharp = fields.get("sinkhorn_single", reg=1e-5, iterations=20, relative=False)(x, y)
    C = entropic.half_squared(x, y)
    _, g = entropic.potentials(C, 1e-5, 20)
    assert torch.allclose(sharp, entropic.barycentre(C, g, y, 1e-5) - x, atol=1e-5)


def test_entropic_plans_bear_costs_of_many_temperatures():
    """A point 1e4 temperatures away: finite potentials, exact source marginal, as logsumexp in float64 has them."""
    x, y = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.2]]), torch.tensor([[0.0, 0.1], [20.0, 0.0], [0.3, 0.0]])
    C, reg = entropic.half_squared(x, y), 0.02
    f, g = entropic.potentials(C, reg, 50)
    scaled, b, third = C.double() / -reg, torch.zeros(3, dtype=torch.float64), math.log(3)
    a = third - torch.logsumexp(scaled + b, 1)
    for _ in range(50):
        b = third - torch.logsumexp(scaled + a[:, None], 0)
        a = third - torch.logsumexp(scaled + b, 1)
    # float32 keeps a cost of 200 to 1e-5.
    assert torch.allclose(f.double(), a * reg, atol=1e-4) and torch.allclose(g.double(), b * reg, atol=1e-4)


def test_even_latents_take_the_noise_of_counts_away():
    """Halves of the line: 512 independent points differ by 23 on average, even ones by a few; the law is N(0, .05^2 I)."""
    z = diversity.even(512, 7)
    assert abs(int((z[:, 0] > 0).sum()) - 256) <= 2
    assert torch.allclose(z.std(0), torch.full((2,), 0.05), rtol=0.02) and z.mean(0).abs().max() < 1e-3


def test_floors_tell_equal_counts_from_independent_points():
    """w2fe's .047 is between two data sets with 64 points in every mode; independent points of the same law are farther."""
    found = schedules.floors(0, toys.get("ring"), 512, 4)
    assert abs(found["w1_floor"] - 0.047) < 0.005  # .002 of one pair, and the card's own error
    assert found["w1_floor_independent"] > 0.065  # .093 +- .016 of one pair, four pairs


def test_scores_of_modes_by_hand():
    toy = toys.get("minor_modes")
    x = np.concatenate([np.repeat(toy.centres[:6].numpy(), 15, 0), np.repeat(toy.centres[6:].numpy(), [10, 0], 0)])
    found, masses = diversity.modes_of(x, toy)
    assert found["modes"] == 7 and found["std_within"] == 0 and masses[-2:] == pytest.approx([0.1, 0])
    assert found["mode_kl"] == pytest.approx(0.1 * math.log(2), abs=1e-6)
    assert diversity.within(x + 0.1, toy.centres.numpy(), 0.1) == pytest.approx(0.1, abs=1e-6)
    assert math.isnan(diversity.within(np.full((3, 2), 50.0), toy.centres.numpy(), 0.1))


def test_schedules_end_where_they_say():
    T, step = schedules.build(
        0, "sinkhorn", width=8, lr=1e-3, eps=1.0, persistency=1, critic_steps=1, reg=0.02, plan_iterations=2
    )
    moves = [s(step) for s in schedules.scheduled("all", "sinkhorn")]
    values = []
    for share in (0.0, 0.25, 0.5, 1.0):
        for move in moves:
            move(share)
        values.append((step.optimiser.param_groups[0]["lr"], step.eps, step.field.reg))
    assert values[0] == pytest.approx((1e-3, 1.0, 0.2)) and values[2] == pytest.approx((5e-4, 0.55, 0.02))
    assert values[1][2] == pytest.approx(0.02 * 10**0.5) and values[3] == pytest.approx((0, 0.1, 0.02))
    assert len(schedules.scheduled("all", "mmd")) == 2


def test_average_of_weights():
    T = PlaneMap(width=4)
    average = schedules.Average(T, 0.5)
    before = [w.clone() for w in T.parameters()]
    with torch.no_grad():
        for w in T.parameters():
            w += 1
    average.update()
    assert all(torch.allclose(m, b + 0.5) for m, b in zip(average.mean.parameters(), before, strict=True))


def test_share_closed_by_hand():
    rows = pd.DataFrame(
        [
            {"field": "mmd", "schedule": name, "w1_even": value, "w1_floor": 0.05}
            for name, value in (("constant", 0.1), ("cosine", 0.06), ("rising", 0.2))
        ]
    )
    shares = shown_schedules.closed(rows).set_index("schedule")["share"]
    assert shares.to_dict() == pytest.approx({"constant": 0, "cosine": 0.8, "rising": -2})


def test_gain_of_persistency_by_hand():
    """At rate 1e-4: 400 (capped) against 40; tuned: 100 against 40."""
    grid = pd.DataFrame(
        [
            {"persistency": J, "lr": lr, "reached": n, "work_to_threshold": n * J, "cap": 400}
            for J, lr, n in ((1, 1e-4, math.inf), (1, 1e-3, 100), (10, 1e-4, 40), (10, 1e-3, 60))
        ]
    )
    assert shown_schedules.gains(grid) == (10, 2.5)
    assert proposal.fastest(grid, lambda J: J == 1) == (100, 400)


@pytest.mark.parametrize(
    "study, wrong, message",
    [
        (initialisation, {"inits": ["flow, strait"]}, "did you mean 'flow, straight'"),
        (initialisation, {"iterations": {"sinkhorn": 1}}, "take more"),
        (schedules, {"decay": 1.0}, "decay = 1.0"),
        (schedules, {"schedules": {"mmd": ["cosin"]}}, "did you mean 'cosine'"),
        (diversity, {"toy_names": ["rng"]}, "did you mean 'ring'"),
        (diversity, {"points": 5000}, "points = 5000"),
    ],
)
def test_wrong_settings_are_named(study, wrong, message):
    with pytest.raises(UsageError, match=message):
        study.run(0, lambda *a, **k: None, **{**SMALL[study.__name__.split(".")[-1]], **wrong})
