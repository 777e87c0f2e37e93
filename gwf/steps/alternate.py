r"""The saddle problem of a JKO step by alternating updates, with the number of each player's updates free.

    inf_T sup_h (vwgf): many updates of the critic h for one of the map T, so that T sees nearly the supremum;
    sup_h inf_T (sjko): many updates of T for one of h, so that h sees nearly the infimum;
    1 : 1 (the released codes of gwf and sjko): both at once.

A small loop for low dimension, without checkpoints or averages; `gwf.training.loop` is the one for whole runs.
"""

import torch

from gwf import functionals
from gwf.seeding import generator
from gwf.steps.jko import JKO, JKOStep


class Alternation:
    r"""Map, critic, their optimisers and random streams.

    Parameters
    ----------
    functional : str
        Name in `gwf.functionals`.
    T, h : torch.nn.Module
        Map z (n, d) -> x (n, d) and critic x -> (n, 1); trained in place.
    latent, data : callable
        (n, generator) -> (n, d), draws of mu_0 and nu.
    tau : float in (0, inf]
        `inf` is the GAN of the functional.
    per_dimension : bool
        The convention of the proximal cost, see `gwf.steps.jko.JKO`.
    penalty : float
        Weight of the functional's critic penalty, >= 0.
    lr_map, lr_critic : float
        Rates of Adam with betas (.5, .9), as in gwf.
    batch, seed : int
        Batch of either law; seed of the streams (the networks' weights are the caller's).
    """

    def __init__(self, functional, T, h, latent, data, tau, *, per_dimension, penalty, lr_map, lr_critic, batch, seed):
        self.T, self.latent, self.data, self.batch = T, latent, data, batch
        self.step = JKOStep(functionals.get(functional), h, JKO(T, tau, per_dimension), penalty)
        self.streams = {name: generator(seed, name) for name in ("latent", "data", "penalty")}
        self.adam_T = torch.optim.Adam(T.parameters(), lr_map, betas=(0.5, 0.9), fused=True)
        self.adam_h = torch.optim.Adam(h.parameters(), lr_critic, betas=(0.5, 0.9), fused=True)

    def update_critic(self):
        """One step of h on -bound + penalty, on fresh batches."""
        with torch.no_grad():
            x = self.T(self.latent(self.batch, self.streams["latent"]))
        y = self.data(self.batch, self.streams["data"])
        _descend(self.adam_h, self.step.critic_loss(x, y, self.streams["penalty"]))

    def update_map(self):
        """One step of T on its part of the bound plus the proximal term, on a fresh batch."""
        z = self.latent(self.batch, self.streams["latent"])
        y = self.data(self.batch, self.streams["data"]) if self.step.functional.map_needs_data else None
        self.step.critic.requires_grad_(False)
        of_functional, proximal = self.step.map_loss(self.T(z), z, y)
        _descend(self.adam_T, of_functional + proximal)
        self.step.critic.requires_grad_(True)

    def cycle(self, critic_updates, map_updates):
        """So many updates of the critic, then so many of the map."""
        for _ in range(critic_updates):
            self.update_critic()
        for _ in range(map_updates):
            self.update_map()

    def advance(self):
        """T_k <- T: the end of a JKO step."""
        self.step.prox.advance()


class Increments:
    """The same scheme with one small map per step: T_{k+1} = S_k o T_k, S_k started at the identity (vwgf).

    What is trained is S_k alone, on points of mu_k; a latent costs k passes through frozen maps, so K steps cost
    O(K^2) passes where whole maps cost O(K) (sjko, section 4.2).

    Parameters
    ----------
    make_S : callable
        () -> a map x (n, d) -> (n, d) that is the identity.
    settings : dict
        Arguments of `Alternation` but T and latent.
    latent : callable
        As in `Alternation`.
    """

    def __init__(self, make_S, latent, **settings):
        self.make_S, self.latent_0, self.settings, self.maps = make_S, latent, settings, []
        self.open()

    def open(self):
        """A new increment S_k, anchored at the identity; the critic goes on from where it is."""
        self.S = self.make_S()
        before = None if not self.maps else self.inner
        self.inner = Alternation(T=self.S, latent=self.latent, **self.settings)
        if before is not None:
            self.inner.streams, self.inner.adam_h = before.streams, before.adam_h

    @torch.no_grad()
    def latent(self, n, stream):
        """n points of mu_k: mu_0 through the frozen increments."""
        x = self.latent_0(n, stream)
        for S in self.maps:
            x = S(x)
        return x

    def T(self, z):
        """The whole map S_k o ... o S_0 (z)."""
        for S in self.maps + [self.S]:
            z = S(z)
        return z

    def cycle(self, critic_updates, map_updates):
        """As `Alternation.cycle`, for S_k."""
        self.inner.cycle(critic_updates, map_updates)

    def advance(self):
        """Freeze S_k and open the next increment."""
        self.maps.append(self.S.requires_grad_(False))
        self.open()


def _descend(adam, loss):
    adam.zero_grad(set_to_none=True)
    loss.backward()
    adam.step()
