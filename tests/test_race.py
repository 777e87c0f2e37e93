"""The race of explicit flows on the ring: work, latents, floors, scores and schedules by hand; what the experiments make of them."""

import inspect
import math

import numpy as np
import pandas as pd
import pytest
import torch

from gwf import fields
from gwf.data import toys
from gwf.errors import UsageError
from gwf.fields import entropic
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import generator
from notebooks.experiments import race
from tests.notebook_code import load_notebook

UNIT = {"w2": 3.5, "w1": 2.5, "entries": 4.0, "cloud": 1.6, "assignment": 110.0}
SMALL = {"width": 8, "lr": 1e-3, "eps": 1.0, "persistency": 1, "critic_steps": 1, "reg": 0.02, "plan_iterations": 2}


def test_runs_stand_in_the_place_of_others_and_in_their_own():
    frame = pd.DataFrame({"method": ["a", "b"], "value": [1.0, 2.0]})
    put = race.instead("method", "a", "b")(frame)
    assert sorted(zip(put["method"], put["value"], strict=True)) == [("a", 2.0), ("b", 2.0)]


def test_work_by_hand():
    # 2 plans of 6 double passes over 32^2 entries at 4 a million; 5 critic steps at 3.5.
    assert fields.get("sinkhorn", iterations=5).work(32, UNIT) == pytest.approx(4 * 6 * 1024e-6 * 4)
    assert fields.get("w2", PlanePotential).work(32, UNIT) == pytest.approx(5 * 3.5)


@pytest.mark.parametrize(
    ("name", "passes"),
    [
        ("mmd", 8),
        ("drifting", 4),
        ("drifting_released", 24),
        ("sinkhorn", 4 * 41),
        ("sinkhorn_single", 4 * 41),
        ("sliced", 8 * 2 * 128 / 1000),
    ],
)
def test_work_of_the_closed_forms_counts_passes(name, passes):
    """In a batch of 1000 a matrix has a million entries, and 128 lines have that share of it; all linear in the unit."""
    field = fields.get(name)
    assert field.work(1000, {"entries": 1.0}) == pytest.approx(passes)
    share = 2 if name == "sliced" else 4
    assert field.work(2000, {"entries": 3.0}) == pytest.approx(3 * share * passes)


def test_work_of_an_assignment():
    assert fields.get("minibatch_ot").work(2000, {"assignment": 7.0}) == pytest.approx(4 * 7.0)


@pytest.mark.parametrize(("name", "settings", "meant"), [("sinkhron", {}, "sinkhorn"), ("w2", {"leer": 1}, "lr")])
def test_unknown_fields_and_settings_name_the_nearest(name, settings, meant):
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        fields.get(name, PlanePotential, **settings)


def test_fields_have_names_for_people_and_closed_forms_no_state():
    assert fields.title("w2") == "W2 critic" and fields.title("sinkhorn") == "Sinkhorn"
    field = fields.get("mmd")
    assert field.networks() == field.state_dict() == {} and repr(field) == "<MMD: MMD>"
    learned = fields.get("w1", PlanePotential)
    assert list(learned.networks()) == ["critic"] and set(learned.state_dict()) == {"critic", "optimiser"}


def test_the_settings_of_fields_are_all_there():
    """Written out beside the table: the parameters of the fields' classes but for their potentials."""
    own = {name for field in fields.FIELDS.values() for name in inspect.signature(field).parameters}
    potentials = {name for field in fields.FIELDS.values() for name in field.potentials}
    assert set(fields.SETTINGS) == own - potentials


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
    z = race.even(512, 7)
    assert abs(int((z[:, 0] > 0).sum()) - 256) <= 2
    assert torch.allclose(z.std(0), torch.full((2,), 0.05), rtol=0.02) and z.mean(0).abs().max() < 1e-3


def test_floors_tell_equal_counts_from_independent_points():
    """w2fe's .047 is between two data sets with 64 points in every mode; independent points of the same law are farther."""
    found = race.floors(0, toys.get("ring"), 512, 4)
    assert abs(found["w1_floor"] - 0.047) < 0.005  # .002 of one pair, and the card's own error
    assert found["w1_floor_independent"] > 0.065  # .093 +- .016 of one pair, four pairs


def test_scores_of_modes_by_hand():
    toy = toys.get("minor_modes")
    x = np.concatenate([np.repeat(toy.centres[:6].numpy(), 15, 0), np.repeat(toy.centres[6:].numpy(), [10, 0], 0)])
    found, masses = race.modes_of(x, toy)
    assert found["modes"] == 7 and found["std_within"] == 0 and masses[-2:] == pytest.approx([0.1, 0])
    assert found["mode_kl"] == pytest.approx(0.1 * math.log(2), abs=1e-6)
    assert race.within(x + 0.1, toy.centres.numpy(), 0.1) == pytest.approx(0.1, abs=1e-6)
    assert math.isnan(race.within(np.full((3, 2), 50.0), toy.centres.numpy(), 0.1))


def test_schedules_end_where_they_say():
    """Rates of map and critic, Euler step and temperature at four shares of a run; the names of schedules are checked."""
    step = race.build(0, "sinkhorn", **SMALL)
    moves, values = [make(step) for make in race.SCHEDULES["all"]], []
    for share in (0.0, 0.25, 0.5, 1.0):
        for move in moves:
            move(share)
        values.append((step.optimiser.param_groups[0]["lr"], step.eps, step.field.reg))
    assert values[0] == pytest.approx((1e-3, 1.0, 0.2)) and values[2] == pytest.approx((5e-4, 0.55, 0.02))
    assert values[1][2] == pytest.approx(0.02 * 10**0.5) and values[3] == pytest.approx((0, 0.1, 0.02))
    critic = race.build(0, "w1", **SMALL)
    for make in race.SCHEDULES["all"]:
        make(critic)(0.5)
    assert [o.param_groups[0]["lr"] for o in race.optimisers(critic)] == pytest.approx([5e-4, 2.5e-4])
    with pytest.raises(UsageError, match="did you mean 'cosine'"):
        next(race.train(step, toys.get("ring"), 8, generator(0, "t"), 1, "cosin"))


def test_average_of_weights():
    T = PlaneMap(width=4)
    average = race.Average(T, 0.5)
    before = [w.clone() for w in T.parameters()]
    with torch.no_grad():
        for w in T.parameters():
            w += 1
    average.update()
    assert all(torch.allclose(m, b + 0.5) for m, b in zip(average.mean.parameters(), before, strict=True))


def test_first_iteration_below_the_threshold():
    reached = load_notebook("schedules").reached
    assert reached([(5, 0.3), (10, 0.1), (15, 0.05)], 0.12) == 10 and reached([(5, 0.3)], 0.12) == math.inf


def test_every_initialisation_has_the_work_of_the_cold_start():
    """What phase 1 costs is taken from the Euler steps: no run exceeds the budget, or leaves an iteration of it."""
    initialisation = load_notebook("initialisation")
    step, toy = race.build(0, "sinkhorn", **SMALL), toys.get("ring")
    for spent in (0.0, 3.5, 9.9):
        done = list(initialisation.euler_steps(step, toy, 8, generator(0, "t"), spent, 2.5, 10.0))
        last = done[-1][1] if done else spent
        assert len(done) == (10 - spent) // 2.5 and 10 - 2.5 < last <= 10
    plan = {"reg": 0.02, "iterations": 5}
    for make, target, steps in (value for value in initialisation.INITS.values() if value):
        z, x, y, work = make(0, target, {"flow_steps": 3, "short_steps": 1}[steps], 0.3, 16, plan, UNIT)
        assert z.shape == x.shape == y.shape == (16, 2) and work > 0
        # The straight half ends at the data, each point taken once.
        assert (make is initialisation.straightened) == (torch.cdist(x, y).min(0).values.max() == 0)


def test_rows_of_fields_that_have_both_values():
    frame = pd.DataFrame({"field": ["a", "a", "b"], "init": ["none", "flow", "none"], "w": [1, 2, 3]})
    assert [list(rows["w"]) for rows in race.within_fields(frame, "none", "flow", "init")["a"]] == [[1], [2]]
    assert list(race.within_fields(frame, "none", "flow", "init")) == ["a"]
