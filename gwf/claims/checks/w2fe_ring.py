"""Check of W2-FE's identity with W2-GAN."""

import torch

from gwf.claims.outcome import Outcome
from gwf.claims.registry import change, check, exact
from gwf.fields.w2 import DualField
from gwf.nets.plane import PlaneMap, PlanePotential
from gwf.seeding import derive, generator
from gwf.steps.euler import Descent, Euler


def trained(form, optimiser, target, updates, **settings):
    """Weights of a small map in float64 after some updates on an untrained field, one vector."""
    torch.manual_seed(derive(0, "w2fe-C4"))
    T = PlaneMap(2, 16, normalise=False).double()
    for w in T.parameters():
        w.data += 0.3 * torch.randn_like(w)
    field = DualField(*(PlanePotential(2, 16, std=0.5).double() for _ in range(2)), target=target)
    step = form(T, field, optimiser(T.parameters()), **settings)
    for z in torch.randn(updates, 64, 2, generator=generator(0, "w2fe-C4"), dtype=torch.float64):
        step.update(z, None)
    return torch.nn.utils.parameters_to_vector(T.parameters()).detach()


def sgd(lr):
    return lambda weights: torch.optim.SGD(weights, lr=lr)


def adam(weights):
    """Its constant as good as 0: with 1e-8 the scale of a gradient, so eps, is seen again."""
    return torch.optim.Adam(weights, lr=1e-3, eps=1e-30)


@check("w2fe-C4", exact(persistency=1, target="theory"), change(target="released"), change(persistency=2))
def persistency_one(evidence):
    """Five updates of W2-FE and of W2-GAN with as many generator steps, SGD with the rates lr and 2 eps lr; Adam at two eps."""
    eps, lr, J, target = 0.3, 1e-2, evidence["persistency"], evidence["target"]
    ours = trained(Euler, sgd(lr), target, 5, eps=eps, persistency=J)
    gan = trained(Descent, sgd(2 * eps * lr), "theory", 5, steps=J)
    under_adam = [trained(Euler, adam, target, 5, eps=e, persistency=J) for e in (1.0, 0.1)]
    return Outcome(
        {
            "largest difference of a weight under SGD": float((ours - gan).abs().max()),
            "largest difference between eps 1 and .1 under Adam": float((under_adam[0] - under_adam[1]).abs().max()),
        },
        f"{len(ours)} weights in float64, which the five updates moved by up to {moved(target, sgd(lr), eps, J, ours):.3f}.",
    )


def moved(target, optimiser, eps, J, now):
    """Largest change of a weight since the start."""
    return float((now - trained(Euler, optimiser, target, 0, eps=eps, persistency=J)).abs().max())
