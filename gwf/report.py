"""The tables: from the numbers of finished runs to csv, markdown and LaTeX, with caption and reading.

`python -m gwf.report <profile> <report_dir>` reads `results/<profile>/*/metrics.json` and `run.json` and
writes `<report_dir>/tables/`. Nothing in a table is typed by hand; published values come from
`published.yaml`.
"""

import json
import math
import statistics
import sys
from pathlib import Path

import pandas as pd
import yaml
from scipy import stats

from gwf import more_tables
from gwf.errors import UsageError
from gwf.runs import Study, functional_title, method_title
from gwf.table import Table, show, show_spread, show_tau

PUBLISHED = paths.ROOT / "conf" / "published.yaml"


def mean(values):
    """Arithmetic mean of a list; NaN if it is empty or has a None."""
    return math.nan if not values or None in values else statistics.fmean(values)


def sd(values):
    """Sample standard deviation (divisor n - 1) of a list; NaN for fewer than two values."""
    return math.nan if len(values) < 2 or None in values else statistics.stdev(values)


def head(study, functional, step, dataset):
    """The columns every table has, and lists of each number over the seeds.

    Returns
    -------
    row : dict
        `method, functional, step, tau, seeds, n`.
    values : callable
        `values(key)`: the list of `metrics[key]`, one per seed.
    tail : dict
        `updates, seconds, command`; seconds is the mean over seeds, NaN where no time was recorded.
    """
    runs = study.runs(functional, step, dataset)
    first = runs[0].metrics
    tau = first["tau"]
    row = {
        "method": method_title(functional, step),
        "functional": functional,
        "step": step,
        "tau": math.inf if tau is None else float(tau),
        "seeds": len(runs),
        "n": first["n"],
    }
    if step == "euler":
        row |= {"eps": float(first["eps"]), "persistency": first["persistency"]}
    tail = {
        "updates": first["updates"],
        "seconds": mean([run.timing.get("seconds") for run in runs]),
        "command": study.train_command(functional, step, dataset),
    }
    return row, lambda key: [run.metrics[key] for run in runs], tail


def rivals_sentence(study, frame, metric):
    """Which methods a table cannot tell from its best: means within the larger seed spread of it."""
    if len(study.seeds) < 2:
        return "With one seed there is no spread, and no ranking can be read from the table."
    best = frame.loc[frame[f"{metric}_mean"].idxmin()]
    spread = frame[f"{metric}_sd"].clip(lower=best[f"{metric}_sd"])
    near = frame[frame[f"{metric}_mean"] - best[f"{metric}_mean"] <= spread]
    rivals = [name for name in near["method"] if name != best["method"]]
    if not rivals:
        return "No other method comes within the seed spread of it."
    return f"Within the seed spread of it, hence ties: {'; '.join(rivals)}."


def show_step(row):
    """The size of a method's time step: `τ = 0.5`, `τ = ∞`, or `ε = 1, J = 5` for the explicit step."""
    if row["step"] == "euler":
        return f"ε = {row['eps']:g}, J = {row['persistency']}"
    return f"τ = {show_tau(row['tau'])}"


def explicit_text(study):
    """What the explicit rows are, or nothing if there are none."""
    if "explicit" not in study.params:
        return ""
    return (
        "Euler: the explicit step, regression of the map on its own samples pushed by ε along the functional's velocity field; "
        "J updates of the map on each frozen target, potentials (if any) improved five times before. "
    )


def fd_digits(study):
    """Table of Frechet distances on digits, a row per method.

    Mean and sample standard deviation over seeds; `floor` is the distance of real digits from the reference.
    """
    records = []
    for functional, step in study.methods_on("digits"):
        row, values, tail = head(study, functional, step, "digits")
        fd = values("fd_lenet")
        records.append(
            {
                **row,
                "fd_lenet_mean": mean(fd),
                "fd_lenet_sd": sd(fd),
                "kid_mean": mean(values("kid")),
                "precision": mean(values("precision")),
                "recall": mean(values("recall")),
                "floor": mean(values("fd_lenet_floor")),
                **tail,
            }
        )
    frame = pd.DataFrame(records)
    rows = [
        [
            r["method"],
            show_step(r),
            show_spread(r["fd_lenet_mean"], r["fd_lenet_sd"]),
            show(r["floor"]),
            show(r["kid_mean"], 3),
            show(r["precision"], 2),
            show(r["recall"], 2),
            str(r["updates"]),
            show(r["seconds"], 0),
        ]
        for r in records
    ]
    precision, recall, kid = (
        mean([run.metrics[key] for run in study.everything("digits")])
        for key in ("precision_floor", "recall_floor", "kid_floor")
    )
    caption = (
        f"28×28 digits, profile {study.profile}, {study.seeds_text()} (each trains anew), mean ± sample "
        f"standard deviation over seeds. FD-LeNet: Fréchet distance between Gaussians fitted to the LeNet "
        f"features of n = {study.common('digits', 'n')} generated digits and of the reference, "
        f"{study.reference_text('digits')}; lower is better. The LeNet is trained by this pipeline (sha256 "
        f"{study.common('digits', 'extractor_sha256')[:12]}), so these numbers are not FID and compare only "
        f"with each other. Measured with the {study.weights_text('digits')}; pixels rounded once to 8 bits, "
        f"generated and real alike. Floor: the same distance for real training digits "
        f"(n = {study.common('digits', 'n_floor')}, known to the LeNet) in place of generated ones. "
        f"KID: unbiased squared MMD with a cubic kernel on the same features (real digits: {show(kid, 3)}). "
        f"Precision and recall: k-nearest-neighbour manifolds, k = 3 (real digits: {show(precision, 2)} and "
        f"{show(recall, 2)}). {study.step_text('digits')}. {explicit_text(study)}Time: training seconds of one run, evaluation not "
        f"included."
    )
    best = frame.loc[frame["fd_lenet_mean"].idxmin()]
    reading = (
        f"Lowest mean: {best['method']} with "
        f"{show_spread(best['fd_lenet_mean'], best['fd_lenet_sd'])}, "
        f"{best['fd_lenet_mean'] / best['floor']:.1f} times the floor of {show(best['floor'])}. "
        + rivals_sentence(study, frame, "fd_lenet")
    )
    header = ["method", "step", "FD-LeNet", "floor", "KID", "precision", "recall", "updates", "time, s"]
    return Table("fd_digits", "Fréchet distance on digits", caption, reading, frame, header, rows)


def eight_gaussians(study):
    """Table of the eight Gaussians in the plane, a row per method: exact W2, modes, share within 3 std."""
    records = []
    for functional, step in study.methods:
        row, values, tail = head(study, functional, step, "eight_gaussians")
        w2 = values("w2")
        records.append(
            {
                **row,
                "w2_mean": mean(w2),
                "w2_sd": sd(w2),
                "floor": mean(values("w2_floor")),
                "floor_sd": mean(values("w2_floor_sd")),
                "modes_mean": mean(values("modes")),
                "modes_total": values("modes_total")[0],
                "share_3sd": mean(values("share_3sd")),
                "share_3sd_floor": mean(values("share_3sd_floor")),
                "mode_tv": mean(values("mode_tv")),
                **tail,
            }
        )
    frame = pd.DataFrame(records)
    rows = [
        [
            r["method"],
            show_tau(r["tau"]),
            show_spread(r["w2_mean"], r["w2_sd"], 3),
            show_spread(r["floor"], r["floor_sd"], 3),
            f"{show(r['modes_mean'])} of {r['modes_total']}",
            show(r["share_3sd"], 1, 100),
            show(r["mode_tv"], 3),
            str(r["updates"]),
            show(r["seconds"], 0),
        ]
        for r in records
    ]
    caption = (
        f"Eight Gaussians on the unit circle, standard deviation 0.1, profile {study.profile}, "
        f"{study.seeds_text()} (each trains anew), mean ± sample standard deviation over seeds. W₂: exact "
        f"2-Wasserstein distance between n = {study.common('eight_gaussians', 'n')} generated points and a "
        f"sample of the target ({study.reference_text('eight_gaussians')}); lower is better. Measured with "
        f"the {study.weights_text('eight_gaussians')}; coordinates in float32, not rounded. Floor: the same "
        f"distance between two fresh samples of the target, mean ± standard deviation over repeats. Within "
        f"3 std: share of points within 3 standard deviations of a centre "
        f"(target: {show(frame['share_3sd_floor'].iloc[0], 1, 100)} %). Mode TV: total variation between the "
        f"shares of the eight modes and 1/8 each. {study.step_text('eight_gaussians')}. Time: training "
        f"seconds of one run, evaluation not included."
    )
    best = frame.loc[frame["w2_mean"].idxmin()]
    reading = (
        f"Smallest mean W₂: {best['method']} with {show_spread(best['w2_mean'], best['w2_sd'], 3)}, "
        f"against a floor of {show(best['floor'], 3)}. " + rivals_sentence(study, frame, "w2")
    )
    header = ["method", "τ", "W₂", "floor", "modes", "within 3 std, %", "mode TV", "updates", "time, s"]
    return Table("eight_gaussians", "Eight Gaussians in the plane", caption, reading, frame, header, rows)


METRICS = {"digits": ("fd_lenet", "FD-LeNet", 1), "eight_gaussians": ("w2", "W₂", 3)}


def verdict(differences, digits=1):
    """What JKO minus no JKO, paired by seed, allows to say: a sentence.

    It is a tie where |mean difference| is at most the sample standard deviation of the differences.

    Parameters
    ----------
    differences : list of float
        One difference per seed; negative where JKO is better.
    """
    centre, spread = mean(differences), sd(differences)
    if math.isnan(spread):
        return "one seed: no spread, no verdict"
    lower = sum(value < 0 for value in differences)
    if abs(centre) <= spread:
        return f"tie: a mean difference of {show(centre, digits)} is under the seed spread of {show(spread, digits)}"
    side = "lower with JKO" if centre < 0 else "higher with JKO"
    return (
        f"{side} by {show(abs(centre), digits)}, above the seed spread of {show(spread, digits)}; "
        f"lower in {lower} of {len(differences)} seeds"
    )


def published_difference(functional, step=1):
    """Published FID at JKO step `step` minus FID without JKO: a value and trust tag per table, as text."""
    source = yaml.safe_load(PUBLISHED.read_text(encoding="utf-8"))["gwf"]
    column = source["columns"].index(f"step {step:g}")
    found = []
    for table in source["tables"]:
        if functional in table["rows"]:
            row = table["rows"][functional]
            found.append(f"{show(row[column][0] - row[0][0], 2)} ({table['short']}) [{table['trust']}]")
    return ", ".join(found) or "–"


def paired(study):
    """Table of JKO minus no JKO paired by seed, a row per data set and functional; both steps must be run."""
    records, rows = [], []
    for dataset in (name for name in study.params["datasets"] if name in METRICS):
        key, label, digits = METRICS[dataset]
        for functional in study.params["functionals"]:
            jko, gan = ([run.metrics[key] for run in study.runs(functional, step, dataset)] for step in ("jko", "gan"))
            difference = [a - b for a, b in zip(jko, gan, strict=True)]
            published = published_difference(functional) if dataset == "digits" else "–"
            records.append(
                {
                    "dataset": dataset,
                    "metric": key,
                    "functional": functional,
                    "seeds": len(jko),
                    "jko_mean": mean(jko),
                    "gan_mean": mean(gan),
                    "difference_mean": mean(difference),
                    "difference_sd": sd(difference),
                    "lower_with_jko": sum(d < 0 for d in difference),
                    "verdict": verdict(difference, digits),
                    "published_fid_difference": published,
                }
            )
            rows.append(
                [
                    f"{functional_title(functional)}, {label}",
                    show(mean(jko), digits),
                    show(mean(gan), digits),
                    show_spread(mean(difference), sd(difference), digits),
                    verdict(difference, digits),
                    published,
                ]
            )
    count = len(study.seeds)
    chance = (
        ""
        if count < 2
        else (
            f" The test is weak: with {count} seeds, two methods of equal quality (normal differences) would "
            f"be told apart in {200 * stats.t.sf(count**0.5, count - 1):.0f} % of cases."
        )
    )
    caption = (
        f"Each functional with the JKO step and without it (τ = ∞, its GAN), profile {study.profile}, "
        f"{study.seeds_text()}; n, reference, weights and floor as in the tables above. A seed fixes initial "
        f"weights and batches in both. Difference: JKO minus no JKO, mean ± sample standard deviation of the "
        f"differences; negative means that JKO is better. A mean difference under that seed spread is called "
        f"a tie.{chance} Published: FID at step 1 minus FID without JKO on CIFAR-10, from the two tables of "
        f"gwf; [2nd] marks second-hand values. They are on another data set and another scale: only the "
        f"signs compare."
    )
    ties = sum(record["verdict"].startswith("tie") for record in records)
    better = sum(record["verdict"].startswith("lower") for record in records)
    worse = sum(record["verdict"].startswith("higher") for record in records)
    reading = (
        "One seed allows no verdict."
        if count < 2
        else (
            f"Of {len(records)} comparisons the JKO step lowers the distance in {better}, raises it in {worse} "
            f"and ties in {ties}."
        )
    )
    header = ["functional, metric", "JKO", "no JKO", "difference", "verdict", "published FID difference"]
    frame = pd.DataFrame(records)
    return Table("paired", "With the JKO step and without it", caption, reading, frame, header, rows)


def tables(study):
    """All tables that the profile's data sets and steps allow, in the order of the page."""
    found = [
        build(study) for name, build in (("digits", fd_digits), ("eight_gaussians", eight_gaussians)) if study.has(name)
    ]
    if {"jko", "gan"} <= set(study.params["steps"]):
        found.append(paired(study))
    if study.has("digits") and "longer" in study.params:
        found.append(more_tables.longer(study))
    return found + more_tables.of_studies(study.profile, study.command)


def write(study, report_dir):
    """Write every table, and `tables.json` with their texts for the page, into `<report_dir>/tables`.

    Returns
    -------
    list of Table
    """
    folder = Path(report_dir) / "tables"
    found = tables(study)
    for table in found:
        table.write(folder)
    keys = ("name", "title", "caption", "reading", "header", "rows")
    texts = [
        {key: getattr(table, key) for key in keys} | {"commands": list(table.frame.get("command", []))}
        for table in found
    ]
    text = json.dumps(texts, indent=1, ensure_ascii=False) + "\n"
    (folder / "tables.json").write_text(text, encoding="utf-8")
    return found


def main(arguments):
    """`python -m gwf.report <profile> <report_dir>`; exit code 2 with one line on stderr where it cannot."""
    if len(arguments) != 2:
        print("usage: python -m gwf.report <profile> <report_dir>", file=sys.stderr)
        return 2
    try:
        for table in write(Study(arguments[0]), arguments[1]):
            print(f"{arguments[1]}/tables/{table.name}.csv")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
