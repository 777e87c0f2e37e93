r"""The step of S-JKO: a JKO step as unbalanced optimal transport with its source held fixed, in semi-dual form.

    sup_v inf_T  E_{x ~ mu_0} [ c(T(x, z), T_k(x, z)) - v(T(x, z)) ] - E_{y ~ nu} Psi*(-v(y)),   c(y, a) = |y - a|^2 / (2 tau)

T is the *whole* map from mu_0, T_k the frozen map of the last step, T_0(x, z) = x, and Psi = f of the functional
D_f(mu | nu), f(1) = 0. At the saddle point T# mu_0 is the JKO step from mu_k, and v = -f'(d mu_{k+1} / d nu)
(sjko section 4.1, equations 12 to 21; derived in the chapter `sjko`). The critic of the variational form is h = -v.

In the four choices of this project: the functional is D_f, the time step the implicit one in sup-inf order, the map
whole; the fourth, *relaxation*, is what this file adds. The source enters the potential's loss by one of

    hard      E v(T)                       S-JKO; with one step, "source-fixed" UOTM
    relaxed   E Psi_1*(v(T) - c)           UOTM: mu_0 itself may be reweighted, at the price of D_{Psi_1}
    all pairs mean_{i,j} Psi_1*(v_i - c_j) what the released code of uotm computes

and the data by E Psi_2*(-v), where Psi_2* = s pins nu exactly (OTM, balanced optimal transport). The anchor sees the
latent z of the map (`matched`) or one of its own (`independent`, as released), which is no small matter: see the chapter.
"""

import copy
import math

import torch
from torch.nn.functional import softplus

from gwf import divergences
from gwf.bounds import LOG_2
from gwf.steps.jko import Players, positive
from gwf.steps.penalties import r1


def first(x, z=None):
    """T_0(x, z) = x, the anchor of the first step."""
    return x


def matched(z, generator):
    """The anchor sees the map's own latent: E|T - T_k|^2 is then the cost of a coupling that can be W_2^2."""
    return z


def independent(z, generator):
    """The anchor sees a fresh latent, as in sjko's algorithm: E|T(x, z) - T_k(x, z')|^2 also charges for Var_z T(x, z)."""
    return torch.randn(z.shape, generator=generator, device=z.device)


class Anchor:
    r"""The cost c(y, T_k(x, z)) = |y - T_k(x, z)|^2 / (2 tau) of each sample, and its frozen map T_k.

    Parameters
    ----------
    tau, latents : float in (0, inf), `matched` or `independent`
        Step size. With `per_dimension` (the released codes of sjko and uotm) |.|^2 is the mean over the d
        coordinates, and the Euclidean step d * tau. uotm's coefficient is kappa = 1 / (2 d tau).
    """

    def __init__(self, tau, per_dimension=True, latents=matched):
        self.tau, self.per_dimension, self.latents = positive(tau), per_dimension, latents
        self.T_k = first

    def advance(self, T):
        """T_k <- a frozen copy of T: the end of a step. Earlier maps are forgotten; two generators are stored in all."""
        if self.T_k is first:
            self.T_k = copy.deepcopy(T).requires_grad_(False)
        else:
            self.T_k.load_state_dict(T.state_dict())

    def __call__(self, y, x, z, generator=None):
        """Costs (n, J) of the images y (n, J, d) of x (n, d), z (n, latent); differentiable in y alone."""
        with torch.no_grad():
            a = x if self.T_k is first else self.T_k(x, self.latents(z, generator))
        square = (y - a[:, None]).square()
        return (square.mean(2) if self.per_dimension else square.sum(2)) / (2 * self.tau)


def images(T, x, z):
    """Images y (n, J, d) of each source point and their shares w (n, J), which sum to 1 over J.

    A plain map has one image, J = 1. A map with `branches` (`gwf.nets.toy.ExpertsMap`) has several candidates: its loss is
    then the expectation over them, and its law that of the likeliest one.
    """
    if hasattr(T, "branches"):
        return T.branches(x, z)
    y = T(x, z)[:, None]
    return y, y.new_ones(y.shape[:2])


def choose(loss, w):
    """E of `loss` (n, J) under the shares w (n, J), plus the cross-entropy of w against the best image; with J = 1, the mean of `loss`.

    Descending E_w itself would train the shares by w (loss - E_w loss), which vanishes wherever they have settled, right or
    wrong; both have the same minimiser, all weight on the least loss, and that of the cross-entropy is always felt.
    """
    best = loss.detach().argmin(1, keepdim=True)
    return (w.detach() * loss).sum(1).mean() - w.gather(1, best).clamp_min(1e-12).log().mean()


def likeliest(y, c, w):
    """The image of each point that T returns, (n, d), and its cost (n,), detached: a sample of T# mu_0."""
    best = (torch.arange(len(w), device=w.device), w.argmax(1))
    return y[best].detach(), c[best].detach()


class SemiDualStep:
    """Source hard: the saddle problem of one S-JKO step, for an entropy of the data, a potential and an `Anchor`.

    `target` is Psi_2 of the data's marginal, which `divergences.entropy("linear")` makes hard (OTM); `v` the potential,
    y (n, d) -> (n,); `weight` that of the penalty E_nu |grad v|^2 (R1), >= 0, which sjko's released code halves.
    """

    def __init__(self, target, v, anchor, weight=0.0):
        self.target, self.v, self.anchor, self.weight = target, v, anchor, weight

    def potential(self, u):
        """v from the network's output u: here v = u."""
        return u

    def of_source(self, v, c):
        """The source's part of the potential's loss from v = v(T) and costs c, both (n,): E v. The cost is absent."""
        return v.mean()

    def potential_loss(self, y_hat, c, y):
        """What the potential minimises, for generated y_hat (n, d) with costs c (n,), both detached, and data y (n, d)."""
        u_hat, u, price = self.outputs(y_hat, y)
        return self.of_source(self.potential(u_hat), c) + self.target.of_data(self.potential(u)) + price

    def outputs(self, y_hat, y):
        """The network's outputs on y_hat and on y, in one pass where no penalty is asked for, and the weighted penalty."""
        if self.weight == 0:
            return *self.v(torch.cat([y_hat, y])).split([len(y_hat), len(y)]), 0.0
        u, gradient = r1(self.v, None, y)
        return self.v(y_hat), u, self.weight * gradient

    def map_loss(self, y, c, w):
        """What the map minimises: E [c - v(T)], the same in every relaxation; images y (n, J, d), costs and shares c, w (n, J)."""
        return choose(c - self.potential(self.v(y)), w)


class RelaxedSourceStep(SemiDualStep):
    """Source relaxed (UOTM): E Psi_1*(v(T) - c), a cost to each sample. `source` is the entropy Psi_1."""

    def __init__(self, source, target, v, anchor, weight=0.0):
        super().__init__(target, v, anchor, weight)
        self.source = source

    def of_source(self, v, c):
        return self.source.conjugate(v - c).mean()


class AllPairsStep(RelaxedSourceStep):
    """UOTM as released: a column of potentials minus a row of costs, Psi_1* averaged over all n^2 pairs.

    For KL it factorises, E e^v E e^{-c}: the cost no longer tells samples apart, and what is trained is a
    source-fixed step of size tau/2 (derived in the chapter `sjko`).
    """

    def of_source(self, v, c):
        return self.source.conjugate(v[:, None] - c[None, :]).mean()


class NonSaturatingStep(SemiDualStep):
    """sjko's JSD variant: logit D, v = softplus(D) - log 2, and the GAN's non-saturating loss for the map.

    The potential's loss is the GAN discriminator's, softplus(D(T)) + softplus(-D(y)), with D large on data. The exact map loss would be
    c - softplus(D(T)); the paper and its code use c + softplus(-D(T)), whose descent is not that of JS (see `gwf.divergences.JensenShannon`).
    """

    def __init__(self, v, anchor, weight=0.0):
        super().__init__(divergences.entropy("js"), v, anchor, weight)

    def potential(self, u):
        """v = softplus(D) - log 2 > -log 2, the domain of Psi*."""
        return softplus(u) - LOG_2

    def potential_loss(self, y_hat, c, y):
        """E softplus(D(T)) + E softplus(-D(y)) - 2 log 2: `of_source` and `of_data` written out, exact for large |D|."""
        u_hat, u, price = self.outputs(y_hat, y)
        return softplus(u_hat).mean() + softplus(-u).mean() - 2 * LOG_2 + price

    def map_loss(self, y, c, w):
        return choose(c + softplus(-self.v(y)), w)


def released_noise(k):
    """Standard deviation 1 / (32 (k + 1)) of the noise that sjko's code adds to the data in phase k = 0, 1, ..."""
    return 1 / (32 * (k + 1))


def no_noise(k):
    """As in the algorithm of the paper."""
    return 0.0


def constant(share):
    """Learning rates as given, all along: the released toys."""
    return 1.0


def cosine(share):
    """Factor of the learning rates, falling from 1 to 0.01 over a phase, which quenches the noise of mini-batches."""
    return 0.01 + 0.99 * (1 + math.cos(math.pi * share)) / 2


class SemiDualPlayers(Players):
    """T and the potential of `step`: `update((x, z), y)` moves both, on one batch of x, z and data y.

    Images of T, their costs and shares are evaluated once, detached for the potential and then, with the new potential,
    for T. (The released loop evaluates T twice and back-propagates the potential's loss through T for nothing; see
    benchmarks/sjko.py.) `stream` draws the anchor's latents.
    """

    def __init__(self, step, T, stream, lr_map, lr_potential, betas=(0.5, 0.9)):
        super().__init__(T, step.v, lr_map, lr_potential, betas)
        self.step, self.stream = step, stream

    def push(self, z):
        """Images, costs and shares of the pair (x, z)."""
        y_hat, w = images(self.T, *z)
        return y_hat, self.step.anchor(y_hat, *z, self.stream), w

    def critic_loss(self, x, z, y):
        return self.step.potential_loss(*likeliest(*x), y)

    def map_loss(self, x, z, y):
        return self.step.map_loss(*x)


def phases(
    step,
    T,
    sources,
    data,
    iterations,
    *,
    lr_map,
    lr_potential,
    batch,
    generator,
    noise=no_noise,
    schedule=constant,
    betas=(0.5, 0.9),
    progress=None,
):
    r"""Train T and the potential of `step` through K steps, freezing T after each; networks and Adam carry on.

    Yields k = 0, 1, ..., the phase that has just ended, with T as it left it and its last loss read by the host; T_k <- T afterwards.

    Parameters
    ----------
    step, T : SemiDualStep, torch.nn.Module
        T is a map (x, z) -> y, trained in place.
    sources, data : callable (n, generator) -> tensors
        x (n, d) and z (n, latent) as a pair; y (n, d). All draws are from `generator`.
    iterations : sequence of K ints
        Updates in each step, e.g. [N_0, N, N].
    noise, schedule : callable k -> float, callable share -> float
        Standard deviation of the noise on the data in phase k; factor of the rates at a share in [0, 1) of a phase.
    """
    total, done = sum(iterations), 0
    players = SemiDualPlayers(step, T, generator, lr_map, lr_potential, betas)
    for k, N in enumerate(iterations):
        sigma = noise(k)
        for i in range(N):
            players.fall(schedule(i / N))
            xz, y = sources(batch, generator), data(batch, generator)
            if sigma:
                y = y + sigma * torch.randn(y.shape, generator=generator, device=y.device)
            loss = players.update(xz, y)
            done += 1
            if progress is not None and (done % 50 == 0 or done == total):
                progress(done, total, phase=k, map_loss=loss.item())
        if not loss.isfinite():
            raise FloatingPointError(f"the map's loss is {loss.item()} after phase {k}: lower the learning rates")
        yield k
        step.anchor.advance(T)


def train(step, T, sources, data, iterations, **settings):
    """Train T through all steps of `phases`, whose arguments these are; T is changed in place."""
    for _ in phases(step, T, sources, data, iterations, **settings):
        pass
