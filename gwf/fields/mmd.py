"""Squared maximum mean discrepancy with a fixed kernel."""

import torch

from gwf.errors import nearest
from gwf.fields.base import Field

#: Kernel -> -2 phi'(r^2) for k(x, y) = phi(|x - y|^2), with r = |x - y| and s the bandwidth.
SLOPES = {
    "gaussian": lambda r2, s: torch.exp(r2 / (-2 * s * s)) / (s * s),
    "energy": lambda r2, s: (r2 + 1e-12 * s * s).rsqrt(),
    "multiquadric": lambda r2, s: (1 + r2 / (s * s)).pow(-1.5) / (s * s),
}


class MMD(Field):
    r"""F(mu) = MMD_k^2(mu, nu) / 2, with k(x, y) = phi(|x - y|^2):

        V(x) = -grad_x ( E_{x' ~ mu} k(x, x') - E_{y ~ nu} k(x, y) )
             = E_{x'}[ c(x, x') (x - x') ] - E_y[ c(x, y) (x - y) ],      c(x, y) = -2 phi'(|x - y|^2).

    Kernels: "gaussian" exp(-r^2 / (2 s^2)); "energy" -r, whose MMD^2 is the energy distance and which needs no
    bandwidth; "multiquadric" (1 + r^2 / s^2)^(-1/2). A second generated batch stands for x', so that no point meets
    itself. Source: M. Arbel, A. Korba, A. Salim, A. Gretton. Maximum mean discrepancy gradient flow. NeurIPS 2019.

    Parameters
    ----------
    kernel : {"energy", "gaussian", "multiquadric"}
    bandwidth : float
        s > 0, in units of the data; without effect on "energy".
    """

    title = "MMD"
    needs_other = True

    def __init__(self, kernel="energy", bandwidth=1.0):
        self.slope, self.bandwidth = SLOPES[nearest(kernel, SLOPES, "kernel")], bandwidth

    def velocity(self, x, y, other, generator=None):
        # Distances come from a matrix product, which far from the origin would leave rounding alone.
        centre = y.flatten(1).mean(0)
        flat, other, y = (points.flatten(1) - centre for points in (x, other, y))
        return (self._repulsion(flat, other) - self._repulsion(flat, y)).reshape(x.shape)

    def work(self, batch, unit):
        """Two kernel matrices, each passed over 4 times."""
        entries = batch * batch / 1e6
        return 8 * entries * unit["entries"]

    def _repulsion(self, x, y):
        """E_y[c(x, y) (x - y)], (n, d)."""
        c = self.slope(torch.cdist(x, y).square(), self.bandwidth) / len(y)
        return c.sum(1, keepdim=True) * x - c @ y
