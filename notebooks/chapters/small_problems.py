"""Problems of two numbers, small enough to be followed by hand: what the chapters `parametric` and `unifying` show steps on."""

import torch

from gwf.steps.parametric import ParametricFlow


class Translations:
    r"""T_(a,b)(z) = z + M(a, b): a family curved in its parameters, on which the proposition can be read off.

    M = (a + .35 a b, .45 a + b + .15 a^2) and F = (1/2) (M - t)^T C (M - t), t = (-.4, .8), C = [[1.4, .3], [.3, .9]].
    All z move alike, so G = J^T J with J = dM/d(a, b) whatever mu_0 is.
    """

    t = torch.tensor([-0.4, 0.8], dtype=torch.float64)
    C = torch.tensor([[1.4, 0.3], [0.3, 0.9]], dtype=torch.float64)
    start = torch.tensor([0.7, -0.4], dtype=torch.float64)

    def shift(self, theta):
        """M(a, b), (2,)."""
        a, b = theta
        return torch.stack([a + 0.35 * a * b, 0.45 * a + b + 0.15 * a**2])

    def T(self, theta, z):
        """z + M(theta), z (n, 2)."""
        return z + self.shift(theta)

    def F(self, theta):
        """(1/2) (M - t)^T C (M - t)."""
        gap = self.shift(theta) - self.t
        return gap @ self.C @ gap / 2

    def flow(self):
        """The `ParametricFlow` of the family, on one latent: more would change nothing."""
        return ParametricFlow(self.T, self.F, torch.zeros(1, 2, dtype=torch.float64))


class LogScale:
    r"""T_(s,m)(z) = e^s z + m with z ~ N(0, 1), and F = KL(. | N(0, 1)) = -s + (e^{2s} + m^2 - 1) / 2.

    G = diag(e^{2s}, 1); the flow is s' = -(1 - e^{-2s}), m' = -m: the Ornstein-Uhlenbeck process, since Gaussians are
    closed under it. The parametric JKO step is then the JKO step over all laws, `gwf.exact.gaussian.jko_step`.
    """

    def T(self, theta, z):
        """e^s z + m, z (n, 1), theta = (s, m)."""
        return theta[0].exp() * z + theta[1]

    def F(self, theta):
        """KL(N(m, e^{2s}) | N(0, 1)) in nats."""
        return -theta[0] + ((2 * theta[0]).exp() + theta[1] ** 2 - 1) / 2

    def flow(self):
        """The `ParametricFlow` on the nodes -1 and 1, which have the moments 0 and 1 of z, all that T needs."""
        return ParametricFlow(self.T, self.F, torch.tensor([[-1.0], [1.0]], dtype=torch.float64))


class PointSaddle:
    r"""The smallest adaptive-kernel step: source delta_1, target delta_0, k_phi(a, b) = phi^2 a b, phi in [0, 1].

        max_phi min_t  (1/2) (1 - t)^2 + phi^2 t^2          (gwf, equation 18, on one point)

    With phi = 0 the adversary is blind and nothing moves, t = 1; the saddle is phi = 1, t = 1/3, value 1/3.
    """

    saddle = (1.0, 1 / 3)

    def value(self, phi, t):
        """(1/2) (1 - t)^2 + phi^2 t^2: proximal cost plus MMD^2."""
        return (1 - t) ** 2 / 2 + phi**2 * t**2

    def best_map(self, phi):
        """argmin_t value = 1 / (1 + 2 phi^2)."""
        return 1 / (1 + 2 * phi**2)

    def alternate(self, phi, t, rate=0.2, steps=200):
        """Algorithm 2 of gwf: ascent in phi (kept in [0, 1]) and descent in t; the path, list of (phi, t)."""
        path = [(phi, t)]
        for _ in range(steps):
            phi = min(max(phi + rate * 2 * phi * t**2, 0.0), 1.0)
            t = t - rate * (t - 1 + 2 * phi**2 * t)
            path.append((phi, t))
        return path
