r"""Input-convex networks: a potential psi that is convex in x by construction, with grad psi and Hess psi in closed form.

    z_1 = q_1(x),    z_{l+1} = softplus(W_l z_l + q_{l+1}(x)),    psi = w . z_L + eps |x|^2 / 2,    W_l, w >= 0
    q(x) = sum_{j <= rank} (a_j . x)^2 + b . x + c

Each q is convex, softplus is convex and increasing, and non-negative sums keep both: psi is convex. The gradient of
a convex function is the optimal transport map onto its image (Brenier), which is why jko-icnn takes T = grad psi.
Gradient and Hessian are written out by the chain rule, so that training needs one derivative by autograd and not three.
Source: jko-icnn, DenseICNN of its released code (with eps = 1e-6).
"""

import math

import torch
import torch.nn.functional as fn
from torch import nn

from gwf.errors import UsageError


class _ConvexQuadratic(nn.Module):
    """q: x (n, d) -> (n, width), its Jacobian rows, and its constant Hessians 2 A A^T."""

    def __init__(self, d, width, rank):
        super().__init__()
        scale = 1 / math.sqrt(width)
        self.A = nn.Parameter(torch.randn(width, rank, d) * scale)
        self.b = nn.Parameter(torch.randn(width, d) * scale)
        self.c = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        """(q(x) (n, width), A x (n, width, rank)): the second is used again by `jacobian`."""
        width, rank, d = self.A.shape
        Ax = (x @ self.A.reshape(width * rank, d).T).view(-1, width, rank)
        return Ax.square().sum(2) + torch.addmm(self.c, x, self.b.T), Ax

    def pull(self, weights, Ax):
        """sum_i weights_i grad q_i, (n, d), without forming the Jacobian."""
        width, rank, d = self.A.shape
        return (2 * weights[:, :, None] * Ax).view(-1, width * rank) @ self.A.view(width * rank, d) + weights @ self.b

    def jacobian(self, Ax):
        """(n, width, d)."""
        return 2 * torch.einsum("nwr,wrd->nwd", Ax, self.A) + self.b

    def hessian(self, weights):
        """sum_i weights_i Hess q_i, (n, d, d)."""
        return 2 * torch.einsum("nw,wrd,wre->nde", weights, self.A, self.A)


class DenseICNN(nn.Module):
    """T = grad psi of an input-convex psi; `forward` is the map, x (n, d) -> (n, d).

    `layers` >= 1 counts the z_l (with one psi is quadratic and T affine), `rank` >= 1 the squares in each q; eps >= 0
    is the strong convexity: Hess psi >= eps I. Convexity needs W_l, w >= 0: call `project` after every update.
    """

    def __init__(self, d, width=64, layers=2, rank=5, eps=1e-6):
        super().__init__()
        if min(d, width, layers, rank) < 1 or not eps >= 0:
            raise UsageError(
                f"d, width, layers, rank = {d, width, layers, rank} must be at least 1 and eps = {eps!r} not negative"
            )
        self.d, self.eps = d, float(eps)
        self.q = nn.ModuleList([_ConvexQuadratic(d, width, rank) for _ in range(layers)])
        self.W = nn.ParameterList([nn.Parameter(torch.rand(width, width) / width) for _ in range(layers - 1)])
        self.w = nn.Parameter(torch.rand(width) / width)

    @torch.no_grad()
    def project(self):
        """Clamp the convex weights at zero, the nearest point of the admissible set."""
        for weight in [*self.W, self.w]:
            weight.clamp_(min=0)

    def _up(self, x):
        """Values z_l, pre-activations a_l and the products A x of every layer."""
        z, Ax = self.q[0](x)
        pre, products = [None], [Ax]
        for W, q in zip(self.W, self.q[1:], strict=True):
            value, Ax = q(x)
            a = z @ W.T + value
            pre.append(a)
            products.append(Ax)
            z = fn.softplus(a)
        return z, pre, products

    def _down(self, pre, n):
        """Weights delta_l = d psi / d a_l (n, width) from the last layer down, and d psi / d z_l beside them."""
        above = self.w.expand(n, -1)
        deltas, aboves = [None] * len(pre), [None] * len(pre)
        for level in range(len(pre) - 1, 0, -1):
            aboves[level] = above
            deltas[level] = above * torch.sigmoid(pre[level])
            above = deltas[level] @ self.W[level - 1]
        deltas[0] = above
        return deltas, aboves

    def potential(self, x):
        """psi(x), (n,)."""
        return self._up(x)[0] @ self.w + self.eps / 2 * x.square().sum(1)

    def forward(self, x):
        """grad psi(x), (n, d)."""
        _, pre, products = self._up(x)
        deltas, _ = self._down(pre, len(x))
        return self._gradient(x, deltas, products)

    def _gradient(self, x, deltas, products):
        T = self.eps * x
        for q, delta, Ax in zip(self.q, deltas, products, strict=True):
            T = T + q.pull(delta, Ax)
        return T

    def with_hessian(self, x):
        """(grad psi, Hess psi), (n, d) and (n, d, d); costs d times a gradient.

        Hess psi = eps I + sum_l [ sum_i delta_li Hess q_li + J_l^T diag(dpsi/dz_l * softplus''(a_l)) J_l ], with
        J_l the Jacobian of a_l.
        """
        _, pre, products = self._up(x)
        deltas, aboves = self._down(pre, len(x))
        H = self.eps * torch.eye(self.d, dtype=x.dtype, device=x.device)
        J = self.q[0].jacobian(products[0])
        H = H + self.q[0].hessian(deltas[0])
        for level in range(1, len(pre)):
            slope = torch.sigmoid(pre[level])
            J = torch.matmul(self.W[level - 1], J) + self.q[level].jacobian(products[level])
            bend = aboves[level] * slope * (1 - slope)
            H = H + self.q[level].hessian(deltas[level]) + torch.matmul(J.mT, bend[:, :, None] * J)
            J = slope[:, :, None] * J
        return self._gradient(x, deltas, products), H


def log_det(H):
    """log det of symmetric positive definite matrices (n, d, d) -> (n,), by Cholesky, whose success the host awaits; differentiable."""
    return 2 * torch.linalg.cholesky(H).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def fit_identity(psi, sample, generator, iterations=500, batch=512, lr=1e-2):
    """Train psi by least squares until grad psi(x) = x on x = sample(batch, generator); returns the last loss.

    A composition must start at the identity; a convex network's random gradient does not. Mean over the batch of
    |grad psi(x) - x|^2, learning rate falling to zero along a cosine. Source: jko-icnn (<= 4000 iterations there).
    """
    adam = torch.optim.Adam(psi.parameters(), lr, fused=True)
    for i in range(iterations):
        adam.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * i / iterations)) / 2
        x = sample(batch, generator)
        loss = (psi(x) - x).square().sum(1).mean()
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        psi.project()
    return float(loss.detach())
