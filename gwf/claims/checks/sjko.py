"""Checks of S-JKO's and UOTM's claims and of our questions about them."""

from gwf.claims.checks.paired import differences, distances, scale
from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import check


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
