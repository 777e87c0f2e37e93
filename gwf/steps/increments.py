r"""Flows as compositions of increments: mu_k = (T_k)# mu_{k-1}, so the sampler is T_K o ... o T_1.

Each step trains one increment on particles of mu_{k-1}

    min_T max_r  E|X - T(X)|^2 / (2 tau) + E A(r(T(X))) - E_R B(r(Z)),    X ~ mu_{k-1}, Z ~ R        (vwgf, equation 8)

and the four choices stay apart: the functional with its reference (`gwf.steps.references`), the time step
(`VariationalStep`, or `gwf.steps.icnn.ICNNStep`), the map (`Composition` with its `ParticleCache`), the relaxation
(none: the source is hard). `compositions` is the one loop for all; a whole map from mu_0 is in `gwf.steps.jko`.
"""

import copy
import math

import numpy as np
import torch

from gwf.errors import UsageError, nearest
from gwf.steps.jko import Players, positive, proximal, quench


class Composition:
    """T_K o ... o T_1 of frozen increments. Drawing from mu_k costs k passes."""

    def __init__(self, maps=()):
        self.maps = list(maps)

    def __len__(self):
        return len(self.maps)

    def append(self, T):
        """Store a frozen copy of the increment T, x (n, d) -> (n, d)."""
        self.maps.append(copy.deepcopy(T).requires_grad_(False).eval())

    @torch.no_grad()
    def __call__(self, x, first=0, block=65536):
        """Push x (n, d) through the maps from index `first` on, in blocks that bound the memory."""
        x = x.clone()
        for part in x.split(block):
            moved = part
            for T in self.maps[first:]:
                moved = T(moved)
            part.copy_(moved)
        return x

    def with_log_density(self, x, log_mu_0):
        """(T(x), log mu_K(T(x))) by change of variables: log mu_0(x) - sum_k log |det grad T_k|.

        x (n, d) from mu_0, log_mu_0 (n,). Exact for invertible increments; costs d backward passes per map.
        """
        log_density = log_mu_0.clone()
        for T in self.maps:
            y, J = jacobian(T, x)
            log_density -= torch.linalg.slogdet(J)[1]
            x = y
        return x, log_density

    def inverse(self, y, iterations=20, tolerance=1e-5):
        """(x, largest residual) with T(x) = y, increment by increment, by Newton's method from x = y.

        For the density of mu_K at points that were not generated. Increments of small steps are near the identity,
        where Newton converges in a few iterations; a residual above `tolerance` says that some did not.
        """
        worst = 0.0
        for T in reversed(self.maps):
            x = y.clone()
            for _ in range(iterations):
                image, J = jacobian(T, x)
                gap = image - y
                residual = float(gap.abs().max())
                if residual < tolerance:
                    break
                x = x - torch.linalg.solve(J, gap)
            worst = max(worst, residual)
            y = x
        return y, worst

    def log_density(self, y, log_mu_0):
        """log mu_K at any y (n, d), (n,): `inverse`, then `with_log_density`; log_mu_0 is a function here."""
        x, _ = self.inverse(y)
        return self.with_log_density(x, log_mu_0(x))[1]


def jacobian(T, x):
    """(T(x), grad T(x)) of a map that acts row by row: (n, d) and (n, d, d) with J[n, i, j] = d T_i / d x_j."""
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        y = T(x)
        last = y.shape[1] - 1
        rows = [torch.autograd.grad(y[:, i].sum(), x, retain_graph=i < last)[0] for i in range(last + 1)]
    return y.detach(), torch.stack(rows, 1)


def standardised(x):
    """Particles x (n, d) moved by the affine map that makes their mean 0 and covariance I exactly (n > d).

    Sampling noise in the first two moments of mu_0 = N(0, I), of size n^(-1/2), is thereby removed: a control
    variate for everything that moments decide. Not part of vwgf.
    """
    y = x.double()
    y = y - y.mean(0)
    root = torch.linalg.cholesky(y.T @ y / len(y))
    return torch.linalg.solve_triangular(root, y.T, upper=False).T.to(x.dtype).contiguous()


class ParticleCache:
    """N particles x (N, d) of mu_k, mu_0 at first: they spare the inner iterations the passes through earlier maps.

    With `fresh`, () -> (N, d) new particles of mu_0, the cache is re-simulated from them through all maps after every
    step (k passes, K^2/2 in all), as in vwgf. Without it the cache itself moves on through the newest map (K in all).
    """

    def __init__(self, x, fresh=None):
        self.x, self.fresh = x, fresh

    def batch(self, n, generator):
        """n particles, drawn with replacement."""
        return self.x[torch.randint(len(self.x), (n,), generator=generator, device=self.x.device)]

    def advance(self, maps):
        """From mu_{k-1} to mu_k, `maps` being the composition with T_k as its last."""
        self.x = maps(self.x, first=len(maps) - 1) if self.fresh is None else maps(self.fresh())


class VariationalStep(Players):
    """One JKO step as a saddle problem in an increment T and a ratio network r, both of which carry on from step to step.

    Parameters
    ----------
    functional : KLThroughReference or AgainstSamples
        `begin(k, x)`, `sample(n, generator)`, `bound(u_mu, u_reference)`, `energy(u_mu, x)`.
    T, r : torch.nn.Module
        x (n, d) -> (n, d) and -> (n, 1).
    tau, stream : float, torch.Generator
        Euclidean step > 0, not divided by d, which may change between steps as `rates` may; of the reference's draws.
    critic_updates, map_updates : int
        Updates of r and of T for every batch, 3 and 1 in vwgf's OU. All see the same z and y.
    """

    def __init__(
        self, functional, T, r, tau, stream, *, lr_map, lr_critic, critic_updates=3, map_updates=1, betas=(0.9, 0.999)
    ):
        self.functional, self.r, self.tau, self.stream = functional, r, positive(tau), stream
        if critic_updates < 1 or map_updates < 1:
            raise UsageError("critic_updates and map_updates must be at least 1")
        self.updates = critic_updates, map_updates
        super().__init__(T, r, lr_map, lr_critic, betas)

    def critic_loss(self, x, z, y):
        """-bound of the functional, r seeing x ~ T# mu and y ~ R in one pass."""
        u = self.r(torch.cat([x.detach(), y]))
        return -self.functional.bound(u[: len(x)], u[len(x) :])

    def map_loss(self, x, z, y=None):
        """E|z - T(z)|^2 / (2 tau) + E A(r(T(z))) for x = T(z)."""
        return proximal(x, z, self.tau) + self.functional.energy(self.r(x), x)

    def begin(self, k, x):
        self.functional.begin(k, x)

    def update(self, z):
        """The updates of one batch z (n, d) of mu_k; returns the map's loss."""
        return super().update(z, self.functional.sample(len(z), self.stream), *self.updates)

    @torch.no_grad()
    def dual_value(self, z, y):
        """Bound of F(T# mu) at the current r from z ~ mu, y ~ R; too low where r is not optimal."""
        x = self.T(z)
        return float(self.functional.value(self.r(x), self.r(y), x))


def compositions(step, cache, *, steps, iterations, batch, stream, first=None):
    """K = `steps` outer steps of any increment: train, store, move the particles on; yields (maps, loss) after each.

    `maps` is the `Composition` so far, k = len(maps); a schedule of tau or of rates sets them in the loop's body. The
    learning rates fall to zero along a cosine in each step, so that the noise of batches has died out when T is frozen;
    vwgf keeps them constant within a step. The host reads a step's last loss: `FloatingPointError` if it is not finite.

    Parameters
    ----------
    step : VariationalStep or ICNNStep
        `T`, `begin(k, x)`, `fall(share)`, `update(z)`.
    cache : ParticleCache
        Starts at mu_0, ends at mu_K.
    iterations, batch : int
        Batches per step and their size, at least 1, as `steps` is (else `UsageError`); `stream` draws them.
    first : int, optional
        Batches of the first step, which starts from untrained networks; `iterations` unless given.
    """
    for name, value in (("steps", steps), ("iterations", iterations), ("batch", batch)):
        if not value >= 1:
            raise UsageError(f"{name} = {value!r} is out of range: it must be at least 1")
    maps = Composition()
    for k in range(steps):
        step.begin(k, cache.x)
        count = first if first and k == 0 else iterations
        for i in range(count):
            step.fall(quench(i, count))
            loss = step.update(cache.batch(batch, stream))
        loss = float(loss)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the map's loss is {loss} at the end of step {k + 1} of {steps}")
        maps.append(step.T)
        cache.advance(maps)
        yield maps, loss


HOW = ("composition", "cache", "resimulated", "whole")


def passes(K, N0, N, how, cache=0):
    """Map passes of a run of K steps, N0 iterations in the first and N in each later one, in units of one batch.

    Per iteration of step k = 0, 1, ...: "composition" draws fresh z for the critic's and the map's update and pushes
    both through k frozen maps and the new one, 2 (k + 1), so 2 N0 + N (K - 1)(K + 2) in all. "whole" evaluates T
    twice and the frozen T_k once, 3 (N0 + N (K - 1)). With a particle cache of `cache` batches an iteration costs 2,
    and moving the cache on costs `cache` ("cache") or k `cache` ("resimulated") passes after step k. (`VariationalStep`
    computes T(y) once and needs 1, not 2.) Source: sjko, section 4.2 for the orders; counts derived here.
    `UsageError` for K, N0, N < 1, cache < 0 or an unknown `how`.
    """
    nearest(how, HOW, "way of drawing")
    if min(K, N0, N) < 1 or cache < 0:
        raise UsageError(f"K, N0, N = {K, N0, N} and cache = {cache} are out of range: at least 1, and 0 or more")
    counts = {
        "composition": 2 * N0 + N * (K - 1) * (K + 2),
        "cache": 2 * (N0 + N * (K - 1)) + cache * K,
        "resimulated": 2 * (N0 + N * (K - 1)) + cache * (K * (K + 1) // 2),
        "whole": 3 * (N0 + N * (K - 1)),
    }
    return int(np.int64(counts[how]))
