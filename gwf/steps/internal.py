r"""JKO steps for internal energies, from samples alone.

For U convex, the internal energy of a law with density mu is F(mu) = int U(mu(x)) dx. With the pressure
p(s) = s U'(s) - U(s), convexity of U gives, for every positive function s and every reference law R with a density,

    F(mu) = sup_s  E_{X ~ mu} U'(s(X)) - E_{Z ~ R} p(s(Z)) / R(Z),      attained at s = mu,

an expectation under mu minus one under R: no density of mu, no determinant. The network gives the ratio r = s / R.

- `Power(m)`: U(u) = u^m / (m - 1), F is the generalised entropy G, its flow the porous medium equation
  d mu / dt = Laplacian(mu^m). With R uniform of density omega the two terms are omega^(m-1) m/(m-1) E r^(m-1) and
  omega^(m-1) E_R r^m (vwgf, Corollary 3.5). For m = 2 the inner problem is least squares: r may take any sign.
- `Boltzmann()`: U(u) = u log u, F = int mu log mu, its flow the heat equation. The terms are
  1 + E[log r + log R] and E_R r; with R the Gaussian of mu's moments this is the bound vwgf uses for the
  Kullback-Leibler divergence, F(mu) = KL(mu | R) + E_mu log R.

One step, for a map T of the increment (the law so far is given by particles x of mu_k):

    min_T max_r  E|T(x) - x|^2 / (2 tau) + weight * dual(r; T# mu_k) + sum of energies that samples give directly.

The reference is refitted to the particles after every step, and the network sees reference coordinates, in which
the ratio of a self-similar flow does not change: the networks start each step almost where they have to end.
"""

import copy

import torch

from gwf.errors import UsageError
from gwf.steps.increments import jacobian
from gwf.steps.jko import Players, positive, proximal, quench


class EntropyDual:
    """The variational form of an internal energy, a `gwf.divergences.Power` or `Boltzmann`, with its reference law.

    The ratio network `net` is a function of reference coordinates, (n, d) -> u (n, 1). The reference, a `UniformBox`,
    `UniformBall` or `MomentGaussian`, must be fitted (`refit`) before use.
    """

    def __init__(self, entropy, net, reference):
        self.entropy, self.net, self.reference = entropy, net, reference

    def refit(self, x):
        """Fit the reference to particles x (n, d)."""
        self.reference.fit(x)

    def _at(self, x):
        return self.net(self.reference.coordinates(x)), self.reference.log_density(x)

    def of_mu(self, x):
        """E U'(r R) over x (n, d) of law mu, differentiable in x: the map's loss, and at the optimal r its gradient
        is that of the energy."""
        return self.entropy.of_mu(*self._at(x)).mean()

    def value(self, x, z):
        """The bound E_mu U'(r R) - E_R p(r R)/R from samples x of mu and z of R; at most F(mu), up to their noise."""
        points = torch.cat([x, z])
        u, log_R = self._at(points)
        log_R = log_R.expand(len(points), 1)
        n = len(x)  # one pass of the network for both expectations: at these sizes calls cost more than arithmetic
        return self.entropy.of_mu(u[:n], log_R[:n]).mean() - self.entropy.of_reference(u[n:], log_R[n:]).mean()

    def frozen(self):
        """A copy that later training does not change."""
        other = copy.deepcopy(self)
        other.net.requires_grad_(False)
        return other


class VariationalStep:
    """The saddle problem of one JKO step in the increment T, from particles of mu_k.

    Parameters
    ----------
    dual, T : EntropyDual, torch.nn.Module
        The map, x (n, d) -> (n, d), is best started at the identity.
    tau, weight : float
        Step > 0; factor of the internal energy.
    energies : sequence of callables
        y (n, d) -> scalar, further energies that samples y of T# mu_k give directly: a potential energy
        `lambda y: V(y).mean()`, or of pairs of particles.
    """

    def __init__(self, dual, T, tau, weight=1.0, energies=()):
        self.dual, self.T, self.tau, self.weight, self.energies = dual, T, positive(tau), weight, energies

    def ratio_loss(self, x, y):
        """Minus the bound, for x = T(z) of particles z of mu_k and draws y of R."""
        return -self.dual.value(x.detach(), y)

    def map_loss(self, x, z):
        """E|T(z) - z|^2 / (2 tau) + weight * E U'(r R)(T(z)) + further energies, for x = T(z); a scalar."""
        return proximal(x, z, self.tau) + self.weight * self.dual.of_mu(x) + sum(energy(x) for energy in self.energies)


class VariationalFlow(Players):
    """A sequence of variational steps on a cache of particles x (n, d) of mu_0, float32.

    The cache is pushed once through every new map: the cost of a step does not depend on k. Map, network and Adam carry
    on; within a step the learning rates fall to zero along a cosine, against the noise of batches (vwgf: constant).

    Parameters
    ----------
    iterations, ratio_updates, batch : int
        Per JKO step: `iterations` rounds of `ratio_updates` updates of r and one of T, each on a fresh batch.
    warm_up : int
        Updates of r alone before the first step, T being the identity: the paper's first step begins untrained.
    push : callable or None
        Explicit part of the step, x -> x, applied to the cache before training, such as a push along another energy.
    """

    def __init__(self, step, x, stream, *, iterations, ratio_updates, batch, lr_map, lr_ratio, warm_up=0, push=None):
        super().__init__(step.T, step.dual.net, lr_map, lr_ratio, critic_betas=(0.5, 0.99))
        self.step, self.x, self.stream, self.explicit = step, x, stream, push
        self.iterations, self.ratio_updates, self.batch, self.warm_up = iterations, ratio_updates, batch, warm_up

    def critic_loss(self, x, z, y):
        return self.step.ratio_loss(x, y)

    def map_loss(self, x, z, y=None):
        return self.step.map_loss(x, z)

    def advance(self):
        """One JKO step: explicit push if any, refit R, train, push the cache through T.

        Afterwards the dual is still the one trained against T# mu_k: `self.bound()` measures it.
        """
        if self.explicit is not None:
            self.x = self.explicit(self.x)
        self.step.dual.refit(self.x)
        for i in range(self.warm_up):
            self.fall(quench(i, self.warm_up))
            self._update_ratio()
        self.warm_up = 0
        for i in range(self.iterations):
            self.fall(quench(i, self.iterations))
            for _ in range(self.ratio_updates):
                self._update_ratio()
            self.update_map(self._particles())
        with torch.no_grad():
            self.x = self.T(self.x)

    @torch.no_grad()
    def bound(self, n=50_000):
        """The dual's own value at mu_{k+1}, from the cache and n fresh samples of R; a float."""
        return self.step.dual.value(self.x, self.step.dual.reference.sample(n, self.stream)).item()

    def _update_ratio(self):
        self.update_critic(self._particles(), self.step.dual.reference.sample(self.batch, self.stream))

    def _particles(self):
        return self.x[torch.randint(len(self.x), (self.batch,), generator=self.stream, device=self.x.device)]


def log_det_jacobian(T, x):
    """log|det grad T(x)| (n,) in float64 at points x (n, d), with one reverse sweep per coordinate.

    Raises `UsageError` if det <= 0 somewhere: T folds there, and the change of variables does not hold.
    """
    det = torch.linalg.det(jacobian(T, x)[1].double())
    if not (det > 0).all():
        raise UsageError(f"the learned map folds at {int((det <= 0).sum())} of {len(x)} points: train it longer")
    return det.log()
