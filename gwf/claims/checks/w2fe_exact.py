"""Checks of W2-FE's theory, and of its sister's on the JSD flow: exact flows, no network."""

import math

import numpy as np

from gwf.claims.outcome import Outcome
from gwf.claims.registry import change, check, exact
from gwf.data import toys
from gwf.exact import euler, gaussian
from gwf.exact.js_flow import JensenShannonFlow
from gwf.fields.minibatch_ot import MinibatchOT
from gwf.seeding import generator, rng
from gwf.steps.euler import particle_flow


def clouds(n=128):
    """Start and data of the ring, float64 (n, 2)."""
    stream = generator(0, "w2fe-C1")
    return toys.normal(n, stream).double(), toys.ring(n, stream).double()


class Switched(MinibatchOT):
    """Exact transport to `other` from the third evaluation on: a field that is not one of W2 to the data."""

    def __init__(self, other):
        self.other, self.calls = other, 0

    def velocity(self, x, y, other=None, generator=None):
        """V at x towards y, later towards the other cloud."""
        self.calls += 1
        return super().velocity(x, y if self.calls < 3 else self.other)


@check("w2fe-C1", exact(switch=False, eps=0.1, steps=20), change(switch=True))
def steepest_descent(evidence):
    """Particles assigned anew at every step: distance from the geodesic, and the dissipation of F against -E |V|^2."""
    x, y = clouds()
    target = y[rng(0, "w2fe-C1").permutation(len(y))].flip(0) / 2
    field = Switched(target) if evidence["switch"] else MinibatchOT()
    V = MinibatchOT().velocity(x, y)
    gaps, costs = [], [float(V.square().sum(1).mean())]

    def after(k, now):
        on_geodesic = x + (1 - (1 - evidence["eps"]) ** k) * V
        gaps.append(float((now - on_geodesic).abs().max()))
        costs.append(float(MinibatchOT().velocity(now, y).square().sum(1).mean()))

    particle_flow(field, x, y, evidence["eps"], evidence["steps"], after=after)
    # F = cost / 2 falls by (1 - (1 - eps)^2) / 2 E |V|^2 = (eps - eps^2 / 2) E |V|^2 in a step of size eps.
    eps = evidence["eps"]
    rates = [(a - b) / 2 / ((eps - eps**2 / 2) * a) - 1 for a, b in zip(costs[:-1], costs[1:], strict=True)]
    return Outcome(
        {
            "largest distance from the geodesic": max(gaps),
            "largest error of the energy's rate": float(np.abs(rates).max()),
        },
        f"{len(x)} particles on the ring, {evidence['steps']} steps of {eps}: W2 from {costs[0] ** 0.5:.4f} to {costs[-1] ** 0.5:.4f}.",
    )


@check("w2fe-C2", exact(clock="exponential"), change(clock="linear"))
def explicit_solution(evidence):
    """Gaussians in d = 5: W2(t) over e^-t W2(0), and the law's derivative in t against its own displacement."""
    draw, d = rng(0, "w2fe-C2"), 5
    roots = draw.standard_normal((2, d, d))
    m, C = draw.standard_normal((2, d)), roots @ roots.transpose(0, 2, 1) / d + 0.1 * np.eye(d)
    start, ratios, residuals = gaussian.w2_cov(m[0], C[0], m[1], C[1]), [], []

    def law(t):
        # Without the change of time the geodesic arrives at t = 1; a time t of the flow is then read as itself.
        s = t if evidence["clock"] == "exponential" else -math.log1p(-min(t, 1 - 1e-6))
        return euler.w2_flow(m[0], C[0], m[1], C[1], s)

    for t in (0.1, 0.5, 0.9):
        now, ahead, behind = law(t), law(t + 1e-4), law(t - 1e-4)
        ratios.append(gaussian.w2_cov(*now, m[1], C[1]) / (math.exp(-t) * start) - 1)
        A, b = euler.displacement(*now, m[1], C[1])
        residuals.append(np.abs((ahead[0] - behind[0]) / 2e-4 - A @ now[0] - b).max())
        residuals.append(np.abs((ahead[1] - behind[1]) / 2e-4 - A @ now[1] - now[1] @ A).max())
    return Outcome(
        {
            "largest error of W2(t) / (e^-t W2(0))": float(np.abs(ratios).max()),
            "residual of the continuity equation": float(max(residuals)),
        },
        f"d = {d}, t = .1, .5, .9, W2(0) = {start:.3f}; neither covariance need commute with the other.",
    )


PAIR = ([0.3, -1.0], [[0.5, 0.2], [0.2, 0.4]], [1.0, 0.5], [[1.5, -0.3], [-0.3, 0.8]])


def _law_at_two(eps, step):
    """The law after 2 / eps steps of forward Euler, its map computed anew each time, or of the implicit scheme."""
    steps = round(2 / eps)
    if step == "implicit":
        return euler.w2_flow(*PAIR, -math.log(euler.implicit_factor(eps, steps)))
    m, C = euler.w2_euler(*PAIR, eps, steps)
    return m[-1], C[-1]


@check("w2fe-C3", exact(step="forward"), change(step="implicit"))
def euler_converges(evidence):
    """Error of the factor (1 - eps)^(2 / eps) of W2, and W2 from the Euler law to the flow's law, at t = 2."""
    start, flow, errors, gaps = gaussian.w2_cov(*PAIR), euler.w2_flow(*PAIR, 2.0), {}, {}
    for eps in (0.5, 0.1, 0.01):
        law = _law_at_two(eps, evidence["step"])
        errors[eps] = abs(gaussian.w2_cov(*law, *PAIR[2:]) / start - (1 - eps) ** round(2 / eps))
        gaps[eps] = gaussian.w2_cov(*law, *flow) / start
    return Outcome(
        {
            "largest error of the factor": max(errors.values()),
            "distance from the flow at step .01": gaps[0.01],
            "order in the step": math.log10(gaps[0.1] / gaps[0.01]),
        },
        "W2 to the flow's law over W2(0): "
        + ", ".join(f"{value:.5f} (eps {eps:g})" for eps, value in gaps.items())
        + ".",
    )


@check("w2fe-S2", exact(sign=1.0), change(sign=-1.0))
def jensen_shannon(evidence):
    """Particles under the exact JSD field: their distance at t = 16, JS along the flow, its late rate."""
    source, target = ((-1.0, 0.5), np.array([[0.5, 0.1], [0.1, 0.3]])), ((0.5, -0.2), np.eye(2))
    z = rng(0, "w2fe-S2").standard_normal((200, 2))
    # Exact moments, so that the particles' distance from nu is that of the flow and not of the draw.
    z = np.linalg.solve(np.linalg.cholesky(np.cov(z.T)), (z - z.mean(0)).T).T
    y = np.array(source[0]) + z @ np.linalg.cholesky(source[1]).T
    flow = JensenShannonFlow(source, target, size=32)
    t, values, moved = flow.run(16.0, flow.h**2 / 4.5, y, evidence["sign"])

    def distance(cloud):
        return gaussian.w2_cov(cloud.mean(0), np.cov(cloud.T), *target)

    late = np.searchsorted(t, 14.0)
    return Outcome(
        {
            "W2 of the particles' moments at the end over the start": distance(moved) / distance(y),
            "largest rise of JS in a step": float(np.diff(values).max()),
            "late rate of JS": float(np.log(values[late] / values[-1]) / (t[-1] - t[late])),
        },
        f"JS from {values[0]:.4f} to {values[-1]:.5f} at t = 16; W2 of Gaussian fits from {distance(y):.3f} to {distance(moved):.3f}.",
    )
