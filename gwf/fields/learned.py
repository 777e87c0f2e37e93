r"""Velocity fields with potentials, V = -grad h, that are learned beside the map.

`gwf.fields.w2.DualField` learns the two potentials of W2; `FunctionalField` descends the map's loss of any variational
functional, `CriticField` the critic itself. Sources: w2fe (W2, W1), proposal (the family). Chapter `explicit`.
"""

import torch

from gwf import divergences
from gwf.errors import UsageError
from gwf.fields.base import Field
from gwf.steps.penalties import penalty


def slope_of(potential, x):
    """grad potential at x (n, ...), without graph; `potential` maps to (n, 1) or (n,)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(potential(x).sum(), x)
    return slope


class Learned(Field):
    """What fields with networks (name -> network) and an optimiser, Adam with `lr` and `betas`, share."""

    #: Key of the field's critic step among the units of `work`.
    name = ""

    def __init__(self, networks, lr, critic_steps, betas):
        self._networks, self.critic_steps = networks, critic_steps
        self.parameters = [w for net in networks.values() for w in net.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, lr=lr, betas=betas, fused=True)

    def loss(self, x, y, generator):
        """What the potentials minimise, a scalar."""
        raise NotImplementedError

    def potential(self, x):
        """h, of which V = -grad h, at x (n, ...): (n, 1)."""
        raise NotImplementedError

    def improve(self, x, y, generator=None):
        """One Adam step on the loss; no graph reaches x. Returns the loss."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = self.backward(x.detach(), y, generator)
        self.optimiser.step()
        return loss

    def backward(self, x, y, generator):
        """Add the loss's gradients to the weights. Returns the loss."""
        loss = self.loss(x, y, generator)
        loss.backward()
        return loss.detach()

    def velocity(self, x, y=None, other=None, generator=None):
        return -slope_of(self.potential, x)

    def __call__(self, x, y=None, other=None, generator=None):
        """`velocity`; the potentials have seen the data."""
        return self.velocity(x)

    def work(self, batch, unit):
        """The critic steps; V itself is one more pass and is not counted."""
        return self.critic_steps * unit[self.name]

    def networks(self):
        return self._networks

    def state_dict(self):
        return {name: net.state_dict() for name, net in self._networks.items()} | {
            "optimiser": self.optimiser.state_dict()
        }

    def load_state_dict(self, state):
        for name, net in self._networks.items():
            net.load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])


class CriticField(Learned):
    """-grad h of the critic of a variational functional: for W1 the field of unit speed, for KL the score difference.

    Right where h is the first variation of F, for W1 and the plain f-divergences; not for `chi2_tight` (sign and scale
    are free), `js_ns` (another loss) or D(nu || mu), of first variation -f*(h): `FunctionalField` serves all.

    Parameters
    ----------
    functional : str or gwf.bounds.Functional
        With a bound over one critic, else `UsageError`.
    critic : torch.nn.Module
        x (n, ...) -> u (n, 1).
    weight : float
        Of the critic's penalty: one-sided gradient penalty for W1, R1 else.
    penalty_of : callable (critic, x, y, generator) -> (u(y), value), optional
        Another penalty, e.g. `gwf.steps.penalties.two_sided`.
    """

    potentials = ("critic",)

    def __init__(self, functional, critic, weight=10.0, lr=5e-4, critic_steps=5, betas=(0.9, 0.999), penalty_of=None):
        super().__init__({"critic": critic}, lr, critic_steps, betas)
        self.functional = divergences.get(functional) if isinstance(functional, str) else functional
        if not hasattr(self.functional, "map_loss"):
            raise UsageError(f"{functional!r} has no critic: use gwf.fields.get({functional!r})")
        self.title = self.functional.title
        self.critic, self.weight = critic, weight
        self.penalty_of = penalty_of or penalty(self.functional.penalty)

    def loss(self, x, y, generator):
        u_nu, value = self.penalty_of(self.critic, x, y, generator)
        return self.functional.critic_loss(self.critic(x), u_nu) + self.weight * value

    def potential(self, x):
        """h(u): at the optimal critic the first variation of F, per sample."""
        return self.functional.h(self.critic(x))


class W1Field(CriticField):
    """`CriticField` of W1, by its name in `gwf.fields`."""

    title, name = "W1", "w1"

    def __init__(self, critic, weight=10.0, lr=5e-4, critic_steps=5, betas=(0.9, 0.999), penalty_of=None):
        super().__init__("w1", critic, weight, lr, critic_steps, betas, penalty_of)


class FunctionalField(CriticField):
    """V(x_i) = -n grad_{x_i} of the map's loss on the batch, the steepest descent of any functional with a critic.

    At the optimal critic the loss's derivative along one sample is 1/n times the gradient of the first variation: of h(u)
    where the loss is E h, -f*(h(u)) for D(nu || mu), 2 (E_mu h - E_nu h) h / Var_nu h for the tight chi2.
    """

    def velocity(self, x, y, other=None, generator=None):
        """V at generated x (n, ...); the data y (m, ...) enter the losses that need them."""
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            loss = self.functional.map_loss(self.critic(x), self.critic(y).detach())
            (slope,) = torch.autograd.grad(loss, x)
        return -len(x) * slope

    def __call__(self, x, y, other=None, generator=None):
        return self.velocity(x, y)

    @property
    def potential(self):
        """None in general: the loss need not be a mean over samples."""
        raise AttributeError("the field of a functional has no potential of single samples")


class TightChi2Field(FunctionalField):
    """`FunctionalField` of the tight chi2, by its name in `gwf.fields`."""

    title, name = "chi2 tight", "chi2_tight"

    def __init__(self, critic, weight=10.0, lr=5e-4, critic_steps=5, betas=(0.9, 0.999), penalty_of=None):
        super().__init__(self.name, critic, weight, lr, critic_steps, betas, penalty_of)
