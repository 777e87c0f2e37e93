"""Checks of the proposal's claims on initialisation, updates, schedules, diversity and uses, and that one loop runs every field."""

import math

import pandas as pd

from gwf import fields
from gwf.claims.checks.learned import rename, scale, study
from gwf.claims.outcome import NotRun, Outcome
from gwf.claims.registry import check
from gwf.claims.sources import column, table


def within_fields(frame, first, second, name):
    """Rows of either value of the column `name`, by field, for the fields that have both: field -> (rows, rows)."""
    found = {}
    for field, part in frame.groupby(column(frame, "field"), sort=False):
        pair = [part[column(part, name) == value] for value in (first, second)]
        if not any(rows.empty for rows in pair):
            found[field] = pair
    if not found:
        raise NotRun(f"no field with both {name} = {first} and {second}")
    return found


# P1: initialisation.


@check("proposal-P1", study("initialisation"), rename("init", "flow", "other flow"), scale("w1_after_init", 0.1))
def initialisation(frame):
    """W1 after a flow as initialisation; work to the threshold against the cold start; final difference in seed noise."""
    pairs = within_fields(frame, "none", "flow", "init")
    values = {
        "largest W1 after initialisation": max(
            float(column(warm, "w1_after_init").mean()) for _, warm in pairs.values()
        )
    }
    ratios, shifts = {}, {}
    for field, (cold, warm) in pairs.items():
        first, second = (float(column(rows, "work_to_threshold").median()) for rows in (warm, cold))
        if math.isfinite(first) or math.isfinite(second):
            ratios[field] = first / second
        if len(cold) > 1 and len(warm) > 1:
            a, b = (column(rows, "w1_even") for rows in (cold, warm))
            shifts[field] = float(
                abs(a.mean() - b.mean()) / (2 * math.sqrt(a.var() / len(a) + b.var() / len(b)) + 1e-12)
            )
    if ratios:
        values["largest work to the threshold over the cold start's"] = max(ratios.values())
    if shifts:
        values["largest difference of the final W1 in seed noise"] = max(shifts.values())
    said = "; ".join(
        f"{fields.title(f)}: W1 {column(w, 'w1_after_init').mean():.3f} after it, final {column(w, 'w1_even').mean():.3f} "
        f"against {column(c, 'w1_even').mean():.3f}"
        for f, (c, w) in pairs.items()
    )
    return Outcome(values, said + ". Noise is twice the standard error of the difference of the means over seeds.")


# P2: updates along the gradient.


def factorial(sources):
    """Cases of the study of schedules with the small networks, the factorial."""
    return {name: tables for name, tables in sources.study("schedules").items() if not name.endswith("_full")}


def schedules_and_grid(sources):
    """Rows of the study of schedules, and its grid of persistencies where there is one."""
    cases = factorial(sources)
    grids = [tables["persistency"] for tables in cases.values() if "persistency" in tables]
    return {"rows": table(cases), "grid": pd.concat(grids, ignore_index=True) if grids else None}


def on_rows(control):
    """A control of a frame as one of the evidence that `schedules_and_grid` gives."""
    return lambda evidence: {**evidence, "rows": control(evidence["rows"])}


def fastest(grid, J):
    """(median iterations to the threshold at the best rate, the cap) of the persistencies for which `J` is true."""
    part = grid[J(column(grid, "persistency"))]
    if part.empty:
        raise NotRun("the grid lacks persistency 1, or another one")
    return float(part.groupby(["persistency", "lr"])["reached"].median().min()), float(part["cap"].max())


@check("proposal-P2", schedules_and_grid, on_rows(scale("w1", 10)), on_rows(scale("w1", 0.1)))
def updates(evidence):
    """W1 under the Sinkhorn field; work without and with a critic; gain of persistency with tuned rates; the single batch."""
    rows = evidence["rows"]
    rows = rows[column(rows, "schedule") == "constant"]
    by = rows.groupby(column(rows, "field"))
    w1, even, work = (
        by[name].mean() if name != "work_to_threshold" else by[name].median()
        for name in ("w1", "w1_even", "work_to_threshold")
    )
    if "sinkhorn" not in w1:
        raise NotRun("the Sinkhorn field was not run with constant rates")
    values = {"W1 of the Sinkhorn field": float(w1["sinkhorn"])}
    critics = [f for f in work.index if fields.FIELDS[f].potentials]
    free = [f for f in work.index if not fields.FIELDS[f].potentials]
    if critics and math.isfinite(work[free].min()):
        values["least work without a critic over that with one"] = float(work[free].min() / work[critics].min())
    if evidence["grid"] is not None:
        (one, cap), (more, _) = fastest(evidence["grid"], lambda J: J == 1), fastest(evidence["grid"], lambda J: J > 1)
        if math.isfinite(more):
            values["gain of persistency with tuned rates"] = min(one, cap) / more
    if "sinkhorn_single" in even:
        values["W1 of a single batch over that of two"] = float(even["sinkhorn_single"] / even["sinkhorn"])
    said = ", ".join(f"{fields.title(f)} {w1[f]:.3f} ({work[f]:.0f})" for f in w1.index)
    return Outcome(
        values,
        f"W1 on independent latents (work to the threshold): {said}. Independent points of the data's law: "
        f"{column(rows, 'w1_floor_independent').mean():.3f}; another data set: {column(rows, 'w1_floor').mean():.3f}.",
    )


# P3: schedules.


def perfect(schedule):
    """A control in which a schedule ends at the floor."""

    def broken(frame):
        chosen = column(frame, "schedule") == schedule
        return frame.assign(**{name: frame[name].where(~chosen, frame["w1_floor"]) for name in ("w1", "w1_even")})

    return broken


@check(
    "proposal-P3",
    lambda sources: table(factorial(sources)),
    rename("schedule", "all", "rising"),
    rename("schedule", "all", "constant"),
    perfect("all"),
)
def schedules(frame):
    """Share of the gap between the constant rate and the floor that all schedules close; smallest over W2 critic and Sinkhorn."""
    pairs = within_fields(frame, "constant", "all", "schedule")
    judged = {f: pair for f, pair in pairs.items() if f in ("w2", "sinkhorn")} or pairs
    values, shares = {}, {}
    for score, part in (
        ("w1_even", "smallest share closed, even latents"),
        ("w1", "smallest share closed, independent latents"),
    ):
        for field, (constant, every) in judged.items():
            gap = column(constant, score).mean() - column(constant, "w1_floor").mean()
            # No gap: nothing is left to close.
            shares[field, score] = float((constant[score].mean() - every[score].mean()) / gap) if gap > 0 else 1.0
        values[part] = min(shares[field, score] for field in judged)
    failures = [(c["failed"].mean(), e["failed"].mean()) for c, e in pairs.values()]
    values["failures with all schedules minus constant, largest"] = float(max(e - c for c, e in failures))
    said = "; ".join(
        f"{fields.title(f)} {c['w1_even'].mean():.3f} to {e['w1_even'].mean():.3f}" for f, (c, e) in pairs.items()
    )
    return Outcome(
        values,
        f"W1 on even latents, constant to all together: {said}; floor {frame['w1_floor'].mean():.3f}. With independent latents a "
        f"perfect map stays at {column(frame, 'w1_floor_independent').mean():.3f}.",
    )


# P4: diversity.


def true_shares(frame):
    """A control with every minor mode at its weight."""
    return frame.assign(minor_1=frame["minor_true"], minor_2=frame["minor_true"])


@check("proposal-P4", study("diversity"), scale("minor_1", 0.05), true_shares)
def diversity(frame):
    """Relative error of the minor modes' weights under Sinkhorn fields, two batches and one; modes found."""
    rows = frame[column(frame, "minor_true").notna()]
    errors = {}
    for field in ("sinkhorn", "sinkhorn_single"):
        part = rows[rows["field"] == field]
        if part.empty:
            raise NotRun(f"no run of {fields.title(field)} on a toy with minor modes")
        mean = part.groupby("reg")[["minor_1", "minor_2", "minor_true"]].mean()
        errors[field] = (mean[["minor_1", "minor_2"]].div(mean["minor_true"], axis=0) - 1).abs().max(axis=1)
    two = rows[rows["field"] == "sinkhorn"]
    said = "; ".join(
        f"{fields.title(f)}: " + ", ".join(f"{100 * e:.0f} % at reg {reg:g}" for reg, e in by.items())
        for f, by in errors.items()
    )
    return Outcome(
        {
            "largest error of a minor weight, two batches": float(errors["sinkhorn"].max()),
            "smallest error of a minor weight, single batch": float(errors["sinkhorn_single"].min()),
            "share of modes found, two batches": float((two["modes"] / two["modes_all"]).mean()),
        },
        f"Largest relative error of the weight of a minor mode: {said}.",
    )
