r"""Velocity fields behind one interface, critics and critic-free alike, so that one loop runs them all.

    field.critic_steps                     updates of the potentials per time step: 0 where there are none
    field.improve(x, y, generator)         one update of the potentials on generated x and data y
    field(x, y, other, generator)          V at x, shaped as x, without graph
    field.needs_other                      whether `other`, a second generated batch, is looked at

`Direct` wraps a functional that has its velocity in closed form (Sinkhorn, sliced W2, MMD, minibatch OT); `DualField`
learns the two potentials of W2; `CriticField` descends the critic of any variational functional (W1, and the
f-divergences). Sources: w2fe (W2, W1), proposal (the family). Chapter `explicit`.
"""

import torch

from gwf import functionals
from gwf.errors import UsageError, nearest
from gwf.fields import relu_dual
from gwf.steps.penalties import penalty


def slope_of(potential, x):
    """grad potential at x (n, ...), without graph; `potential` maps to (n, 1) or (n,)."""
    x = x.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(potential(x).sum(), x)
    return slope


class Direct:
    """The velocity of a functional that needs no network.

    Parameters
    ----------
    functional : gwf.fields.base.Explicit or str
    """

    critic_steps = 0

    def __init__(self, functional):
        self.functional = functionals.get(functional) if isinstance(functional, str) else functional
        self.needs_other = self.functional.needs_other

    def improve(self, x, y, generator=None):
        """Nothing: there is no critic."""

    @torch.no_grad()
    def __call__(self, x, y, other=None, generator=None):
        """V at x."""
        return self.functional.velocity(x, y, other, generator)

    def networks(self):
        """No networks."""
        return {}

    def state_dict(self):
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state):
        """Nothing to restore."""


class Learned:
    """What fields with networks and an optimiser share."""

    needs_other = False

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

    def __call__(self, x, y=None, other=None, generator=None):
        """V = -grad h at x."""
        return -slope_of(self.potential, x)

    def networks(self):
        """Name -> network."""
        return self._networks

    def state_dict(self):
        """Networks and optimiser."""
        return {name: net.state_dict() for name, net in self._networks.items()} | {
            "optimiser": self.optimiser.state_dict()
        }

    def load_state_dict(self, state):
        """Go on from where `state_dict` was taken."""
        for name, net in self._networks.items():
            net.load_state_dict(state[name])
        self.optimiser.load_state_dict(state["optimiser"])


class DualField(Learned):
    """-grad h of the penalised W2 dual, h = -p + e. See `gwf.fields.w2`.

    Parameters
    ----------
    p, e : torch.nn.Module
        Potential on the data's side, and correction; x (n, ...) -> (n, 1).
    weight : float
        Of the penalties: w2fe's settings are 200 in the plane and 10 for images.
    lr, betas : Adam's settings.
    critic_steps : int
    target : {"theory", "released"}
        "theory": V = -grad h. "released": V = grad p, which the released code follows; it differs by grad e, so its
        persistency 1 is not W2-GAN to the letter.
    positive : float
        Weight of a further penalty E (h(x))_+^2: 10 in w2fe's image experiments.
    """

    def __init__(
        self,
        p,
        e,
        weight=200.0,
        lr=5e-4,
        critic_steps=5,
        betas=(0.9, 0.999),
        target="theory",
        functional="w2",
        positive=0.0,
    ):
        super().__init__({"p": p, "e": e}, lr, critic_steps, betas)
        self.p, self.e, self.weight, self.positive = p, e, weight, positive
        self.functional = functionals.get(functional)
        # A loss of another form, also a subclass's, is left to autograd.
        self.by_hand = (
            functional == "w2"
            and type(self).loss is DualField.loss
            and relu_dual.is_relu_network(p)
            and relu_dual.is_relu_network(e)
        )
        self.released = nearest(target, ("theory", "released"), "target") == "released"

    def loss(self, x, y, generator):
        """The penalised dual."""
        loss = self.functional.critic_loss(self.p, self.e, x, y, self.weight, generator)
        if self.positive:
            loss = loss + self.positive * (self.e(x) - self.p(x)).clamp_min(0).square().mean()
        return loss

    def backward(self, x, y, generator):
        """By hand where both potentials are ReLU networks: the same numbers, sooner."""
        if self.by_hand:
            return relu_dual.backward(self.p, self.e, x, y, self.weight, generator, self.positive)
        return super().backward(x, y, generator)

    def potential(self, x):
        """h = -p + e, or -p alone for the released target."""
        return -self.p(x) if self.released else self.e(x) - self.p(x)

    def __call__(self, x, y=None, other=None, generator=None):
        """V = -grad h at x."""
        if not self.by_hand:
            return super().__call__(x)
        V = relu_dual.slope(self.p, x)
        return V if self.released else V - relu_dual.slope(self.e, x)


class CriticField(Learned):
    """-grad h of the critic of a variational functional: for W1 the field of unit speed, for KL the score difference.

    Parameters
    ----------
    functional : str or gwf.functionals.base.Functional
    critic : torch.nn.Module
        x (n, ...) -> u (n, 1).
    weight : float
        Of the critic's penalty: one-sided gradient penalty for W1, R1 else.
    penalty_of : callable (critic, x, y, generator) -> (u(y), value), optional
        Another penalty, e.g. `two_sided`.
    """

    def __init__(self, functional, critic, weight=10.0, lr=5e-4, critic_steps=5, betas=(0.9, 0.999), penalty_of=None):
        super().__init__({"critic": critic}, lr, critic_steps, betas)
        self.functional = functionals.get(functional) if isinstance(functional, str) else functional
        if not hasattr(self.functional, "map_loss"):
            raise UsageError(f"{self.functional!r} has no critic: use Direct or DualField")
        self.critic, self.weight = critic, weight
        self.penalty_of = penalty_of or penalty(self.functional.penalty)

    def loss(self, x, y, generator):
        """-bound + weight * penalty."""
        u_nu, value = self.penalty_of(self.critic, x, y, generator)
        return self.functional.critic_loss(self.critic(x), u_nu) + self.weight * value

    def potential(self, x):
        """h(u): at the optimal critic the first variation of F, per sample."""
        return self.functional.h(self.critic(x))


def two_sided(critic, x, y, generator=None):
    """(u(y), E (|grad u| - 1)^2) on random points between x and y: the penalty of WGAN-GP.

    Source: I. Gulrajani et al. Improved training of Wasserstein GANs. NeurIPS 2017.
    """
    a = torch.rand(len(y), *[1] * (y.dim() - 1), generator=generator, device=y.device, dtype=y.dtype)
    between = torch.lerp(x, y, a).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    norm = slope.flatten(1).square().sum(1).clamp_min(1e-12).sqrt()
    return critic(y), (norm - 1).square().mean()
