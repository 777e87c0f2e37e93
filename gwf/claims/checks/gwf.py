"""Checks of GWF's claims and of our questions about it."""

import numpy as np

from gwf.claims.checks.paired import differences, distances, scale, score
from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import check


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
