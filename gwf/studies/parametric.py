r"""A network's JKO increment against -tau G^{-1} grad F, as tau -> 0 (gwf, proposition 6.3).

The map is T_theta(z) = z + W_2 tanh(W_1 z + b_1) + b_2 on n fixed latents of N(0, I), the functional (1/2) MMD^2 to samples of the
eight Gaussians with a fixed Gaussian kernel. The parametric JKO step is solved to rounding by a Newton method, the
metric G(theta) = (1/n) sum_i J_i^T J_i is formed explicitly, and the increment Delta = theta_1 - theta_0 is compared with
the flow. Expected: cosine to 1, relative error and residual |G Delta / tau + grad F| both of order tau. Control: the
same comparison with G replaced by the identity, plain gradient descent, which stays away. Chapter: `parametric`.

The expansion needs tau small against the least eigenvalue of G. Networks as commonly started have hidden units that do
nearly the same, and that eigenvalue is 1e-9 or less; the inner weights are drawn wider here, which gives 1e-5.
"""

import pandas as pd
import torch
from torch import nn

from gwf.data.embedded import eight_gaussians
from gwf.errors import UsageError, in_range
from gwf.seeding import derive, generator
from gwf.steps.parametric import ParametricFlow, half_mmd2, vectorised


class TanhMap(nn.Module):
    """T(z) = z + W_2 tanh(W_1 z + b_1) + b_2, z (n, 2) -> (n, 2), smooth, 5 width + 2 parameters.

    W_1 starts at N(0, scale^2), b_1 at N(0, 1), W_2 at N(0, 1/4), by draws from torch's current stream.
    """

    def __init__(self, width, scale):
        super().__init__()
        self.inner, self.outer = nn.Linear(2, width), nn.Linear(width, 2)
        nn.init.normal_(self.inner.weight, std=scale)
        nn.init.normal_(self.inner.bias)
        nn.init.normal_(self.outer.weight, std=0.5)

    def forward(self, z):
        return z + self.outer(torch.tanh(self.inner(z)))


def run(seed, progress, *, width, scale, latents, points, bandwidth, taus):
    """One seed of the study.

    Parameters
    ----------
    width : int
        Hidden units; p = 5 width + 2 must not exceed 2 * latents.
    scale : float
        Spread of the inner weights at the start.
    latents, points : int
        Size of the fixed samples of mu_0 = N(0, I) and nu.
    bandwidth : float
        Of the kernel.
    taus : list of float
        Euclidean steps.

    Returns
    -------
    dict
        "table": tau, cosine, relative_error (both against -tau G^{-1} grad F), displacement_error (the same error in the
        norm of G: of the particles' velocities), cosine_gradient (against -grad F, the control), residual (|G Delta / tau + grad F| / |grad F|), decrease (of F over the step, relative to its value),
        p, condition (of G). Orders are the slope in log tau between neighbouring rows: order_error, order_residual.
    """
    p = 5 * width + 2
    if not 1 <= width <= 40 or p > 2 * latents:
        raise UsageError(f"width = {width}: it must lie in [1, 40] with 5 width + 2 <= 2 latents = {2 * latents}")
    in_range(bandwidth, 0, 100, "bandwidth", open_low=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "weights"))
        T, theta = vectorised(TanhMap(width, scale))
    z = torch.randn(latents, 2, generator=generator(seed, "latent")).double()
    y = eight_gaussians(points, generator(seed, "data")).double()
    flow = ParametricFlow(T, lambda theta: half_mmd2(T(theta, z), y, bandwidth), z)

    gradient, velocity, G = flow.gradient(theta), flow.velocity(theta), flow.metric(theta)
    eigenvalues = torch.linalg.eigvalsh(G)
    rows = []
    for i, tau in enumerate(sorted(taus, reverse=True)):
        after = flow.jko_step(theta, tau)
        increment = (after - theta) / tau
        rows.append(
            {
                "tau": tau,
                "cosine": cosine(increment, velocity),
                "relative_error": float((increment - velocity).norm() / velocity.norm()),
                "displacement_error": float(
                    ((increment - velocity) @ G @ (increment - velocity) / (velocity @ G @ velocity)).sqrt()
                ),
                "cosine_gradient": cosine(increment, -gradient),
                "residual": float(flow.residual(after, theta, tau).norm() / gradient.norm()),
                "decrease": float(1 - flow.F(after) / flow.F(theta)),
                "p": p,
                "condition": float(eigenvalues[-1] / eigenvalues[0]),
            }
        )
        progress(i + 1, len(taus), cosine=rows[-1]["cosine"])
    table = pd.DataFrame(rows)
    for name in ("error", "residual"):
        column = table["relative_error" if name == "error" else "residual"]
        table[f"order_{name}"] = _slopes(table["tau"], column)
    return {"table": table.map(lambda value: float(f"{value:.4g}"))}


def cosine(a, b):
    """Cosine of the angle between two vectors, float."""
    return float(a @ b / (a.norm() * b.norm()))


def _slopes(tau, value):
    """d log value / d log tau between each row and the one before; nan in the first."""
    tau, value = torch.tensor(tau.to_numpy()).log(), torch.tensor(value.to_numpy()).log()
    return [float("nan")] + ((value[1:] - value[:-1]) / (tau[1:] - tau[:-1])).tolist()
