"""Nothing makes a CPU tensor where its arguments live elsewhere, nor reads a value or copies one in an update: tried on a device
that refuses the first and notes the others. The numbers are those of the CPU, which computes both, to rounding.

Recipes are tried in `test_recipes.py`, and a GPU in `test_gpu.py`."""

import math

import numpy as np
import pytest
import torch
from pretended_device import DEVICE, Mixed, pretended
from torch import nn

import gwf
from gwf import divergences, fields
from gwf.data import toys
from gwf.fields.learned import FunctionalField
from gwf.flows import functionals
from gwf.nets.icnn import DenseICNN, log_det
from gwf.nets.mlp import MLP, AffineIncrement, RatioNet, ResidualMLP
from gwf.nets.plane import PlanePotential
from gwf.nets.toy import ExpertsMap, ToyMap, ToyPotential
from gwf.seeding import generator
from gwf.steps import internal, references
from gwf.steps import semidual as sd
from gwf.steps.euler import Descent, Euler, iterate, particle_flow
from gwf.steps.icnn import ICNNStep, StochasticLogDet, conjugate_gradients
from gwf.steps.increments import ParticleCache, VariationalStep, compositions
from gwf.steps.jko import Alternation, Increments
from notebooks.experiments.aggregation_particles import Interaction, Push, double_well, quadratic
from notebooks.experiments.bayes_langevin import mala, svgd, ula
from notebooks.experiments.porous_references import UniformBall, UniformBox

TOY = toys.get("ring")


def normal(n, stream):
    return torch.randn(n, 2, generator=stream, device=stream.device)


def log_normal(x):
    return -x.square().sum(1) / 2


def euler(field):
    """One outer iteration with the field: improve it, freeze the target, regress; the map."""

    def run(device):
        T, stream = ResidualMLP(2, 8, 1).to(device), generator(0, "draws", device)
        V = field(device)
        step = Euler(T, V, torch.optim.Adam(T.parameters(), 1e-3, fused=True), 0.5, 2)
        iterate(step, TOY.data, TOY.source, 16, stream)
        if hasattr(V, "potential") and not hasattr(V, "outputs"):  # features have no potential
            iterate(Descent(T, V, step.optimiser), TOY.data, TOY.source, 16, stream)
        return list(T.parameters())

    return run


def named(name):
    return euler(lambda device: fields.get(name, lambda: PlanePotential(width=8).to(device), critic_steps=1))


def critic(name):
    return euler(lambda device: FunctionalField(name, MLP(2, 1, 8, 1).to(device), critic_steps=1))


def particles(device):
    stream = generator(0, "draws", device)
    return [particle_flow(fields.get("sinkhorn"), TOY.source(16, stream), TOY.data, 0.5, 2, stream, batch=8)]


def jko(name, tau=0.5):
    """Two phases of alternating updates; map and critic."""

    def run(device):
        T, h = ResidualMLP(2, 8, 1).to(device), MLP(2, 1, 8, 1).to(device)
        settings = {"per_dimension": False, "penalty": 0.1, "lr_map": 1e-3, "lr_critic": 1e-3, "batch": 16, "seed": 0}
        game = Alternation(name, T, h, normal, TOY.data, tau, device=device, **settings)
        for _ in range(2):
            game.cycle(1, 1)
            game.advance()
        return [*T.parameters(), *h.parameters()]

    return run


def jko_increments(device):
    h = MLP(2, 1, 8, 1).to(device)
    settings = {"per_dimension": False, "penalty": 0.1, "lr_map": 1e-3, "lr_critic": 1e-3, "batch": 16, "seed": 0}
    make = lambda: ResidualMLP(2, 8, 1).to(device)
    scheme = Increments(make, normal, functional="kl_dv", h=h, data=TOY.data, tau=0.5, device=device, **settings)
    for _ in range(2):
        scheme.cycle(1, 1)
        scheme.advance()
    return list(h.parameters())


def composed(step, device):
    cache = ParticleCache(normal(32, generator(0, "cache", device)))
    list(compositions(step, cache, steps=2, iterations=2, batch=16, stream=generator(0, "batches", device)))
    return [cache.x]


def variational(device):
    step = VariationalStep(
        references.KLThroughReference(log_normal),
        ResidualMLP(2, 8, 1).to(device),
        MLP(2, 1, 8, 1).to(device),
        0.1,
        generator(0, "reference", device),
        lr_map=1e-3,
        lr_critic=1e-3,
    )
    return composed(step, device)


def icnn(log_det_of=lambda device: None):
    def run(device):
        psi = DenseICNN(2, 8, eps=0.1).to(device)
        return composed(ICNNStep(psi, log_normal, 0.1, lr=1e-3, log_det_of=log_det_of(device)), device)

    return run


def internal_energy(entropy, reference, energies=(), push=None):
    def run(device):
        dual = internal.EntropyDual(entropy, RatioNet(2, 8).to(device), reference)
        flow = internal.VariationalFlow(
            internal.VariationalStep(dual, AffineIncrement(2).to(device), 0.1, 1.0, energies),
            normal(32, generator(0, "cache", device)),
            generator(0, "draws", device),
            iterations=2,
            ratio_updates=1,
            batch=16,
            lr_map=1e-3,
            lr_ratio=1e-3,
            warm_up=1,
            push=push,
        )
        flow.advance()
        return [flow.x]

    return run


def semidual(make, T=lambda: ToyMap(2, 2, 8, 1, 1), latents=sd.matched):
    def run(device):
        maps, v = T().to(device), ToyPotential(2, 8, 1, 1).to(device)
        step = make(v, sd.Anchor(0.5, latents=latents))
        source = lambda n, stream: (normal(n, stream), normal(n, stream))
        settings = {"lr_map": 1e-3, "lr_potential": 1e-3, "batch": 16, "generator": generator(0, "draws", device)}
        sd.train(step, maps, source, TOY.data, [1, 1], noise=sd.released_noise, **settings)
        return [*maps.parameters(), *v.parameters()]

    return run


def langevin(sampler):
    return lambda device: [sampler(normal(8, generator(0, "x", device)), generator(0, "draws", device))]


kl = divergences.entropy("kl")
UPDATES = {
    **{f"field {name}": named(name) for name in fields.names()},
    **{
        f"critic {name}": critic(name)
        for name in ("kl", "kl_dv", "js", "chi2", "chi2_tight", "hellinger", "reverse_kl")
    },
    "particles": particles,
    **{f"jko {name}": jko(name) for name in ("kl", "js_ns", "chi2_tight", "w1")},
    "gan": jko("js", math.inf),
    "increments": jko_increments,
    "variational": variational,
    "icnn": icnn(),
    "icnn, stochastic": icnn(lambda device: StochasticLogDet(generator(0, "signs", device))),
    "porous, ball": internal_energy(divergences.Power(2), UniformBall()),
    "porous, box": internal_energy(divergences.Power(3), UniformBox()),
    "interaction": internal_energy(divergences.Boltzmann(), references.MomentGaussian(), [Interaction(double_well)]),
    "splitting": internal_energy(divergences.Boltzmann(), references.MomentGaussian(), push=Push(quadratic, 0.1, 16)),
    "s-jko": semidual(lambda v, anchor: sd.SemiDualStep(kl, v, anchor, 0.1), latents=sd.independent),
    "uotm": semidual(lambda v, anchor: sd.RelaxedSourceStep(kl, kl, v, anchor)),
    "uotm, all pairs": semidual(lambda v, anchor: sd.AllPairsStep(kl, kl, v, anchor)),
    "s-jko, jsd": semidual(lambda v, anchor: sd.NonSaturatingStep(v, anchor)),
    "experts": semidual(lambda v, anchor: sd.SemiDualStep(kl, v, anchor), lambda: ExpertsMap(torch.eye(2), 8, 1)),
    "ula": langevin(lambda x, stream: ula(log_normal, x, 0.1, 2, stream)),
    "mala": langevin(lambda x, stream: mala(log_normal, x, 0.1, 2, stream)[0]),
    "svgd": langevin(lambda x, stream: svgd(log_normal, x, 0.1, 2)),
}
#: What is read and copied, at most, where there is any of it, and whose docstring says so.
HOST = {
    # The last loss of each of two steps.
    **dict.fromkeys(("s-jko", "uotm", "uotm, all pairs", "s-jko, jsd", "experts"), (2, 0, [sd.phases])),
    # The moments of the reference too, which is refitted once in a step.
    "variational": (4, 6, [compositions, references.GaussianReference.fitted]),
    "porous, ball": (1, 0, [UniformBall.fit]),
    "porous, box": (1, 0, [UniformBox.fit]),
    **dict.fromkeys(("interaction", "splitting"), (4, 0, [references.MomentGaussian.fit])),
    "mala": (2, 0, [mala]),  # counts what it accepts
    # In every update: an assignment; whether a matrix was positive definite; whether conjugate gradients have converged.
    "field minibatch_ot": (2, 1, [fields.FIELDS["minibatch_ot"]]),
    "icnn": (6, 0, [compositions, log_det]),
    "icnn, stochastic": (14, 0, [compositions, conjugate_gradients]),
}


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_stays_on_its_device(name, monkeypatch):
    torch.manual_seed(0)
    expected = UPDATES[name]("cpu")
    torch.manual_seed(0)
    reads, copies, documented = HOST.get(name, (0, 0, []))
    with pretended() as seen:
        TOY.data(2, generator(0, "constants, which are copied once", DEVICE))
        seen.copies.clear()
        monkeypatch.setattr(nn.Module, "to", seen.unnoted(nn.Module.to))  # networks are made on the CPU
        found = UPDATES[name](DEVICE)
        assert len(seen.reads) <= reads and len(seen.copies) <= copies, seen.reads + seen.copies
        assert all(t.device == DEVICE for t in found)
        found = torch.cat([t.detach().held.flatten() for t in found])
    assert all("host" in place.__doc__ for place in documented)
    expected = torch.cat([t.detach().flatten() for t in expected])
    # Adam makes a whole step of the rounding of a gradient that is zero: not every weight agrees.
    assert (found - expected).abs().quantile(0.8) < 1e-5


@pytest.mark.parametrize("name", functionals.names())
def test_a_flow_stays_on_its_device(name):
    """Explicit steps, and implicit ones where there is a value; and V alone, where the host waits if a docstring says so."""
    x, y = (torch.randn(n, 2, generator=generator(0, f"{n} points")) for n in (12, 16))
    F = functionals.get(name, x)
    few = {"warm_up": 2} if F.potentials else {}
    for method, steps in ({"explicit": 2} | ({"jko": 1} if hasattr(F, "value") else {})).items():
        expected = gwf.flow(x, y, name, method=method, steps=steps, **few).particles
        with pretended():
            found = gwf.flow(x.to(DEVICE), y.to(DEVICE), name, method=method, steps=steps, **few).particles
            assert found.device == DEVICE and torch.allclose(found.held, expected, atol=1e-5)
    with pretended() as seen:
        x, y, stream = x.to(DEVICE), y.to(DEVICE), generator(0, "flow", DEVICE)
        F = functionals.get(name, x)
        getattr(F, "prepare", lambda y: None)(y)
        seen.reads.clear(), seen.copies.clear()
        F.velocity(x, y, x, stream)
        documented = any("host" in (kind.__doc__ or "") for kind in type(F).__mro__)
        assert bool(seen.reads or seen.copies) == documented, seen.reads + seen.copies


def test_the_device_refuses_to_mix():
    with pretended() as seen:
        x = torch.ones(3, device=DEVICE)
        with pytest.raises(Mixed):
            x + torch.ones(3)
        assert not seen.reads and not seen.copies
        for wait in (
            lambda: float(x.sum()),
            lambda: x[x > 0],
            lambda: x.cpu(),
            lambda: torch.linalg.cholesky(torch.eye(2, device=DEVICE)),
        ):
            before = len(seen.reads)
            wait()
            assert len(seen.reads) > before, "a read is noted"
        assert not seen.copies
        for copy in (
            lambda: torch.ones(3).to(DEVICE),
            lambda: x.copy_(torch.ones(3)),
            lambda: torch.as_tensor(np.ones(3), device=DEVICE),
        ):
            before = len(seen.copies)
            copy()
            assert len(seen.copies) > before, "a copy is noted"
        x[:2] += 1
        x[0] = 3.0
        assert x.sum().device == DEVICE and len(seen.copies) == 3, "numbers are none"
