"""Sliced W2: transport along random lines, by sorting."""

import torch

from gwf.fields.base import Field


class Sliced(Field):
    r"""SW(mu, nu) = (d / 2) E_w W_2^2(w# mu, w# nu), w uniform on the unit sphere, w# the law of w . x.

        V(x) = d E_w[ (q_w(w . x) - w . x) w ],

    q_w the monotone rearrangement of w# mu onto w# nu, for `directions` random lines w, drawn afresh each time. The
    factor d gives the scale of the W2 displacement: a common shift of all points is undone by V exactly, since
    E_w[w w^T] = I / d. In one dimension V is optimal transport, for as many data as points; q of other numbers is
    interpolated. Source: proposal (sliced-Wasserstein flows, A. Liutkus et al., ICML 2019).
    """

    title = "sliced W2"

    def __init__(self, directions=128):
        self.directions = directions

    def velocity(self, x, y, other=None, generator=None):
        flat = x.flatten(1)
        n, d = flat.shape
        w = torch.randn(d, self.directions, generator=generator, device=x.device, dtype=x.dtype)
        w /= w.norm(dim=0)
        along, order = (flat @ w).sort(0)
        target = (y.flatten(1) @ w).sort(0).values
        if len(target) != n:
            target = quantiles(target, n)
        moves = torch.empty_like(along).scatter_(0, order, target - along)
        return (moves @ w.T * (d / self.directions)).reshape(x.shape)

    def work(self, batch, unit):
        """Two sorted tables, counted as 8 passes each."""
        return 2 * batch * self.directions / 1e6 * 8 * unit["entries"]


def quantiles(ordered, n):
    """Values (n, L) at the levels (i + 1/2) / n of columns (m, L) in increasing order, linear between the midpoints."""
    m = len(ordered)
    position = ((torch.arange(n, device=ordered.device) + 0.5) * (m / n) - 0.5).clamp(0, m - 1)
    low = position.floor().long()
    share = (position - low).to(ordered.dtype)[:, None]
    return torch.lerp(ordered[low], ordered[(low + 1).clamp_max(m - 1)], share)
