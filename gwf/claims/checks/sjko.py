"""Checks of S-JKO's and UOTM's claims and of our questions about them."""

import numpy as np
import torch
from scipy.optimize import minimize, minimize_scalar

from gwf.claims.checks.ou import floor, spd_targets
from gwf.claims.checks.paired import differences, distances, scale
from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import change, check, exact
from gwf.exact import atoms, gaussian, grids, mixtures
from gwf.seeding import generator, rng
from gwf.steps.increments import passes
from gwf.steps.semidual import AllPairsStep, RelaxedSourceStep, entropy


@check("sjko-C1", exact(critic_tau=0.1), change(critic_tau=0.2))
def source_fixed_step(evidence):
    """Steps of size .1 from N(0, 1) to N(3, .5^2): values, map, energy."""
    tau, M, S = 0.1, 3.0, 0.5
    m, s = gaussian.jko_sequence(0, 1, M, S, tau, 6)
    values = gaussian.jko_objective(m[1:], s[1:], m[:-1], s[:-1], M, S, tau)
    q, r = gaussian.optimal_critic(*gaussian.jko_step(0, 1, M, S, evidence["critic_tau"]), M, S)
    dual = gaussian.dual_value(q, r, 0, 1, M, S, tau)
    x = np.linspace(-3, 3, 13)
    y = m[1] + s[1] * x
    # T(x) = x + tau grad v(T(x)) with v = -h, grad h(y) = q y + r.
    implicit = np.abs(y - x + tau * (q * y + r)).max()
    slack = (gaussian.kl(m[:-1], s[:-1], M, S) - values).min()
    return Outcome(
        {
            "duality gap": float(abs(dual - values[0])),
            "residual of the implicit Euler step": float(implicit),
            "slack of the energy inequality": float(slack),
            "distance of the first value from 13.367059": float(abs(values[0] - 13.367059)),
        },
        f"First value {values[0]:.6f}, and KL falls from {gaussian.kl(0, 1, M, S):.3f} to {gaussian.kl(m[-1], s[-1], M, S):.3f} in 6 steps.",
    )


@check("sjko-C2", exact(composed="composition", whole="whole"), change(composed="whole", whole="composition"))
def map_passes(evidence):
    """Map passes of the published schedule, and slopes in log K at 2000 iterations in every step."""

    def order(how):
        return float(np.log2(passes(200, 2000, 2000, how) / passes(100, 2000, 2000, how)))

    ratio = passes(50, 10_000, 2000, evidence["composed"]) / passes(50, 10_000, 2000, evidence["whole"])
    table = [
        passes(K, 10_000, 100_000 // (K - 1), "composition") / passes(K, 10_000, 100_000 // (K - 1), "whole")
        for K in (10, 20, 50, 100, 200)
    ]
    return Outcome(
        {
            "compositional over whole passes, K 50": ratio,
            "order in K of compositional passes": order(evidence["composed"]),
            "order in K of whole passes": order(evidence["whole"]),
        },
        f"Ratios at K = 10, 20, 50, 100, 200 and 110 thousand iterations: {', '.join(f'{v:.3g}' for v in table)}.",
    )


def _flow(sources):
    """Exact weights of the five modes of one coordinate at tau = 1: after 1 to 20 steps, and of UOTM."""
    return {"laws": mixtures.twenty_five_gaussians(1.0, 20)[1:], "uotm": mixtures.uotm_twenty_five(1.0)}


@check("sjko-C5", _flow, lambda evidence: {**evidence, "laws": evidence["laws"][::-1]})
def many_steps(evidence):
    """Total variation of the exact flow to uniform after 1 and 20 steps."""
    one, last = mixtures.tv_to_uniform(evidence["laws"][0]), mixtures.tv_to_uniform(evidence["laws"][-1])
    return Outcome(
        {
            "total variation after 1 step minus after 20": one - last,
            "total variation after 1 step": one,
            "total variation after 20 steps": last,
        },
        f"More steps help the exact flow, from {one:.3f} to {last:.3f}: by far less than the published factor.",
    )


def _exchange_uotm(evidence):
    return {"laws": np.vstack([evidence["uotm"], evidence["laws"][1:]]), "uotm": evidence["laws"][0]}


@check("sjko-C6", _flow, _exchange_uotm)
def coverage(evidence):
    """Order of UOTM, one step and 20 steps, and whether the flow gets near uniform."""
    uotm, one, last = (
        mixtures.tv_to_uniform(evidence["uotm"]),
        mixtures.tv_to_uniform(evidence["laws"][0]),
        mixtures.tv_to_uniform(evidence["laws"][-1]),
    )
    outer = evidence["laws"][-1][0]
    return Outcome(
        {
            "total variation UOTM minus one step": uotm - one,
            "total variation one step minus 20 steps": one - last,
            "total variation after 20 steps": last,
        },
        f"UOTM {uotm:.3f}, one step {one:.3f}, 20 steps {last:.3f}: the order holds, but the exact flow leaves each outer "
        f"column {outer:.3f} of its mass instead of .2.",
    )


@check("sjko-C8", exact(taus=(0.1, 0.5, 1.0, 2.0, 5.0)), change(taus=(5.0, 2.0, 1.0, 0.5, 0.1)))
def step_sweep(evidence):
    """Total variation of one exact step for a sweep of tau, the modes taken as atoms."""
    found = [mixtures.tv_to_uniform(mixtures.atomic_twenty_five(tau)) for tau in evidence["taus"]]
    pairs = ", ".join(f"{tau:g}: {value:.3f}" for tau, value in zip(evidence["taus"], found, strict=True))
    return Outcome(
        {
            "largest rise of total variation as tau grows": float(np.diff(found).max()),
            "range of total variation": float(np.ptp(found)),
        },
        f"Total variation by tau: {pairs}. The exact problem gets better with tau and has no break.",
    )


@check(
    "sjko-C9",
    lambda sources: distances(sources, "digits"),
    scale(2, functional="js_ns"),
    scale(0.1, functional="js_ns"),
)
def jsd_against_kl(frame):
    """(mean distance of non-saturating JS minus that of KL) / KL's, both with the JKO step."""
    rows = frame[frame["step"] == "jko"]
    paired = differences(rows, {"functional": "js_ns"}, {"functional": "kl"}, ["seed"])
    if len(paired) < 2:
        raise NotRun("the profile does not have two seeds of js_ns and kl with the JKO step")
    reference = rows.loc[rows["functional"] == "kl", "value"].mean()
    return Outcome(
        {"relative difference of the mean distance": float(paired.mean() / reference)},
        f"FD-LeNet {paired.mean():+.2g} +- {paired.std():.2g} against KL's {reference:.1f}, {len(paired)} seeds.",
    )


@check("sjko-C10", exact(tau=0.05), change(tau=0.5))
def ou_tracking(evidence):
    """Published log10 SymKL at t = .5 minus the error of exact JKO steps on the same kind of targets."""
    published = {2: -2.3, 4: -0.9, 10: -0.1}
    floors = {d: floor(*spd_targets(d, 400, rng(0, f"claims sjko-C10 {d}")), evidence["tau"], 0.5) for d in published}
    text = ", ".join(f"d = {d}: {published[d]} against {value:.2f}" for d, value in floors.items())
    return Outcome(
        {f"published minus floor, d {d}": published[d] - value for d, value in floors.items()},
        f"Published against the floor of the step: {text}.",
    )


@check("sjko-U2", exact(method="uotm"), change(method="balanced"))
def outliers(evidence):
    """Source mass in the outlier's cell, cost .05 (x - y)^2, i.e. a Euclidean step of 10."""
    shares = {}
    for place in (-10.0, -6.0, -1.0):
        y, b = np.array([place, 1.0]), np.array([0.01, 0.99])
        relaxed = grids.relaxed_step(y, b, 10.0).mu[0]
        shares[place] = float({"uotm": relaxed, "balanced": b[0]}[evidence["method"]])
    return Outcome(
        {
            "share sent to an outlier at -10": shares[-10.0],
            "share sent to an outlier at -6": shares[-6.0],
            "share sent to an outlier at -1": shares[-1.0],
        },
        f"Of 1 % of the data are sent {shares[-10.0]:.2%} at -10, {shares[-6.0]:.2%} at -6, {shares[-1.0]:.2%} at -1: "
        "only a far outlier is dropped.",
    )


@check("sjko-O1", exact(independent=True), change(independent=False))
def latents(evidence):
    """The step for T = m + s x + r z from (0, .8, .6), KL to N(3, .25), tau = 1, with either proximal term."""

    def step(independent):
        def objective(u):
            m, s, r = u
            moved = m**2 + (s - 0.8) ** 2 + (r**2 + 0.36 if independent else (r - 0.6) ** 2)
            return moved / 2 + float(gaussian.kl(m, np.hypot(s, r), 3, 0.5))

        return minimize(objective, [0.0, 0.8, 0.6], jac="3-point", tol=1e-10).x

    independent, matched = step(evidence["independent"]), step(False)
    return Outcome(
        {
            "r with independent latents": independent[2],
            "s with independent latents": independent[1],
            "r over s with matched latents": matched[2] / matched[1],
            "s with matched latents": matched[1],
        },
        f"After one step: independent r = {abs(independent[2]):.5f}, matched r = {matched[2]:.5f}.",
    )


@check("sjko-O3", exact(step=AllPairsStep), change(step=RelaxedSourceStep))
def broadcast(evidence):
    """mean of e^(v - c) over all pairs and over true pairs, through the losses of the code."""
    kl = entropy("kl")

    def average(step, v, c):
        return float(step(kl, kl, None, None).of_source(v, c)) + 1

    small = torch.tensor([0.0, 1.0], dtype=torch.float64)
    v, c = torch.randn(2, 128, generator=generator(0, "claims sjko-O3"), dtype=torch.float64)
    factor = float(v.exp().mean() * (-c.abs()).exp().mean())
    return Outcome(
        {
            "all-pairs average on the small case": average(evidence["step"], small, small),
            "paired average on the small case": average(RelaxedSourceStep, small, small),
            "error of the factorisation": abs(average(evidence["step"], v, c.abs()) - factor),
        },
        "The all-pairs average is a product of two means: the cost only rescales the critic's loss.",
    )


@check("sjko-O4", exact(profiled=True), change(profiled=False))
def profiling(evidence):
    """Semi-dual of KL on random atoms: sup over C of its value at v + C against the Donsker-Varadhan form at v."""
    draw, gaps, gains = rng(0, "claims sjko-O4"), [], []
    plain, dv = entropy("kl"), entropy("kl_dv")
    for _ in range(20):
        x, y, v = draw.normal(size=12), draw.normal(size=12), draw.normal(size=12)
        C, uniform = atoms.cost(x, y, 0.5), np.full(12, 1 / 12)

        def value(constant, v=v, C=C, uniform=uniform):
            return uniform @ (C - v - constant).min(1) - float(plain.of_data(torch.tensor(v + constant)))

        best = -minimize_scalar(lambda c: -value(c)).fun if evidence["profiled"] else value(0.0)
        donsker_varadhan = uniform @ (C - v).min(1) - float(dv.of_data(torch.tensor(v)))
        gaps.append(abs(best - donsker_varadhan))
        gains.append(best - value(0.0))
    return Outcome(
        {"largest difference": max(gaps), "smallest gain of the profiled form": min(gains)},
        "20 random pairs of discrete laws.",
    )
