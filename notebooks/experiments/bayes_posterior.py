r"""The posterior of Bayesian logistic regression as a target known up to a constant, and two priors on its scale.

    y in {-1, 1},  P(y | x, w) = sigmoid(y w . x)  (no intercept),   w | alpha ~ N(0, I / alpha),   alpha ~ Exp(rate 100)

The unknown is theta = (w, s), s = log alpha, of dimension d_w + 1. As a density in theta the log prior is

    "stated":    (d_w / 2) s - e^s |w|^2 / 2 - 100 e^s + s        Gaussian, Exp, and the Jacobian of alpha = e^s;
    "released":              - e^s |w|^2 / 2 - 100 e^s            with s clamped to [-8, 8].

The second is what the released code of vwgf samples: it lacks the normaliser of the Gaussian and the Jacobian. It tends
to a constant as s -> -infinity, so it has no finite mass in s, and "the" law of s is whatever a method has reached when
it stops. jko-icnn has both terms: the two papers' samplers have different targets. Source of the problem: Liu & Wang,
SVGD, NeurIPS 2016.
"""

import math

import numpy as np
import torch
import torch.nn.functional as fn
from torch import nn

from gwf.errors import UsageError, nearest
from gwf.nets.mlp import MLP
from gwf.nets.residual import QuadraticMLP
from gwf.steps.increments import VariationalStep
from gwf.steps.references import GaussianReference, KLThroughReference

PRIORS = ("stated", "released")
RATE, CLAMP = 100.0, 8.0


class LogisticPosterior:
    """log nu(theta) up to a constant, theta (n, d_w + 1) -> (n,), differentiable.

    Parameters
    ----------
    x, y : array_like (rows, d_w), (rows,)
        Data; y in {-1, 1}, else `UsageError`.
    prior : {"stated", "released"}
    dtype : torch.dtype
        Of all computations: float32 to train networks, float64 for Metropolis tests.
    batch : int, optional
        Every call takes that many rows at random, with replacement, their log-likelihood scaled to the full data: an
        unbiased estimate. None: the full data.
    stream : torch.Generator, optional
        Of the minibatches.
    """

    def __init__(self, x, y, prior, dtype=torch.float64, batch=None, stream=None):
        self.prior = nearest(prior, PRIORS, "prior")
        y = torch.as_tensor(y, dtype=dtype)
        if not bool((y.abs() == 1).all()):
            raise UsageError("labels must be -1 or 1")
        self.signed = torch.as_tensor(x, dtype=dtype) * y[:, None]
        self.rows, self.d_w = self.signed.shape
        if batch is not None and not 1 <= batch <= self.rows:
            raise UsageError(f"batch = {batch!r} is out of range: it must lie in [1, {self.rows}]")
        self.batch, self.stream = batch, stream

    def log_prior(self, theta):
        """The log prior of `prior` above, (n,)."""
        w, s = theta[:, :-1], theta[:, -1]
        if self.prior == "released":
            s = s.clamp(-CLAMP, CLAMP)
        quadratic = -s.exp() * (w.square().sum(1) / 2 + RATE)
        return quadratic + (self.d_w / 2 + 1) * s if self.prior == "stated" else quadratic

    def log_likelihood(self, theta):
        """sum over the rows of log sigmoid(y w . x), or its minibatch estimate; (n,)."""
        signed = self.signed
        if self.batch is not None:
            signed = signed[torch.randint(self.rows, (self.batch,), generator=self.stream)]
        return fn.logsigmoid(theta[:, :-1] @ signed.T).sum(1) * (self.rows / len(signed))

    def __call__(self, theta):
        return self.log_prior(theta) + self.log_likelihood(theta)

    def in_box(self, theta):
        """The same where |s| <= 8 and -infinity elsewhere: a proper law with either prior, for Metropolis methods."""
        return torch.where(theta[:, -1].abs() <= CLAMP, self(theta), -math.inf)

    def log_alpha_given(self, w):
        """Mean and standard deviation of s given w, exact, for every row of w (n, d_w): two float64 arrays (n,).

        The density of s given w needs |w|^2 alone; it is summed on a grid over the box [-8, 8]. With the stated prior
        alpha | w is Gamma(d_w / 2 + 1, rate 100 + |w|^2 / 2) up to the box.
        """
        s = np.linspace(-CLAMP, CLAMP, 4001)
        slope = self.d_w / 2 + 1 if self.prior == "stated" else 0.0
        half = np.square(np.asarray(w, dtype=np.float64)).sum(1)[:, None] / 2
        log_p = slope * s - np.exp(s) * (RATE + half)
        p = np.exp(log_p - log_p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        mean = p @ s
        return mean, np.sqrt(p @ s**2 - mean**2)

    def mode(self, iterations=20):
        """The posterior's mode (d_w + 1,) in the box, by Newton in w and the exact maximum in s, alternately.

        With the released prior the maximum in s is at -8, whatever w: the fit is all but the maximum of likelihood.
        """
        w, s = torch.zeros(self.d_w, dtype=self.signed.dtype), -CLAMP
        for _ in range(iterations):
            gradient, H = self._derivatives(w, math.exp(s))
            w = w + torch.linalg.solve(H, gradient)
            if self.prior == "stated":
                alpha = (self.d_w / 2 + 1) / (RATE + float(w.square().sum()) / 2)
                s = min(max(math.log(alpha), -CLAMP), CLAMP)
        return torch.cat([w, torch.tensor([s], dtype=w.dtype)])

    def _derivatives(self, w, alpha):
        """Gradient and minus the Hessian in w of the full log posterior at given alpha."""
        p = torch.sigmoid(-self.signed @ w)
        gradient = self.signed.T @ p - alpha * w
        H = (self.signed * (p * (1 - p))[:, None]).T @ self.signed
        return gradient, H + alpha * torch.eye(self.d_w, dtype=w.dtype)

    def laplace(self):
        """Centre (d_w + 1,) and root L of a Gaussian near the posterior: Laplace in w, exact moments of s given w."""
        centre = self.mode()
        w = centre[:-1]
        _, H = self._derivatives(w, math.exp(centre[-1]))
        mean, spread = self.log_alpha_given(w[None].numpy())
        root = torch.zeros(self.d_w + 1, self.d_w + 1, dtype=w.dtype)
        root[:-1, :-1] = torch.linalg.cholesky(torch.linalg.inv(H))
        root[-1, -1], centre[-1] = float(spread[0]), float(mean[0])
        return centre, root


def draw_prior(n, d_w, generator):
    """(n, d_w + 1) float32 draws of the prior of (w, log alpha), log alpha clamped to [-8, 8]."""
    alpha = torch.empty(n).exponential_(RATE, generator=generator)
    s = alpha.log().clamp(-CLAMP, CLAMP)
    w = torch.randn(n, d_w, generator=generator) * (-s / 2).exp()[:, None]
    return torch.cat([w, s[:, None]], 1)


def predictive(theta, x, y):
    """Accuracy and mean log predictive of draws theta (m, d_w + 1) on test rows x (n, d_w), y (n,) in {-1, 1}.

    P(y | x) is the mean over the draws of sigmoid(y w . x), in float64; the predicted label is the likelier one.
    """
    logits = torch.as_tensor(x * y[:, None], dtype=torch.float64) @ theta[:, :-1].double().T
    log_p = torch.logsumexp(fn.logsigmoid(logits), 1) - math.log(len(theta))
    return float((log_p > math.log(0.5)).double().mean()), float(log_p.mean())


class WhitenedMap(nn.Module):
    r"""T(y) = m + S [(I + M)(z + N(z)) + c], z = S^{-1} (y - m), with m, S S^T the moments of the particles of mu_k.

    M (d, d), c (d,) and the MLP N are learned, and start at the identity in every step (`restart`). In these
    coordinates a step that shrinks a prior of scale 20 to a posterior of scale .1 is M near -1: of the size that Adam's
    steps have.
    """

    def __init__(self, d, width, depth):
        super().__init__()
        self.M, self.c = nn.Parameter(torch.zeros(d, d)), nn.Parameter(torch.zeros(d))
        self.net = MLP(d, d, width, depth)
        self.register_buffer("m", torch.zeros(d))
        self.register_buffer("S", torch.eye(d))
        self.register_buffer("S_inverse", torch.eye(d))

    @torch.no_grad()
    def restart(self, R):
        """Back to the identity, in the coordinates of the `GaussianReference` R of the particles."""
        for parameter in (self.M, self.c, self.net[-1].weight, self.net[-1].bias):
            parameter.zero_()
        root = np.linalg.cholesky(R.C)
        for buffer, value in ((self.m, R.m), (self.S, root), (self.S_inverse, np.linalg.inv(root))):
            buffer.copy_(torch.as_tensor(value))

    def forward(self, y):
        z = (y - self.m) @ self.S_inverse.T
        bent = z + self.net(z)
        return self.m + (bent + bent @ self.M.T + self.c) @ self.S.T


class FollowingReference(VariationalStep):
    r"""A `VariationalStep` for KL whose Gaussian reference follows T# mu_k while T is trained, and not only mu_k.

    KL(T# mu | nu) = KL(T# mu | R) + E log(R / nu) holds for every R, so R may be refitted at any time. From a prior of
    scale 20 to a posterior of scale .1 a single JKO step does nearly all the way: the likelihood's thousands of nats
    outweigh the proximal term. Against R fitted to mu_k the ratio then is of the order of exp(100) on a set R never
    visits; against R fitted to T# mu_k it stays near 1. With R held still in the gradient, E log R(T) carries the
    gradient of the entropy of the Gaussian part (envelope theorem), and r the rest. The ratio network sees x in the
    coordinates in which R is N(0, I): a density ratio does not depend on coordinates. Derived here, not in vwgf.

    Parameters
    ----------
    log_nu : callable
        x (n, d) -> (n,), up to a constant.
    d, width, depth : int
        Dimension; hidden layers of both networks.
    every, particles : int
        R is refitted every so many updates, to T of so many particles of mu_k.
    """

    def __init__(
        self, log_nu, d, tau, stream, *, width, depth, lr_map, lr_critic, critic_updates=3, every=5, particles=1024
    ):
        self.net = QuadraticMLP(d, width, depth)
        super().__init__(
            KLThroughReference(log_nu),
            WhitenedMap(d, width, depth),
            self.net,
            tau,
            stream,
            lr_map=lr_map,
            lr_critic=lr_critic,
            critic_updates=critic_updates,
        )
        if every < 1 or particles <= d:
            raise UsageError(f"every must be at least 1 and particles more than d = {d}")
        self.r = lambda x: self.net((x - self._m) @ self._whiten.T)
        self.every, self.particles, self.count = every, particles, 0

    def begin(self, k, x):
        """The increment starts at the identity, in the coordinates of the particles x of mu_k."""
        super().begin(k, x)
        self.x, self.count = x, 0
        self.T.restart(self.functional.R)

    @torch.no_grad()
    def refit(self):
        """R <- the Gaussian of T's images of particles of mu_k."""
        chosen = torch.randint(len(self.x), (self.particles,), generator=self.stream)
        R = self.functional.R = GaussianReference.fitted(self.T(self.x[chosen]))
        self._m = torch.tensor(R.m, dtype=torch.float32)
        self._whiten = torch.tensor(np.linalg.inv(np.linalg.cholesky(R.C)), dtype=torch.float32)

    def update(self, y):
        """As in `VariationalStep`, the reference refitted first when it is time."""
        if self.count % self.every == 0:
            self.refit()
        self.count += 1
        return super().update(y)
