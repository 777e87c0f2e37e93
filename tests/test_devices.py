"""Nothing makes a CPU tensor where its arguments live elsewhere, nor reads a value in an update: tried on a device that
refuses the first and notes the second. The numbers are those of the CPU, which computes both, to rounding."""

import math

import pytest
import torch
from pretended_device import DEVICE, Mixed, pretended

from gwf import divergences, fields
from gwf.data import toys
from gwf.fields.learned import FunctionalField
from gwf.nets.icnn import DenseICNN
from gwf.nets.mlp import MLP, AffineIncrement, RatioNet, ResidualMLP
from gwf.nets.plane import PlanePotential
from gwf.nets.toy import ExpertsMap, ToyMap, ToyPotential
from gwf.seeding import generator
from gwf.steps import internal, references
from gwf.steps import semidual as sd
from gwf.steps.euler import Descent, Euler, iterate, particle_flow
from gwf.steps.icnn import ICNNStep, StochasticLogDet
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
#: Values that are read, where there are any: never in an update of the networks but for the last two.
READS = {
    # The last loss of each of two JKO steps; the moments of the reference too; the size of the cloud in one step.
    **dict.fromkeys(("icnn", "s-jko", "uotm", "uotm, all pairs", "s-jko, jsd", "experts"), 2),
    **{"variational": 4, "porous, ball": 1, "porous, box": 1, "interaction": 2, "splitting": 2},
    "mala": 2,  # counts what it accepts
    "field minibatch_ot": 2,  # its assignment is solved on the host
    "icnn, stochastic": 14,  # conjugate gradients stop once they have converged: each iteration is a backward pass
}


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_stays_on_its_device(name):
    torch.manual_seed(0)
    expected = UPDATES[name]("cpu")
    torch.manual_seed(0)
    with pretended() as seen:
        found = UPDATES[name](DEVICE)
        assert len(seen.reads) <= READS.get(name, 0), seen.reads
        assert all(t.device == DEVICE for t in found)
        found = torch.cat([t.detach().held.flatten() for t in found])
    expected = torch.cat([t.detach().flatten() for t in expected])
    # Adam makes a whole step of the rounding of a gradient that is zero: not every weight agrees.
    assert (found - expected).abs().quantile(0.8) < 1e-5


def test_the_device_refuses_to_mix():
    with pretended() as seen:
        x = torch.ones(3, device=DEVICE)
        with pytest.raises(Mixed):
            x + torch.ones(3)
        assert float(x.sum()) == 3 and seen.reads, "a read is noted"
