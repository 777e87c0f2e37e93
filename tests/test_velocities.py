"""Every recipe moves mu towards the data, at the speed of its functional, when its critic is the best one.

mu = N(m, 1) against nu = N(0, 1) on the line, where the best critic is known: the first variation's gradient is V, so the
mean of V is -d/dm of the functional. Laws are quantiles of equal weight, whose missing tails cost what the tolerances allow.
"""

import pytest
import torch
from scipy import stats
from torch import nn

from companion.params import check_training
from gwf import divergences, fields
from gwf.bounds import FDivergence
from gwf.errors import UsageError
from gwf.fields.learned import CriticField, FunctionalField
from gwf.steps.euler import Descent
from gwf.steps.jko import JKO, JKOStep
from gwf.training import explicit, recipes

M = 0.5
# The best critic of w1_r1 is no function of the ratio: tests/test_divergences.py has its value.
DIRECTIONS = [(name, swapped) for name in divergences.names() if name != "w1_r1" for swapped in (False, True)]
#: Recipes that follow a critic or a field alone; of learned features the best ones are not known.
FOLLOW = [
    f"{name}-{step}"
    for name in recipes.functionals()
    for step in recipes.steps(name)
    if step in ("gan", "jko", "euler") and not hasattr(fields.FIELDS.get(name), "outputs")
]


def quantiles(m, n):
    return (torch.tensor(stats.norm.ppf((torch.arange(n) + 0.5) / n)) + m)[:, None]


class Best(nn.Module):
    """The best critic of N(m, 1) against N(0, 1), scaled where its scale and sign are free."""

    def __init__(self, functional, m, scale=1.0):
        super().__init__()
        self.functional, self.m, self.scale = functional, m, nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, x):
        if not isinstance(getattr(self.functional, "base", self.functional), FDivergence):
            return self.scale * x * (1 if self.functional in map(divergences.get, ("w1", "w1_r1")) else -1)  # m > 0
        return self.scale * self.functional.optimal_output(self.m * x - self.m**2 / 2)


def functional_of(name, swapped):
    F = divergences.get(name)
    return F.swapped if swapped else F


def slope_of_value(name, swapped, m=M, step=1e-4):
    """dF/dm by central differences of quadratures; of KL - 2 JS where the map descends the non-saturating loss."""
    if name == "w1":
        return 1.0
    x = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    weights = torch.full_like(x, 24 / 4000)
    normal = lambda m: torch.exp(-((x - m) ** 2) / 2) / (2 * torch.pi) ** 0.5  # noqa: E731

    def slope(F):
        return float(F.value(normal(m + step), normal(0), weights) - F.value(normal(m - step), normal(0), weights))

    F = functional_of(name, swapped)
    whole = slope(divergences.get("kl")) - slope(F) if name == "js_ns" and not swapped else slope(F)
    return whole / (2 * step)


@pytest.mark.parametrize(("name", "swapped"), DIRECTIONS)
@pytest.mark.parametrize("scale", [1.0, -3.0])
def test_velocity_of_every_functional_in_both_directions(name, swapped, scale):
    """Mean V = -dF/dm. Sign and scale of the tight critic are free; for the others only the best critic is asked for.

    V is compared sample by sample with differences of the loss too: the batch's other samples must not leak into it.
    """
    if scale != 1 and name != "chi2_tight":
        return
    F, n = functional_of(name, swapped), 50_001
    field = FunctionalField(F, Best(F, M, scale))
    x, y = quantiles(M, n), quantiles(0.0, n)
    V = field(x, y)
    expected = -slope_of_value(name, swapped)
    assert expected < 0 and float(V.mean()) == pytest.approx(expected, rel=2e-2 if "chi2" in name else 5e-3)
    few_x, few_y = x[:: n // 7], y[:: n // 7]
    few, step = field(few_x, few_y), 1e-6
    for i in (0, 3):
        moved = [few_x.clone() for _ in range(2)]
        moved[0][i] += step
        moved[1][i] -= step
        up, down = (F.map_loss(field.critic(z), field.critic(few_y)).item() for z in moved)
        assert float(few[i, 0]) == pytest.approx(-len(few_x) * (up - down) / (2 * step), rel=1e-5, abs=1e-7)


def potentials_of_w2(m):
    """p and e of W2^2/2 for a shift by m: h(x) = m x, p(y) = -m y - m^2/2, so that p + h <= (x - y)^2 / 2, and e = p + h."""
    p, e = nn.Linear(1, 1), nn.Linear(1, 1)
    with torch.no_grad():
        for net, (weight, bias) in ((p, (-m, -(m**2) / 2)), (e, (0.0, -(m**2) / 2))):
            net.weight.fill_(weight)
            net.bias.fill_(bias)
    return [p.double(), e.double()]


@pytest.mark.parametrize("recipe", FOLLOW)
@pytest.mark.parametrize("scale", [1.0, -3.0])
def test_every_recipe_points_to_the_data(recipe, scale):
    """The mean velocity at the best critic is towards the data: of `euler` the field's, of `gan` and `jko` the map loss's."""
    name, step = recipe.split("-")
    if scale != 1 and name != "chi2_tight":
        return
    x, y = quantiles(M, 400), quantiles(0.0, 400)
    if step == "euler":
        count = explicit.potentials(name)
        nets = potentials_of_w2(M) if count == 2 else [Best(divergences.get(name), M, scale) for _ in range(count)]
        other = quantiles(M, 400).flip(0) + 1e-3
        V = explicit.field_of(name, nets, explicit.EulerSettings())(x, y, other, torch.Generator().manual_seed(0))
    else:
        F = divergences.get(name)
        game = JKOStep(F, Best(F, M, scale), JKO(nn.Identity(), tau=float("inf") if step == "gan" else 0.5))
        shift = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(sum(game.map_loss(x + shift, x, y)), shift)
        V = -gradient
    assert float(V.mean()) < -0.02  # -0.05 M, drifting's with its width of 0.05, is the slowest


def test_the_non_saturating_loss_has_a_field_of_its_own():
    """js_ns-euler was js-euler to the last bit: it is no recipe now. The two fields add up to that of KL, of slope m."""
    x, y = quantiles(1.0, 101), quantiles(0.0, 101)
    js, other = (FunctionalField(name, Best(divergences.get(name), 1.0))(x, y) for name in ("js", "js_ns"))
    assert float((js - other).abs().max()) > 0.1
    assert torch.allclose(js + other, torch.full_like(js, -1.0), atol=1e-9)
    assert {"js-euler", "js_ns-jko"} <= set(recipes.names()) and "js_ns-euler" not in recipes.names()
    with pytest.raises(UsageError, match="unknown recipe 'js_ns-euler'"):
        check_training(
            {
                "experiments": {},
                "training": {"digits": {"case": {"functional": "js_ns", "step": "euler", "settings": {}}}},
            }
        )


def test_the_plain_critic_field_agrees_where_it_is_right():
    x, y = quantiles(M, 50), quantiles(0.0, 60)
    for name in ("kl", "kl_dv", "js", "chi2", "hellinger", "reverse_kl", "w1"):
        critic = Best(divergences.get(name), M)
        assert torch.allclose(CriticField(name, critic)(x, y), FunctionalField(name, critic)(x, y), atol=1e-12), name


def test_the_swapped_tight_chi2_can_be_trained():
    """Its map loss needs the data, and said that it did not."""
    F = divergences.get("chi2_tight").swapped
    assert F.map_needs_data and F.swapped is divergences.get("chi2_tight")
    game = JKOStep(F, Best(F, M), JKO(nn.Identity(), tau=0.5))
    x, y = quantiles(M, 50), quantiles(0.0, 60)
    assert sum(game.map_loss(x, x, y)).isfinite()


def test_a_field_without_a_potential_is_not_descended():
    field = fields.get("chi2_tight", lambda: Best(divergences.get("chi2_tight"), M))
    with pytest.raises(UsageError, match="no potential"):
        Descent(nn.Linear(1, 1), field, None)
