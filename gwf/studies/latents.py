r"""Latent mismatch: does a generator T(x, z) keep its auxiliary latent z when the proximal term draws its own?

sjko's algorithm charges E |T(x, z) - T_k(x, z')|^2 with z' independent of z. Integrating out the latents,

    E |T(x, z) - T_k(x, z')|^2 = E |E_z T - E_z T_k|^2 + E Var_z T + E Var_z T_k,

so that randomness which matched latents would carry over for free is charged for. For affine maps
T = m + s x + r z, KL to N(M, S^2) and a Euclidean step tau both steps have closed forms (derived here):

- matched: (s, r) are scaled by one factor, r/s stays for ever, and s^2 + r^2 is the exact JKO variance;
- independent: r' = 0 after one step whenever s > 0, and s' is the JKO step of the deviation s alone.

Measured: E Var_z T and the moments after each phase, for an affine map and for a network, against these.
Source: sjko (algorithm 2, by second-hand reports) for the rule; the analysis is ours. Chapter: sjko.
"""

import math

import pandas as pd
import torch
from torch import nn

from gwf import divergences
from gwf.errors import in_range, nearest
from gwf.exact import gaussian
from gwf.nets.mlp import MLP
from gwf.nets.toy import AffineMap
from gwf.seeding import derive, generator
from gwf.steps import semidual as sd

RULES = {"matched": sd.matched, "independent": sd.independent}


def affine_step(m, s, r, M, S, tau, latents):
    """Exact step of T = m + s x + r z, x, z ~ N(0, 1) independent: the new (m, s, r), floats.

    m, s, r with s > 0, r >= 0; target N(M, S^2); Euclidean tau > 0; `latents` "matched" or "independent".
    """
    nearest(latents, RULES, "rule for latents")
    sd_now = math.hypot(s, r) if latents == "matched" else s
    m_next, sd_next = gaussian.jko_step(m, sd_now, M, S, tau)
    ratio = float(sd_next) / sd_now
    return float(m_next), ratio * s, ratio * r if latents == "matched" else 0.0


class Quadratic(nn.Module):
    """v(y) = a y^2 + b y + c + N(y), y (n, 1) -> (n,); N an `MLP` of the given width, none if 0."""

    def __init__(self, width):
        super().__init__()
        self.a = nn.Parameter(torch.zeros(3))
        self.net = MLP(1, 1, width, 2) if width else None

    def forward(self, y):
        v = (self.a[0] * y + self.a[1]) * y + self.a[2]
        return (v if self.net is None else v + self.net(y)).squeeze(-1)


class Corrected(nn.Module):
    """T(x, z) = affine + N(x, z), N an `MLP` whose last layer starts at zero."""

    def __init__(self, m, s, r, width):
        super().__init__()
        self.affine, self.net = AffineMap([m], [s], [r]), MLP(2, 1, width, 2)
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x, z):
        return self.affine(x, z) + self.net(torch.cat([x, z], 1))


@torch.no_grad()
def moments(T, stream, n=2000, draws=64):
    """(mean, standard deviation, E Var_z T) from n source points and `draws` latents for each."""
    x, z = torch.randn(n, 1, 1, generator=stream), torch.randn(n, draws, 1, generator=stream)
    y = T(x.expand(-1, draws, -1).reshape(-1, 1), z.reshape(-1, 1)).reshape(n, draws)
    return float(y.mean()), float(y.std()), float(y.var(1).mean())


def run(seed, progress, *, start, M, S, tau, phases, iterations, batch, width, lr_map, lr_potential):
    """Train affine maps and networks of `width` through `phases` steps under both rules for the latents.

    Parameters
    ----------
    start : list (m, s, r)
        The map before the first step, which is its anchor.
    M, S, tau : float
        Target N(M, S^2); Euclidean step.
    phases, iterations, batch, width : int
    lr_map, lr_potential : float

    Returns
    -------
    dict
        "table": a row per network, rule and step, with `variance_z` (E Var_z T), `mean`, `sd` beside the exact values.
    """
    in_range(phases, 1, 100, "phases")
    in_range(tau, 0, math.inf, "tau", open_low=True)
    in_range(start[1], 0, math.inf, "start[1]", open_low=True)
    rows, total, done = [], 4 * phases * iterations, 0
    for net in ("affine", "network"):
        for rule, latents in RULES.items():
            torch.manual_seed(derive(seed, f"{net} {rule}"))
            T = AffineMap(*[[a] for a in start]) if net == "affine" else Corrected(*start, width)
            anchor = sd.Anchor(tau, latents=latents)
            anchor.advance(T)
            exact, laws = tuple(start), [(0, T)]

            def measure(k, T):
                mean, deviation, variance_z = moments(T, generator(seed, "moments"))
                rows.append(
                    {
                        "map": net,
                        "latents": rule,
                        "step": k,
                        "variance_z": variance_z,
                        "variance_z_exact": exact[2] ** 2,
                        "mean": mean,
                        "mean_exact": exact[0],
                        "sd": deviation,
                        "sd_exact": math.hypot(*exact[1:]),
                    }
                )

            def after(k, T):
                nonlocal exact
                exact = affine_step(*exact, M, S, tau, rule)
                measure(k + 1, T)

            measure(*laws[0])
            for k in sd.phases(
                sd.SemiDualStep(divergences.entropy("kl_dv"), Quadratic(0 if net == "affine" else width), anchor),
                T,
                lambda n, g: tuple(torch.randn(2, n, 1, generator=g)),
                lambda n, g: M + S * torch.randn(n, 1, generator=g),
                [iterations] * phases,
                lr_map=lr_map,
                lr_potential=lr_potential,
                batch=batch,
                generator=generator(seed, f"{net} {rule}"),
                schedule=sd.cosine,
                progress=lambda i, _, done=done, net=net, rule=rule, **shown: progress(done + i, total, **shown),
            ):
                after(k, T)
            done += phases * iterations
    return {"table": pd.DataFrame(rows).round(5)}
