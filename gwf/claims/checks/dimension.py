"""Check of the proposal's claim on high dimension, with the hypothesis that makes it precise."""

from gwf.claims.checks.learned import mean_of, scale, select, study
from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import check
from gwf.claims.sources import column

CRITIC, FREE, LINEAR = "W2 critic", "Sinkhorn", "linear map"


@check("proposal-P6", study("dimension"), scale("energy", 1000, method=LINEAR), scale("energy", 0.001, method=LINEAR))
def dimension(frame):
    """On the mixtures: the better of the two flows over the linear map at the largest d, and the trends from the smallest d."""
    rows = select(frame, kind="mixture")
    low, high = int(column(rows, "d").min()), int(column(rows, "d").max())
    if low == high:
        raise NotRun("there is no second dimension to compare with")

    def over_floor(method, d):
        return mean_of(rows, "energy", method=method, d=d) / mean_of(rows, "energy_floor", method=method, d=d)

    def growth(method):
        return over_floor(method, high) / over_floor(method, low)

    at_high = {method: over_floor(method, high) for method in (CRITIC, FREE, LINEAR)}
    cosine = {d: mean_of(rows, "cosine", method=CRITIC, d=d) for d in (low, high)}
    work = mean_of(rows, "million_operations", method=FREE, d=high) / mean_of(
        rows, "million_operations", method=FREE, d=low
    )
    return Outcome(
        {
            "better flow over linear map, largest d": min(at_high[CRITIC], at_high[FREE]) / at_high[LINEAR],
            "growth of Sinkhorn's error over floor": growth(FREE),
            "growth of Sinkhorn's work": work,
            "critic's loss of cosine": cosine[low] - cosine[high],
            "growth of the critic's error over floor": growth(CRITIC),
        },
        f"Mixtures, d from {low} to {high}, equal outer iterations: energy distance over floor at d = {high}: "
        + ", ".join(f"{method} {value:.1f}" for method, value in at_high.items())
        + f"; cosine of the critic's field {cosine[low]:.2f} to {cosine[high]:.2f}. The last four parts are the hypothesis on critic-free and critic flows.",
    )
