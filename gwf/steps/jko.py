r"""The implicit (JKO) time step on whole maps.

    T_{k+1} = argmin_T  D(T# mu_0 || nu) + (1 / (2 tau)) E_{z ~ mu_0} |T(z) - T_k(z)|^2          (gwf, equation 25)

T_k is frozen and both maps see the same latent z ("matched latents"). Over all maps this is the JKO step
mu_{k+1} = argmin_mu D(mu || nu) + W_2^2(mu, mu_k) / (2 tau) whenever mu_k has a density: E|T - T_k|^2 is the cost of
one coupling of T# mu_0 and mu_k, hence at least W_2^2, and T = S o T_k with S the Monge map attains it (chapter
`jko_gaussian`). D is replaced by its variational bound, a supremum over critics, so each step is a saddle problem.
With tau = infinity the proximal term is gone and what is left is the generative adversarial network of the functional.

Every implicit method of this package is this step with a map, a functional and an anchor of its own: `proximal` is the
term that they share, `Players` the alternating updates. Who sees the other play well is a matter of counts:

    inf_T sup_h (vwgf): many updates of the critic h for one of the map T, so that T sees nearly the supremum;
    sup_h inf_T (sjko): many updates of T for one of h, so that h sees nearly the infimum;
    1 : 1 (the released codes of gwf and sjko): both at once.
"""

import copy
import math

import torch

from gwf import divergences
from gwf.errors import UsageError
from gwf.seeding import generator
from gwf.steps.penalties import penalty


def proximal(x, anchor, tau, per_dimension=False):
    """(1 / (2 tau)) mean_b |x_b - anchor_b|^2 for x, anchor (batch, ...); a scalar.

    `per_dimension` takes the mean over the d coordinates for |.|^2: the Euclidean step is then d * tau.
    """
    square = (x - anchor).square()
    return (square.mean() if per_dimension else square.sum() / len(x)) / (2 * tau)


def positive(tau):
    """A step in (0, inf); `UsageError` otherwise."""
    if not 0 < tau < math.inf:
        raise UsageError(f"tau = {tau!r} is out of range: it must lie in (0, inf)")
    return float(tau)


class JKO:
    """The proximal term of the JKO step: the frozen map T_k, a copy of T at the start, and its weight.

    Parameters
    ----------
    T : torch.nn.Module
        The map being trained, z (batch, ...) -> x (batch, ...).
    tau : float
        Step of the scheme, in (0, inf]. `math.inf` drops the term: T_k is then never made nor evaluated.
    per_dimension : bool
        The convention of `proximal`, True in the released codes of gwf and sjko; see `euclidean_tau`.
    """

    def __init__(self, T, tau, per_dimension=False):
        if not tau > 0:
            raise UsageError(f"tau = {tau!r} is out of range: it must lie in (0, inf]")
        self.T, self.tau, self.per_dimension = T, float(tau), per_dimension
        self.T_k = None
        self.advance()

    @property
    def active(self):
        """False when tau is infinite."""
        return math.isfinite(self.tau)

    def euclidean_tau(self, d):
        """The step in Euclidean units for maps into d dimensions: `d * tau` with `per_dimension`, else `tau`."""
        return self.tau * d if self.per_dimension else self.tau

    @torch.no_grad()
    def advance(self):
        """T_k <- T: the end of one JKO step. Copies the weights in place after the first call."""
        if not self.active:
            return
        if self.T_k is None:
            self.T_k = copy.deepcopy(self.T).requires_grad_(False)
        else:
            self.T_k.load_state_dict(self.T.state_dict())

    def proximal(self, x, z):
        """(1 / (2 tau)) mean_b |x_b - T_k(z_b)|^2 for x = T(z); a scalar, differentiable in x alone."""
        if not self.active:
            return x.new_zeros(())
        with torch.no_grad():
            anchor = self.T_k(z)
        return proximal(x, anchor, self.tau, self.per_dimension)


class JKOStep:
    """The saddle problem of one JKO step: its two losses, whoever minimises them, on which data and how long.

        inf_T sup_h  bound(h; T# mu_0, nu) - weight * penalty(h) + (1 / (2 tau)) E |T - T_k|^2

    Parameters
    ----------
    functional, critic, prox : gwf.bounds.Functional, torch.nn.Module x -> u (batch, 1), JKO
    weight, every : float, int
        Weight >= 0 of the critic's penalty, which is added, `every` times as heavy, to every `every`-th critic loss:
        its mean is the same, and it is the dearest part of an update. Source: T. Karras et al. Analyzing and
        improving the image quality of StyleGAN. CVPR 2020 ("lazy regularization").
    nonsaturating : bool
        Use the functional's non-saturating map loss where it has one.
    """

    def __init__(self, functional, critic, prox, weight=0.0, every=1, nonsaturating=False):
        self.functional, self.critic, self.prox = functional, critic, prox
        self.weight, self.every = weight, every
        self._map_loss = functional.map_loss_nonsaturating if nonsaturating else functional.map_loss
        self._penalty = penalty(functional.penalty)

    def critic_loss(self, x, y, generator=None, step=0):
        """-bound + weight * penalty, for generated x (no graph through T is kept) and data y, both (batch, ...).

        The penalty is there if `step`, the count of critic updates before this one, is a multiple of `every`.
        """
        x = x.detach()
        if self.weight == 0 or step % self.every:
            # One pass over both batches is cheaper than two.
            u_mu, u_nu = self.critic(torch.cat([x, y])).split([len(x), len(y)])
            return self.functional.critic_loss(u_mu, u_nu)
        u_nu, value = self._penalty(self.critic, x, y, generator)
        return self.functional.critic_loss(self.critic(x), u_nu) + self.every * self.weight * value

    def map_loss(self, x, z, y):
        """The two parts of the map's loss, (functional, proximal), for x = T(z) and data y (used by some bounds)."""
        u_nu = None
        if self.functional.map_needs_data:
            with torch.no_grad():
                u_nu = self.critic(y)
        return self._map_loss(self.critic(x), u_nu), self.prox.proximal(x, z)


class Players:
    r"""A map T and a critic h that take turns: the updates under every implicit method.

        h <- h - lr grad_h critic_loss(x, z, y),      x = T(z), without its graph
        T <- T - lr grad_T map_loss(x, z, y),         for the critic just updated

    A subclass gives the two losses, which are the equation of its step, and says what z and y are: latents and data of
    a whole map, particles and draws of a reference law of an increment. Both networks are trained in place by Adam,
    with the learning rates `rates` and the critic's betas those of the map unless given; h may be None.
    """

    def __init__(self, T, h, lr_map, lr_critic=None, betas=(0.5, 0.9), critic_betas=None):
        self.T, self.h, self.rates = T, h, (lr_map, lr_critic)
        self.adams = [torch.optim.Adam(T.parameters(), lr_map, betas=betas, fused=True)]
        if h is not None:
            self.adams.append(torch.optim.Adam(h.parameters(), lr_critic, betas=critic_betas or betas, fused=True))

    def push(self, z):
        """T(z), with whatever else both losses need of it."""
        return self.T(z)

    def critic_loss(self, x, z, y):
        """What the critic minimises, a scalar, for x = `push(z)`; no gradient reaches the map."""
        raise NotImplementedError

    def map_loss(self, x, z, y):
        """What the map minimises, a scalar, for x = `push(z)`."""
        raise NotImplementedError

    def fall(self, share):
        """Both learning rates at `share` of their full value."""
        for adam, rate in zip(self.adams, self.rates, strict=False):
            adam.param_groups[0]["lr"] = share * rate

    def update_critic(self, z, y):
        """One update of h. Returns its loss."""
        with torch.no_grad():
            x = self.push(z)
        return descend(self.adams[1], self.critic_loss(x, z, y))

    def update_map(self, z, y=None):
        """One update of T. Returns its loss."""
        return descend(self.adams[0], self.map_loss(self.push(z), z, y))

    def update(self, z, y=None, critic_updates=1, map_updates=1):
        """So many updates of h, then of T, on one batch. T does not move while h learns: T(z) is evaluated once, for all
        of h's updates and the first of T's. Returns the last loss of T."""
        x = self.push(z)
        for _ in range(critic_updates):
            descend(self.adams[1], self.critic_loss(x, z, y))
        loss = descend(self.adams[0], self.map_loss(x, z, y))
        for _ in range(map_updates - 1):
            loss = self.update_map(z, y)
        return loss


def descend(optimiser, loss):
    """One step of `optimiser` on `loss`; its weights alone get a gradient. Returns the loss, without graph."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward(inputs=[w for group in optimiser.param_groups for w in group["params"]])
    optimiser.step()
    return loss.detach()


def quench(i, n):
    """(1 + cos(pi i / n)) / 2: the share of the learning rates at update i of n, falling to zero along a cosine."""
    return (1 + math.cos(math.pi * i / n)) / 2


class Alternation(Players):
    r"""`JKOStep` in low dimension, both players on fresh batches; `gwf.training` is for whole runs.

    Parameters
    ----------
    functional : str
        Name in `gwf.divergences`.
    T, h : torch.nn.Module
        Map z (n, d) -> x (n, d) and critic x -> (n, 1); trained in place by Adam with betas (.5, .9), as in gwf.
    latent, data : callable
        (n, generator) -> (n, d), draws of mu_0 and nu.
    tau : float in (0, inf]
        `inf` is the GAN of the functional; `per_dimension` as in `JKO`.
    penalty, seed, device : float, int, torch.device
        Weight of the functional's critic penalty, >= 0; of the streams (the networks' weights are the caller's).
    """

    def __init__(
        self,
        functional,
        T,
        h,
        latent,
        data,
        tau,
        *,
        per_dimension,
        penalty,
        lr_map,
        lr_critic,
        batch,
        seed,
        device="cpu",
    ):
        super().__init__(T, h, lr_map, lr_critic)
        self.latent, self.data, self.batch = latent, data, batch
        self.step = JKOStep(divergences.get(functional), h, JKO(T, tau, per_dimension), penalty)
        self.streams = {name: generator(seed, name, device) for name in ("latent", "data", "penalty")}

    def critic_loss(self, x, z, y):
        return self.step.critic_loss(x, y, self.streams["penalty"])

    def map_loss(self, x, z, y):
        of_functional, proximal_term = self.step.map_loss(x, z, y)
        return of_functional + proximal_term

    def cycle(self, critic_updates, map_updates):
        """So many updates of the critic, then so many of the map."""
        z = lambda: self.latent(self.batch, self.streams["latent"])
        y = lambda: self.data(self.batch, self.streams["data"])
        for _ in range(critic_updates):
            self.update_critic(z(), y())
        for _ in range(map_updates):
            self.update_map(z(), y() if self.step.functional.map_needs_data else None)

    def advance(self):
        self.step.prox.advance()


class Increments:
    """The same scheme with one small map per step: T_{k+1} = S_k o T_k, S_k started at the identity (vwgf).

    What is trained is S_k alone, on points of mu_k; a latent costs k passes through frozen maps, so K steps cost
    O(K^2) passes where whole maps cost O(K) (sjko, section 4.2). `make_S`: () -> a map x (n, d) -> (n, d) that is the
    identity; `latent` and `settings`, all but T, are those of `Alternation`.
    """

    def __init__(self, make_S, latent, **settings):
        self.make_S, self.latent_0, self.settings, self.maps = make_S, latent, settings, []
        self.open()

    def open(self):
        """A new increment S_k, anchored at the identity; the critic goes on from where it is."""
        self.S = self.make_S()
        before = self.inner if self.maps else None
        self.inner = Alternation(T=self.S, latent=self.latent, **self.settings)
        if before is not None:
            self.inner.streams, self.inner.adams[1] = before.streams, before.adams[1]

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
        self.inner.cycle(critic_updates, map_updates)

    def advance(self):
        """Freeze S_k and open the next increment."""
        self.maps.append(self.S.requires_grad_(False))
        self.open()
