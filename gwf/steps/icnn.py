r"""The JKO-ICNN step: T = grad psi with psi input-convex, and the entropy by change of variables.

    min_psi  E|x - T(x)|^2 / (2 tau) + E[ Phi(T(x)) - log det Hess psi(x) ],     nu proportional to exp(-Phi)

Theorem 1 of jko-icnn: for the free energy F(mu) = int Phi dmu + int mu log mu,

    F(T# mu) = E_mu Phi(T(x)) - E_mu log |det grad T(x)| + int mu log mu,

since (T# mu)(T(x)) = mu(x) / |det grad T(x)|. The last term does not depend on T, so samples of mu are enough. The
price is the determinant: d columns of a Hessian and d^3 operations, where a variational step pays neither. `log_det_of`
takes it exactly (`ExactLogDet`) or by random projections (`StochasticLogDet`). Chapter: notebooks/chapters/05_vwgf.ipynb.
"""

import torch

from gwf.errors import UsageError
from gwf.nets.icnn import log_det
from gwf.steps.jko import Players, positive, proximal


class ExactLogDet:
    """mean log det Hess psi from the full Hessian."""

    def __call__(self, psi, x):
        """(T(x), mean log det), both differentiable in psi's weights."""
        T, H = psi.with_hessian(x)
        return T, log_det(H).mean()


class StochasticLogDet:
    r"""A scalar whose *gradient* is an unbiased estimate of that of mean log det Hess psi; its value means nothing.

    .. math:: \nabla\log\det H = tr(H^{-1}\nabla H) = E_v[(H^{-1}v)^T (\nabla H) v],\quad v \text{ of independent signs}

    (Hutchinson). H^{-1} v comes from conjugate gradients, at most `iterations` >= 1 of them (d are exact in exact
    arithmetic), which need only products H u: no Hessian is formed. v is drawn from `generator`. Source: Alvarez-Melis,
    Schiff & Mroueh (2021), who use it in the same step; called JKO-ICNN-a by vwgf.
    """

    def __init__(self, generator, iterations=20):
        if iterations < 1:
            raise UsageError(f"iterations = {iterations!r} is out of range: it must be at least 1")
        self.generator, self.iterations = generator, iterations

    def __call__(self, psi, x):
        """(T(x), surrogate of mean log det)."""
        v = torch.randint(2, x.shape, generator=self.generator, device=x.device).to(x.dtype) * 2 - 1
        x = x.detach().requires_grad_(True)
        T = psi(x)

        def times_hessian(u, **kwargs):
            # H is symmetric: H u = grad_x (T . u).
            return torch.autograd.grad((T * u).sum(), x, retain_graph=True, **kwargs)[0]

        w = conjugate_gradients(times_hessian, v, self.iterations)
        return T, (w * times_hessian(v, create_graph=True)).sum(1).mean()


@torch.no_grad()
def conjugate_gradients(product, v, iterations, tolerance=1e-5):
    """u with H u = v for a batch of symmetric positive definite H, v (n, d), given `product(u) = H u`.

    Rows converge separately; a row is left alone once |residual| <= tolerance |v|; the host looks whether all are.
    """
    u, residual = torch.zeros_like(v), v.clone()
    direction, norm = residual.clone(), residual.square().sum(1, keepdim=True)
    target = tolerance**2 * norm
    for _ in range(iterations):
        with torch.enable_grad():
            image = product(direction).detach()
        open_rows = norm > target
        if not open_rows.any():
            break
        step = torch.where(open_rows, norm / (direction * image).sum(1, keepdim=True), 0.0)
        u += step * direction
        residual -= step * image
        new = residual.square().sum(1, keepdim=True)
        direction = torch.where(open_rows, residual + new / norm * direction, direction)
        norm = torch.where(open_rows, new, norm)
    return u


class ICNNStep(Players):
    """One JKO step for KL(. | nu) in a convex potential, trained without a critic.

    Parameters
    ----------
    psi : gwf.nets.icnn.DenseICNN
        Carries on from step to step (as does its Adam, which jko-icnn renews). Start it at the identity.
    log_nu : callable
        x (n, d) -> (n,), up to a constant; differentiable.
    tau, log_det_of : float > 0, ExactLogDet or StochasticLogDet
    """

    def __init__(self, psi, log_nu, tau, *, lr, log_det_of=None):
        super().__init__(psi, None, lr, betas=(0.9, 0.999))
        self.log_nu, self.tau, self.log_det_of = log_nu, positive(tau), log_det_of or ExactLogDet()

    def begin(self, k, x):
        """Nothing to fit: there is no reference law."""

    def push(self, z):
        """(T(z), mean log det grad T), in one pass."""
        return self.log_det_of(self.T, z)

    def map_loss(self, x, z, y=None):
        """E|z - T(z)|^2 / (2 tau) + E[Phi(T(z)) - log det]: the free energy of T# mu up to a constant in T (Theorem 1)."""
        x, entropy_gain = x
        return proximal(x, z, self.tau) + (-self.log_nu(x).mean() - entropy_gain)

    def update(self, z):
        """One update on the batch z (n, d), then the projection onto convex potentials. Returns the loss."""
        loss = self.update_map(z)
        self.T.project()
        return loss
