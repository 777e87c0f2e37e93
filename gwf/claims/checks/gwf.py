"""Checks of GWF's claims and of our questions about it."""

import math

import numpy as np
import torch
import yaml
from scipy.optimize import minimize
from scipy.stats import norm
from torch import nn

from gwf import functionals, paths
from gwf.claims.checks.paired import differences, distances, scale, score
from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import change, check, exact
from gwf.exact import atoms, gaussian
from gwf.exact.envelope import gaussian_step
from gwf.seeding import generator, rng
from gwf.steps.jko import JKO, JKOStep
from gwf.steps.parametric import MMDParticles, PointSaddle, Translations
from gwf.steps.penalties import penalty
from gwf.training import recipes


@check("gwf-C1", exact(tau=0.5, dual_tau=0.5), change(dual_tau=1.0))
def unbalanced_transport(evidence):
    """Least value over couplings against the dual value at the solver's potential, and mu/nu = (f*)'(-v)."""
    draw = rng(0, "claims gwf-C1")
    x, y = np.sort(draw.normal(size=24)), np.sort(draw.normal(0.5, 1.2, 20))
    a, b = (weights / weights.sum() for weights in (draw.random(24) + 0.1, draw.random(20) + 0.1))
    gaps, moves = [], []
    for name in ("kl", "chi2", "js"):
        step = atoms.jko_step(x, a, y, b, evidence["tau"], name)
        dual = atoms.semidual_value(step.v, atoms.cost(x, y, evidence["dual_tau"]), a, b, "hard", name)
        gaps.append(abs(step.primal - dual))
        moves.append(np.abs(step.mu - b * atoms.ENTROPIES[name].slope(-step.v)).sum())
    return Outcome(
        {"largest duality gap": max(gaps), "largest mean move of the first-order conditions": max(moves)},
        "Primal and dual agree for KL, chi2 and twice JS.",
    )


MU, NU, TAU = ((-1.2, 0.7), (0.55, 1.4)), ((0.4, -0.9), (1.1, 0.65)), 0.17


@check("gwf-C2", exact(critic_tau=TAU), change(critic_tau=2 * TAU))
def two_orders(evidence):
    """The Gaussian case of the audit, and the atom whose two values differ by log 2."""
    (m, s), (M, S) = MU, NU
    value = float(gaussian.jko_objective(*gaussian.jko_step(m, s, M, S, TAU), m, s, M, S, TAU))
    critic = gaussian.optimal_critic(*gaussian.jko_step(m, s, M, S, evidence["critic_tau"]), M, S)
    dual = gaussian.dual_value(*critic, m, s, M, S, TAU)
    y, half = np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    atomic = atoms.value_over_maps(0.0, y, half, 1.0) - atoms.jko_step([0.0], [1.0], y, half, 1.0).primal
    return Outcome(
        {
            "gap between the two orders": abs(value - dual),
            "distance from the audited value": abs(value - 3.97874864632925),
            "gap from an atomic source minus log 2": atomic - math.log(2),
        },
        f"inf sup = {value:.6f}, sup inf = {dual:.6f}; from an atom the orders differ by {atomic:.4f}.",
    )


ENVELOPES = {
    "kl": ((-0.8, 0.6), (0.7, 1.2), (0.4, -0.5), (1.1, 0.8), 0.3),
    "chi2": ((-0.3, 0.4), (0.75, 0.85), (0.2, -0.2), (1.0, 1.1), 0.2),
    "js": ((-1.0, 0.8), (0.9, 0.7), (0.6, -0.4), (1.1, 0.95), 0.5),
}
"""The audit's cases: divergence -> means and stds of source and target, and the envelope's parameter 2 tau."""


def _envelope_gradients(sources):
    """Start, gradient of the envelope and JKO step of each case, in the coordinates (m, s)."""
    found = {"gamma": 0.5, "cases": {}}
    for name, (m, s, M, S, eps) in ENVELOPES.items():
        start = np.array([*m, *s])
        gradient = start - np.concatenate(gaussian_step(name, m, s, M, S, eps, gamma=1.0))
        found["cases"][name] = start, gradient, np.concatenate(gaussian.jko_step_within(name, m, s, M, S, eps / 2))
    return found


@check("gwf-C3", _envelope_gradients, change(gamma=0.35))
def envelope_step(evidence):
    """Distance in (m, s) between the explicit step on the envelope and the JKO step."""
    misses = {
        name: np.linalg.norm(start - evidence["gamma"] * gradient - step)
        for name, (start, gradient, step) in evidence["cases"].items()
    }
    return Outcome(
        {"miss for KL": misses["kl"], "miss for chi2": misses["chi2"], "miss for JS": misses["js"]},
        "The explicit step of length 1/2 lands on the implicit one.",
    )


@check("gwf-C4", exact(larger="kl_dv", smaller="kl"), change(larger="kl", smaller="kl_dv"))
def donsker_varadhan(evidence):
    """h(x) = a x + b on N(m, 1) against N(0, 1): DV = m a - a^2/2, classical = m a + b - exp(b - 1 + a^2/2)."""
    m, a, b = np.meshgrid([-2, -0.7, 0.3, 1.5], [-2.3, -0.5, 0, 0.8, 2.1], [-1.4, 0, 1.2])
    bounds = {"kl_dv": m * a - a**2 / 2, "kl": m * a + b - np.exp(b - 1 + a**2 / 2)}
    s = b + a**2 / 2
    gap = bounds[evidence["larger"]] - bounds[evidence["smaller"]]
    draw = generator(0, "claims gwf-C4")
    larger, smaller = functionals.get(evidence["larger"]), functionals.get(evidence["smaller"])
    on_batches = []
    for _ in range(200):
        u_mu, u_nu = torch.randn(2, 64, generator=draw, dtype=torch.float64)
        on_batches.append(float(larger.bound(u_mu, u_nu) - smaller.bound(u_mu, u_nu)))
    # At h* = 1 + log dmu/dnu = 1 + 1.3 x - 1.3^2/2, where s = 1.
    kl, best_a, best_b = 1.3**2 / 2, 1.3, 1 - 1.3**2 / 2
    optimum = (1.3 * best_a - best_a**2 / 2, 1.3 * best_a + best_b - math.exp(best_b - 1 + best_a**2 / 2))
    return Outcome(
        {
            "smallest gap of the 60 cases": gap.min(),
            "smallest gap on batches": min(on_batches),
            "error of the identity": np.abs(gap - (np.exp(s - 1) - s)).max(),
            "distance of both from KL at the optimum": max(abs(value - kl) for value in optimum),
        },
        f"{gap.size} cases, smallest gap {gap.min():.6f} (published .017835).",
    )


@check(
    "gwf-C5",
    lambda sources: distances(sources, "digits", "eight_gaussians"),
    scale(2, functional="kl_dv"),
    scale(0.5, functional="kl_dv"),
)
def dv_against_kl(frame):
    """Score of KL-DV against KL over data sets and time steps, paired by seed."""
    scores, said = [], []
    for dataset in frame["dataset"].unique():
        for step in sorted(frame["step"].unique()):
            rows = frame[(frame["dataset"] == dataset) & (frame["step"] == step)]
            paired = differences(rows, {"functional": "kl_dv"}, {"functional": "kl"}, ["seed"])
            if len(paired):
                scores.append(score(paired))
                said.append(f"{dataset}-{step} {paired.mean():+.2g} +- {paired.std():.2g}")
    if not scores:
        raise NotRun("the profile does not have runs of both kl and kl_dv")
    return Outcome(
        {"mean score of the comparisons": float(np.mean(scores))},
        f"KL-DV minus KL ({len(scores)} comparisons; negative favours KL-DV): {', '.join(said)}.",
    )


def _train(name, tau, updates=4):
    """Parameters of a small map after alternating updates; `tau` None: a loop that knows no proximal term."""
    torch.manual_seed(0)
    T, critic = (nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, width)) for width in (2, 1))
    functional, draw = functionals.get(name), generator(0, "claims gwf-C6")
    step = None if tau is None else JKOStep(functional, critic, JKO(T, tau), weight=0.1)
    price = penalty(functional.penalty)
    adam_T, adam_h = torch.optim.Adam(T.parameters(), 1e-2), torch.optim.Adam(critic.parameters(), 1e-2)
    for _ in range(updates):
        z, y = torch.randn(32, 2, generator=draw), torch.randn(32, 2, generator=draw) + 1
        if step is None:
            x = T(z).detach()
            u_nu, cost = price(critic, x, y, draw)
            loss_h = functional.critic_loss(critic(x), u_nu) + 0.1 * cost
        else:
            loss_h = step.critic_loss(T(z), y, draw)
        adam_h.zero_grad()
        loss_h.backward()
        adam_h.step()
        x = T(z)
        if step is None:
            loss_T = functional.map_loss(critic(x), critic(y).detach() if functional.map_needs_data else None)
        else:
            loss_T = sum(step.map_loss(x, z, y))
        adam_T.zero_grad()
        loss_T.backward()
        adam_T.step()
    return torch.cat([p.detach().flatten() for p in T.parameters()])


@check("gwf-C6", exact(tau=math.inf), change(tau=1.0))
def gans_are_flows(evidence):
    """Training by the JKO code at `tau` against a plain GAN loop, for every functional of a scalar critic."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            names = [name for name in recipes.implicit() if getattr(functionals.get(name), "outputs", 1) == 1]
            gaps = [float((_train(name, evidence["tau"]) - _train(name, None)).abs().max()) for name in names]
    finally:
        torch.set_num_threads(threads)
    both = [{f"{name}-gan", f"{name}-jko"} <= set(recipes.names()) for name in recipes.implicit()]
    return Outcome(
        {"largest difference of parameters": max(gaps), "functionals with both recipes": float(np.mean(both))},
        f"Compared for {', '.join(names)}.",
    )


@check("gwf-C7", exact(direction=1, phi=0.5), change(direction=-1, phi=0.0))
def mmd_steps(evidence):
    """Exact particle steps on (1/2) MMD^2 (or, as a control, explicit steps up the witness); the one-point saddle."""
    tau, draw = 0.5, rng(0, "claims gwf-C7")
    y = torch.tensor(np.concatenate([draw.normal(-1.5, 0.3, 20), draw.normal(1.5, 0.3, 20)])[:, None])
    x = torch.tensor(draw.normal(0, 0.5, (40, 1)))
    flow = MMDParticles(y, bandwidth=1.0)
    values, residuals = [float(flow.value(x))], []
    for _ in range(3):
        if evidence["direction"] > 0:
            new = flow.jko_step(x, tau)
        else:
            new = x + tau * flow.residual(x, x, tau)
        residuals.append(float(flow.residual(new, x, tau).abs().max()))
        x = new
        values.append(float(flow.value(x)))
    phi, t = PointSaddle().alternate(evidence["phi"], 1.0)[-1]
    return Outcome(
        {
            "largest rise of the objective": max(np.diff(values)),
            "residual of the implicit equation": max(residuals),
            "distance from the saddle": max(abs(phi - 1), abs(t - 1 / 3)),
        },
        f"(1/2) MMD^2 from {values[0]:.3f} to {values[-1]:.3f} in 3 steps of .5; saddle at phi = {phi:.3f}, t = {t:.3f}.",
    )


@check("gwf-C8", exact(matched=True), change(matched=False))
def whole_map(evidence):
    """min over T(z) = D z + b of KL + E|T(z) - R z'|^2 / (2 tau), R the rotation by 90 degrees; z' = z when matched."""
    tau, M, S = 0.3, np.array([1.0, 0.5]), np.array([0.6, 1.5])
    R = np.array([[0.0, -1.0], [1.0, 0.0]])
    value = float(gaussian.jko_objective(*gaussian.jko_step(0, [1, 1], M, S, tau), 0, [1, 1], M, S, tau))

    def objective(u):
        D, b = u[:4].reshape(2, 2), u[4:]
        moved = ((D - R) ** 2).sum() if evidence["matched"] else (D**2).sum() + (R**2).sum()
        return gaussian.kl_cov(b, D @ D.T, M, np.diag(S**2)) + (moved + b @ b) / (2 * tau)

    found = minimize(objective, np.append(R.ravel() + 0.1 * np.eye(2).ravel(), [0, 0]), jac="3-point", tol=1e-9)
    return Outcome(
        {
            "gap between whole map and JKO value": abs(found.fun - value),
            "distance from the reference value": abs(found.fun - 1.06331674639),
        },
        f"Least value over affine maps {found.fun:.8f}, JKO value {value:.8f}.",
    )


@check("gwf-C9", exact(metric="pull-back"), change(metric="identity"))
def parametric_step(evidence):
    """Residual of implicit Euler, and distance of the increment from -G^-1 grad F, on the curved translations."""
    family = Translations()
    flow, start = family.flow(), family.start
    G = flow.metric(start) if evidence["metric"] == "pull-back" else torch.eye(2, dtype=torch.float64)
    velocity = -torch.linalg.solve(G, flow.gradient(start))
    residuals, gap = {}, None
    for tau in (0.01, 0.001):
        theta = flow.jko_step(start, tau)
        increment = (theta - start) / tau
        at = flow.metric(theta) if evidence["metric"] == "pull-back" else G
        residuals[tau] = float((at @ increment + flow.gradient(theta)).norm())
        gap = float((increment - velocity).norm()) if gap is None else gap
    order = math.log10(residuals[0.01] / residuals[0.001])
    return Outcome(
        {
            "residual at tau 0.01": residuals[0.01],
            "order of the residual": order,
            "distance from the flow's velocity at tau 0.01": gap,
        },
        f"The residual falls from {residuals[0.01]:.2g} to {residuals[0.001]:.2g} as tau falls tenfold.",
    )


def _exchange_steps(frame):
    return frame.assign(step=frame["step"].replace({"jko": "gan", "gan": "jko"}))


def _gains(frame, names):
    """Scores of JKO against no JKO, (data set, functional) -> score, and the mean differences in words."""
    scores, said = {}, []
    for dataset in frame["dataset"].unique():
        for name in names:
            rows = frame[(frame["dataset"] == dataset) & (frame["functional"] == name)]
            paired = differences(rows, {"step": "jko"}, {"step": "gan"}, ["seed"])
            if len(paired):
                scores[dataset, name] = score(paired)
                said.append(f"{name} on {dataset} {paired.mean():+.2g} +- {paired.std():.2g}")
    if not scores:
        raise NotRun(f"the profile has no runs of {', '.join(names)} with and without the JKO step")
    return scores, f"JKO minus no JKO (negative: better with JKO): {'; '.join(said)}."


@check("gwf-C10", lambda sources: distances(sources, "digits"), _exchange_steps, scale(0.1, step="jko"))
def rescue(frame):
    """Scores of the JKO step for W1 and the MMDs."""
    parts = {"w1": "score of W1", "mmd": "score of squared MMD", "smmd": "score of scaled MMD"}
    scores, said = _gains(frame, parts)
    if ("digits", "w1") not in scores:
        raise NotRun("the profile has no runs of w1 with and without the JKO step")
    return Outcome({parts[name]: scores[dataset, name] for dataset, name in scores}, said)


@check(
    "gwf-C11",
    lambda sources: distances(sources, "digits", "eight_gaussians"),
    scale(2, step="jko"),
    scale(0.1, step="jko"),
)
def consistent_gains(frame):
    """Mean score of the JKO step over the four published f-divergences."""
    scores, said = _gains(frame, ["kl", "kl_dv", "js_ns", "chi2"])
    return Outcome({"mean score of the comparisons": float(np.mean(list(scores.values())))}, said)


@check("gwf-O1", exact(nonsaturating="js_ns"), change(nonsaturating="js"))
def shannon(evidence):
    """d/dm of the map's loss at mu = N(m, 1), nu = N(0, 1), m = 1, the critic frozen at log dmu/dnu = m x - m^2/2."""
    z = torch.tensor(norm.ppf((np.arange(20001) + 0.5) / 20001))

    def gradient(name):
        m = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
        log_ratio = (z + m) - 0.5
        loss = functionals.get(name).map_loss(functionals.get(name).optimal_output(log_ratio))
        return float(torch.autograd.grad(loss, m)[0])

    nonsaturating, saturating = gradient(evidence["nonsaturating"]), gradient("js")
    return Outcome(
        {
            "gradient of the non-saturating loss": nonsaturating,
            "gradient of the saturating loss": saturating,
            "their sum minus the gradient of KL": nonsaturating + saturating - 1,
        },
        "2 JS pulls with .398, the loss in use with .602: they are gradients of two functionals.",
    )


@check("gwf-O2", exact(factor=48), change(factor=1))
def cost_normalisation(evidence):
    """Proximal term by the mean over d = 48 coordinates with tau, and by their sum with factor * tau."""
    draw = generator(0, "claims gwf-O2")
    x, z = torch.randn(2, 32, 48, generator=draw)
    results = []
    for tau, mean in ((0.5, True), (0.5 * evidence["factor"], False)):
        at = x.clone().requires_grad_(True)
        value = JKO(nn.Identity(), tau, per_dimension=mean).proximal(at, z)
        results.append(torch.cat([value.detach()[None], torch.autograd.grad(value, at)[0].flatten()]))
    gap = (results[0] - results[1]).norm() / results[0].norm()
    return Outcome(
        {"largest relative difference": float(gap)}, "d = 48; the same rule gives 307 at d = 3072, tau = .1."
    )


@check("gwf-O3", exact(first="noise", second="matched"), change(first="matched", second="noise"))
def first_anchor(evidence):
    """Proximal cost of maps against their size, and the exact first step, with an anchor of independent noise or T_0 = id."""
    z, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    noise = {"noise": z[None, :], "matched": np.repeat(z[:, None], 40, 1)}[evidence["first"]]
    maps = [
        a * np.tanh(b * z) + c * z + e for a in (0.5, 2.0) for b in (1.0, -1.5) for c, e in ((0.3, 0.0), (-1.0, 0.7))
    ]
    excess = [weights @ (T[:, None] - noise) ** 2 @ weights - weights @ T**2 for T in maps]
    M, S, tau = 2.0, 0.5, 0.01
    # With independent noise the term is (m^2 + s^2) / (2 tau): a Gaussian prior of variance tau.
    stds = {"noise": (1 / tau + 1 / S**2) ** -0.5, "matched": float(gaussian.jko_step(0.0, 1.0, M, S, tau)[1])}
    return Outcome(
        {
            "spread of the term minus E|T|^2 over maps": float(np.ptp(excess)),
            "standard deviation after the step, independent noise": stds[evidence["first"]],
            "standard deviation after the step, matched anchor": stds[evidence["second"]],
        },
        f"One step with tau = {tau:g}: standard deviation {stds['noise']:.3f} with independent noise, {stds['matched']:.3f} with the matched anchor.",
    )


def _published(sources):
    source = yaml.safe_load((paths.ROOT / "gwf" / "published.yaml").read_text(encoding="utf-8"))["gwf"]
    return [table["rows"] for table in source["tables"]], ["chi2", "kl", "kl_dv", "js_ns"]


@check("gwf-O4", _published, lambda evidence: (evidence[0], ["mmd", "smmd"]))
def seeds_against_jko(evidence):
    """|best JKO - no JKO| within a table against |no JKO| between the two tables."""
    tables, names = evidence
    effects = [abs(min(cell[0] for cell in rows[name][1:]) - rows[name][0][0]) for rows in tables for name in names]
    changes = [abs(tables[0][name][0][0] - tables[1][name][0][0]) for name in names]
    return Outcome(
        {"smallest change of seeds minus largest effect": min(changes) - max(effects), "largest effect": max(effects)},
        f"Effects of JKO up to {max(effects):.2f} FID, changes of the seed set from {min(changes):.2f} to {max(changes):.2f}.",
    )
