"""W2-FE in the plane: its identity with W2-GAN, the critic's loss and gradient, the critic against the truth, the experiment `ring`."""

import copy

import pandas as pd
import pytest
import torch

from gwf.data import toys
from gwf.errors import UsageError
from gwf.fields.learned import CriticField, slope_of
from gwf.fields.w2 import DualField, critic_loss
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import generator
from gwf.steps.euler import Descent, Euler
from notebooks.experiments.intervals import over
from tests.notebook_code import load_notebook

ring = load_notebook("ring")


def double(module):
    """Float64, so that rounding is far below anything a wrong factor would do."""
    return module.double()


def problem(target="theory", kind="dual", normalise=True):
    """A map, a field that is not trained, latents."""
    torch.manual_seed(0)
    T, nets = double(PlaneMap(2, 16, normalise=normalise)), [double(PlanePotential(2, 16, std=0.5)) for _ in range(2)]
    field = DualField(*nets, target=target) if kind == "dual" else CriticField("w1", nets[0])
    # Away from the identity, where the initial weights are too small to tell anything.
    for w in T.parameters():
        w.data += 0.3 * torch.randn_like(w)
    return T, field, torch.randn(32, 2, generator=generator(0, "z"), dtype=torch.float64)


def distance(a, b):
    return max(float((v - w).detach().abs().max()) for v, w in zip(a.parameters(), b.parameters(), strict=True))


def after(T, field, z, form, lr, optimiser=torch.optim.SGD, repeats=1, **settings):
    """A copy of the map after `repeats` updates."""
    T = copy.deepcopy(T)
    step = form(T, field, optimiser(T.parameters(), lr=lr), **settings)
    for _ in range(repeats):
        step.update(z, z)
    return T


@pytest.mark.parametrize("kind", ["dual", "w1"])
@pytest.mark.parametrize("eps", [1.0, 0.3])
def test_persistency_1_is_the_gan_of_the_same_field(kind, eps):
    """SGD with rate lr against rate 2 eps lr: the same parameters; the map moves by 1e-3 and more, rounding is 1e-16."""
    T, field, z = problem(kind=kind)
    ours, gan = after(T, field, z, Euler, 1e-2, eps=eps), after(T, field, z, Descent, 2 * eps * 1e-2)
    assert distance(ours, gan) < 1e-13
    assert distance(ours, T) > 1e-3


def test_the_identity_needs_persistency_1_and_the_potential_of_the_generated_side():
    """Negative controls: two frozen steps are not two GAN steps, and the released target follows another potential."""
    T, field, z = problem()
    twice = after(T, field, z, Descent, 2e-2, steps=2)
    assert distance(after(T, field, z, Euler, 1e-2, persistency=2), twice) > 1e-4
    _, released, _ = problem("released")
    assert distance(after(T, released, z, Euler, 1e-2), after(T, field, z, Descent, 2e-2)) > 1e-4


def adam(parameters, lr):
    """Adam with a constant that only a gradient of 0 meets: it is what sees the scale of a gradient."""
    return torch.optim.Adam(parameters, lr=lr, eps=1e-30)


def test_under_adam_persistency_1_does_not_see_eps():
    """Five steps: rounding alone, amplified by the map's nonlinearity; with persistency 2 eps is seen.

    Without batch norm, before which biases have no gradient, and Adam divides what is left by itself.
    """
    T, field, z = problem(normalise=False)
    far = [after(T, field, z, Euler, 1e-3, adam, 5, eps=eps) for eps in (1.0, 0.1)]
    assert distance(*far) < 1e-9
    frozen = [after(T, field, z, Euler, 1e-3, adam, 5, eps=eps, persistency=2) for eps in (1.0, 0.1)]
    assert distance(*frozen) > 1e-4


def direct_loss(p, e, x, y, weight, stream):
    """The loss as written, one pair at a time."""

    def h(t):
        return e(t) - p(t)

    def cost(a, b):
        return (a - b).square().sum() / 2

    def of(net, t):
        return net(t[None])[0, 0]

    s, r = torch.rand(2, len(x), 1, generator=stream, dtype=x.dtype)
    total = 0.0
    for i in range(len(x)):
        a, b = s[i] * y[i] + (1 - s[i]) * x[i], r[i] * x[i] + (1 - r[i]) * y[i]
        T_y, T_x = y[i] - slope_of(p, y[i][None])[0], x[i] - slope_of(h, x[i][None])[0]
        total -= of(p, y[i]) + of(h, x[i])
        total += weight * (of(p, y[i]) + of(h, x[i]) - cost(x[i], y[i])).clamp(min=0) ** 2
        total += weight * (of(p, a) + of(h, b) - cost(a, b)).clamp(min=0) ** 2
        total += weight * (of(p, y[i]) + of(h, T_y) - cost(y[i], T_y)) ** 2
        total += weight * (of(p, T_x) + of(h, x[i]) - cost(T_x, x[i])) ** 2
    return float(total.detach()) / len(x)


def potentials(d=3, width=16):
    torch.manual_seed(2)
    p, e = double(PlanePotential(d, width, std=0.4)), double(PlanePotential(d, width, std=0.4))
    x, y = torch.randn(2, 24, d, generator=generator(0, "points"), dtype=torch.float64)
    return p, e, x, y


def test_critic_loss_is_its_formula():
    """Stacked passes against one pair at a time: the same sums in another order."""
    p, e, x, y = potentials()
    ours = float(critic_loss(p, e, x, y, 7.0, generator(0, "pairs")).detach())
    assert ours == pytest.approx(direct_loss(p, e, x, y, 7.0, generator(0, "pairs")), rel=1e-12)
    assert ours != pytest.approx(direct_loss(p, e, y, x, 7.0, generator(0, "pairs")), rel=1e-2)


def test_critic_loss_is_its_formula_where_the_constraint_is_broken_and_where_it_is_kept():
    """Potentials raised by .45 break p + h <= c at some pairs and not at others: both one-sided terms count, gradients too."""
    p, e, x, y = potentials(d=2)
    with torch.no_grad():
        e[-1].bias += 0.45
    s, r = torch.rand(2, len(x), 1, generator=generator(1, "pairs"), dtype=x.dtype)
    a, b = s * y + (1 - s) * x, r * x + (1 - r) * y
    for at_y, at_x in ((y, x), (a, b)):
        excess = p(at_y) + e(at_x) - p(at_x) - (at_y - at_x).square().sum(1, keepdim=True) / 2
        assert 0.2 < float((excess > 0).double().mean()) < 0.8
    ours = float(critic_loss(p, e, x, y, 3.0, generator(1, "pairs")).detach())
    assert ours == pytest.approx(direct_loss(p, e, x, y, 3.0, generator(1, "pairs")), rel=1e-12)
    # By hand: central differences along a random direction of all weights, whose error is their step squared.
    weights, step = [*p.parameters(), *e.parameters()], 1e-6
    way = [torch.randn(w.shape, generator=generator(2, "way"), dtype=w.dtype) for w in weights]
    values = []
    for sign in (1, -2):
        with torch.no_grad():
            for w, d in zip(weights, way, strict=True):
                w += sign * step * d
        values.append(direct_loss(p, e, x, y, 3.0, generator(1, "pairs")))
    with torch.no_grad():
        for w, d in zip(weights, way, strict=True):
            w += step * d
    by_hand = float(DualField(p, e, weight=3.0).backward(x, y, generator(1, "pairs")))
    assert by_hand == pytest.approx(ours, rel=1e-12)
    slope = sum(float((w.grad * d).sum()) for w, d in zip(weights, way, strict=True))
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-6)


@pytest.mark.parametrize("positive", [0.0, 5.0])
def test_gradients_by_hand_are_autograd_s(positive):
    """Loss, gradients and velocity, to rounding; layers of unequal widths, with and without the penalty on positive h."""
    _, e, x, y = potentials()
    torch.manual_seed(3)
    p = double(
        torch.nn.Sequential(
            torch.nn.Linear(3, 9), torch.nn.ReLU(), torch.nn.Linear(9, 5), torch.nn.ReLU(), torch.nn.Linear(5, 1)
        )
    )
    weights, field = [*p.parameters(), *e.parameters()], DualField(p, e, weight=7.0, positive=positive)
    assert field.by_hand
    with torch.no_grad():  # half of the points have h > 0, so that the penalty on it acts
        [*e.parameters()][-1].sub_((e(x) - p(x)).median())
        assert 0 < (e(x) > p(x)).sum() < len(x)
    loss = field.loss(x, y, generator(0, "pairs"))
    expected = torch.autograd.grad(loss, weights)
    assert float(field.backward(x, y, generator(0, "pairs"))) == pytest.approx(float(loss.detach()), rel=1e-12)
    largest = max(float(g.abs().max()) for g in expected)
    for w, g in zip(weights, expected, strict=True):
        assert torch.allclose(w.grad, g, rtol=0, atol=1e-12 * largest)
    assert torch.allclose(field(x), -slope_of(field.potential, x), atol=1e-14)


def test_a_subclass_with_its_own_loss_is_left_to_autograd():
    """Its gradient by hand would be that of another loss."""

    class Twice(DualField):
        def loss(self, x, y, generator):
            return 2 * super().loss(x, y, generator)

    p, e, x, y = potentials()
    once, twice = DualField(p, e), Twice(p, e)
    assert once.by_hand and not twice.by_hand
    assert float(twice.backward(x, y, generator(0, "pairs"))) == pytest.approx(
        2 * float(once.backward(x, y, generator(0, "pairs")))
    )


def test_networks_of_another_form_use_autograd():
    p = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.SiLU(), torch.nn.Linear(4, 1))
    field = DualField(p, PlanePotential(2, 4))
    assert not field.by_hand
    before = [w.detach().clone() for w in p.parameters()]
    x, y = torch.randn(2, 8, 2)
    field.improve(x, y, generator(0, "pairs"))
    # All but the last bias, which cancels in every term of the loss.
    assert all(not torch.equal(v, w) for v, w in zip(before[:-1], list(p.parameters())[:-1], strict=True))


def test_the_critic_finds_the_displacement_between_gaussians():
    """L2-UVP, 100 E|V - V*|^2 / Var nu, after 400 steps: a few percent in the plane (w2fe); the field 0 scores over 100."""
    std, shift = torch.tensor([0.3, 0.7]), torch.tensor([0.8, -0.4])
    torch.manual_seed(0)
    field, stream = DualField(PlanePotential(width=32), PlanePotential(width=32), lr=2e-3), generator(0, "gaussians")
    for _ in range(400):
        x, y = 0.5 * torch.randn(128, 2, generator=stream), shift + std * torch.randn(128, 2, generator=stream)
        field.improve(x, y, stream)
    x = 0.5 * torch.randn(4000, 2, generator=stream)
    exact = shift + x * (std / 0.5) - x
    uvp = 100 * float((field(x) - exact).square().sum(1).mean() / std.square().sum())
    still = 100 * float(exact.square().sum(1).mean() / std.square().sum())
    assert uvp < 8 and still > 100


def test_every_method_trains_on_every_toy_and_starts_alike():
    """Two iterations of small networks: scores are finite, and before the first one they are the same for all."""
    started = set()
    for toy, method in [*(("ring", name) for name in ring.METHODS), ("swiss_roll", "w2fe")]:
        training = ring.settings_of({"method": method, "schedule": "cosine"}, 2)
        step, score = ring.step_of(0, training, 8, 2), ring.Score(toys.get(toy), 0, 32)
        scores = [row for _, row in ring.learn(step, score, generator(0, "t"), training, 16, 1, 0.9)]
        # No spread where no point has come near a mode.
        assert len(scores) == 3 and all(
            torch.isfinite(torch.tensor([row["w1"], row["w2_ema"]])).all() for row in scores
        )
        assert ("modes" in scores[0]) == (toy == "ring")
        started |= {scores[0]["w1"]} if toy == "ring" else set()
    assert len(started) == 1


@pytest.mark.parametrize(
    "training, said",
    [
        ({"method": "w2ef"}, "did you mean 'w2fe'"),
        ({"method": "w2fe", "persistancy": 3}, "did you mean 'persistency'"),
        ({"method": "w2gan", "persistency": 3}, "'naive'"),
        ({"method": "w2fe", "schedule": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_wrong_settings_are_named(training, said):
    with pytest.raises(UsageError, match=said):
        ring.settings_of(training, 4)


def test_a_short_training_without_critic_reaches_the_ring():
    """60 iterations of Sinkhorn at rate 1e-3 and persistency 3: from .95 to below .35, at one second of work."""
    training = ring.settings_of({"method": "sinkhorn", "persistency": 3, "lr": 1e-3}, 60)
    step, score = ring.step_of(0, training, 32, 5), ring.Score(toys.get("ring"), 0, 256)
    stream = generator(0, "ring training")
    first, last = (row["w1"] for _, row in ring.learn(step, score, stream, training, 64, 60, 0.98))
    assert first > 0.9 and last < 0.35


def test_iterations_to_a_level_lie_between_evaluations():
    """W1 .5 at 100 and .1 at 200 crosses .3 at 150."""
    rows = pd.DataFrame({"iteration": [0, 100, 200], "w1": [0.9, 0.5, 0.1]})
    assert ring.first_below(rows, 0.3) == pytest.approx(150)
    assert ring.first_below(rows, 0.05) == float("inf") and ring.first_below(rows, 1) == 0


def test_a_training_that_ends_before_its_level_leaves_its_side_open():
    """Three seeds, 150 iterations against 75: the ratio is 2 in each. One seed of either that never falls opens a side."""
    slow, fast = (
        pd.concat([pd.DataFrame({"iteration": [0, k, 2 * k], "w1": [0.9, 0.5, 0.1], "seed": s}) for s in range(3)])
        for k in (100, 50)
    )
    never = slow.assign(w1=slow["w1"].where(slow["seed"] > 0, 0.9))
    took = lambda part: min(ring.first_below(part, 0.3), part["iteration"].max())
    assert over(slow, fast, took) == pytest.approx((2, 2))
    low, high = over(never, fast, took)
    assert 1 < low < 2.2 and high == float("inf")
    assert over(fast, never, took) == pytest.approx((0, 1 / low))
    assert over(slow, slow.assign(w1=2 * slow["w1"]), lambda part: part["w1"].mean()) == pytest.approx((0.5, 0.5))
