r"""The porous medium equation from samples: a JKO sequence for the generalised entropy, beside the exact one.

F(mu) = int mu^m / (m - 1), whose Wasserstein gradient flow is d mu / dt = Laplacian(mu^m). From a Barenblatt-shaped
start, mu_0(x) proportional to (R_0^2 - |x|^2)_+^(1/(m-1)) with unit mass, every exact JKO step is a dilation and the
radii R_k solve a scalar equation (`gwf.exact.barenblatt`). The learned sequence sees particles of mu_0 and nothing
else; it is measured by the change of variables along the learned maps, which for affine maps is exact:

    G(mu_k) = (1/(m-1)) E_{mu_0} [ (mu_0(z) / |det grad T_k(z)|)^(m-1) ],      R_k = R_0 (Var T_k(z) / Var z)^(1/2).

The dual's own value, which is all that a method without this exact measure could report, stands in a column of its
own. The column `G_released_truth` is what vwgf's released code calls exact: it sets the Barenblatt constant from the
radius R_0 at time `t_0`, so that its law has a mass below 1 (.858 at d = 3), and averages the un-normalised solution
under the normalised one, while the particles start from the normalised profile. Source: vwgf, section 5 (porous
medium); figures digitised from the released notebook.
"""

import math

import pandas as pd
import torch

from gwf.errors import UsageError, in_range, nearest
from gwf.exact import barenblatt
from gwf.nets.mlp import AffineIncrement, RatioNet, ResidualMLP
from gwf.seeding import derive, generator, rng
from gwf.steps.internal import EntropyDual, Power, VariationalFlow, VariationalStep, log_det_jacobian
from gwf.steps.references import UniformBall, UniformBox

MAPS = {"affine": lambda d, width: AffineIncrement(d), "residual": lambda d, width: ResidualMLP(d, width, 2)}
REFERENCES = {"ball": UniformBall, "box": UniformBox}
MEASURED = 4000  # points along which the law is measured; the result depends on them only where T is not affine


def run(
    seed,
    progress,
    *,
    d,
    m,
    radius,
    t_0,
    tau,
    K,
    map,
    reference,
    margin,
    particles,
    iterations,
    ratio_updates,
    batch,
    width,
    lr_map,
    lr_ratio,
    warm_up,
):
    """One learned sequence of K steps. Settings that only concern training are those of `VariationalFlow`.

    Parameters
    ----------
    d, m, radius : int, float, float
        Dimension, exponent > 1, support radius R_0 of mu_0.
    t_0, tau, K : float, float, int
        Time at which the released code places mu_0 (used for its "truth" alone), JKO step, number of steps.
    map : {"affine", "residual"}
        Class of the increments.
    reference, margin : {"ball", "box"}, float
        Uniform reference law, and its size in units of the support.
    particles : int
        Size of the cache.

    Returns
    -------
    dict with "table": one row per k = 0..K.
    """
    nearest(map, MAPS, "map")
    nearest(reference, REFERENCES, "reference")
    for name, value, low, high in [
        ("d", d, 1, 32),
        ("K", K, 1, 1000),
        ("particles", particles, 100, 10**7),
        ("iterations", iterations, 1, 10**5),
        ("t_0", t_0, 1e-9, 1e3),
    ]:
        in_range(value, low, high, name)
    in_range(m, 1, 10, "m", open_low=True)
    in_range(radius, 0, 1e3, "radius", open_low=True)

    torch.manual_seed(derive(seed, "networks"))
    dual = EntropyDual(Power(m), RatioNet(d, width), REFERENCES[reference](margin))
    T = MAPS[map](d, width)
    x = torch.tensor(barenblatt.sample(particles, radius, d, m, rng(seed, "particles")), dtype=torch.float32)
    flow = VariationalFlow(
        VariationalStep(dual, T, tau),
        x,
        generator(seed, "training"),
        iterations=iterations,
        ratio_updates=ratio_updates,
        batch=batch,
        lr_map=lr_map,
        lr_ratio=lr_ratio,
        warm_up=warm_up,
    )

    z = barenblatt.sample(MEASURED, radius, d, m, rng(seed, "measured"))
    law = _Law(torch.tensor(z, dtype=torch.float32), barenblatt.density(z, radius, d, m), m)
    G_0 = float(barenblatt.entropy(radius, d, m))
    rows = [{"k": 0, "G_learned": G_0, "radius_learned": radius, "G_dual": math.nan}]
    for k in range(1, K + 1):
        flow.advance()
        law.push(T)
        rows.append(
            {
                "k": k,
                "G_learned": G_0 * law.entropy_ratio(),
                "radius_learned": radius * law.spread_ratio(),
                "G_dual": flow.bound(),
            }
        )
        if not math.isfinite(rows[-1]["G_dual"]):
            raise UsageError(f"training diverged at step {k}: lower lr_map = {lr_map} or lr_ratio = {lr_ratio}")
        progress(k, K, G=rows[-1]["G_learned"])

    table = pd.DataFrame(rows)
    table.insert(1, "t", table["k"] * tau)
    table.insert(0, "d", d)
    table["radius_jko"] = barenblatt.jko_radii(radius, tau, K, d, m)
    table["radius_flow"] = barenblatt.flow_radius(radius, table["t"].to_numpy(), d, m)
    for name in ("jko", "flow"):
        table[f"G_{name}"] = barenblatt.entropy(table[f"radius_{name}"].to_numpy(), d, m)
    table["G_released_truth"] = barenblatt.released_wrong_entropy(t_0 + table["t"].to_numpy(), radius, t_0, d, m)
    constant = barenblatt.constant_from_radius(radius, t_0, d, m)
    table["mass_released_truth"] = barenblatt.profile_mass(constant, d, m)
    return {"table": table}


class _Law:
    """mu_k along points of mu_0, with its density carried by the change of variables."""

    def __init__(self, z, density, m):
        self.z, self.x, self.m, self.log_det = z, z, m, torch.zeros(len(z), dtype=torch.float64)
        self.power = torch.as_tensor(density) ** (m - 1)

    def push(self, T):
        self.log_det += log_det_jacobian(T, self.x)
        with torch.no_grad():
            self.x = T(self.x)

    def entropy_ratio(self):
        """G(mu_k) / G(mu_0), both by the same points: exact where det grad T is constant."""
        return float((self.power * (-(self.m - 1) * self.log_det).exp()).mean() / self.power.mean())

    def spread_ratio(self):
        """Ratio of standard deviations, all coordinates together: R_k / R_0 of a dilation."""
        before, after = ((p - p.mean(0)).double().square().sum() for p in (self.z, self.x))
        return float((after / before).sqrt())
