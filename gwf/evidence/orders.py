"""One JKO scheme trained in four ways."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.style import REAL, SPARE_COLOURS, WIDTH, use_style

TITLE = "Order of training and kind of map: one scheme, four ways"
CAPTION = (
    "Eight Gaussians, KL-DV, the same total number of updates: many critic updates per map update (inf-sup), many map updates per "
    "critic update (sup-inf), one to one, and one to one with a new incremental map in each JKO step. Over all maps and critics the "
    "values agree; networks after finitely many updates need not. Points are seeds, the grey line is the distance of two true samples. "
    "The last columns of the table give the difference to the one-to-one training, paired by seed."
)
PUBLISHED = "equal values over all maps [second-hand: gwf, proposition 3.1]; no training comparison known"


def joined(cases, name="table"):
    """All rows in one frame, with the case."""
    return pd.concat([tables[name].assign(case=case) for case, tables in cases.items()], ignore_index=True)


def table(cases):
    """A row per arrangement: W2 and fixed-kernel MMD^2 with seed spread and floor, and the paired difference in W2."""
    out = []
    for case, rows in joined(cases).groupby("case", sort=False):
        wide = rows.pivot(index="seed", columns="arrangement", values="w2")
        for name, part in rows.groupby("arrangement", sort=False):
            gap = wide[name] - wide["alternating"] if "alternating" in wide else pd.Series(dtype=float)
            out.append(
                {
                    "case": case,
                    "arrangement": name,
                    "W2": part["w2"].mean(),
                    "W2 seed sd": part["w2"].std(),
                    "W2 floor": part["w2_floor"].mean(),
                    "MMD2": part["mmd2"].mean(),
                    "MMD2 seed sd": part["mmd2"].std(),
                    "MMD2 floor": part["mmd2_floor"].mean(),
                    "W2 minus one-to-one": gap.mean(),
                    "its seed sd": gap.std(),
                    "published": PUBLISHED,
                    "n": part["seed"].nunique(),
                }
            )
    return pd.DataFrame(out)


def figure(cases):
    """W2 along training, mean over seeds, and at the end, every seed."""
    use_style()
    rows, curves = joined(cases), joined(cases, "curve")
    names = list(dict.fromkeys(rows["arrangement"]))
    figure, (left, right) = plt.subplots(1, 2, figsize=(WIDTH, 2.8), layout="constrained")
    for i, (name, shade) in enumerate(zip(names, SPARE_COLOURS, strict=False)):
        mean = curves[curves["arrangement"] == name].groupby("updates")["w2"].mean()
        left.plot(mean.index, mean, "o-", ms=3, color=shade, label=name)
        values = rows.loc[rows["arrangement"] == name, "w2"].to_numpy()
        right.plot(i + np.linspace(-0.1, 0.1, len(values)), values, "o", ms=4, color=shade)
    for panel in (left, right):
        panel.axhline(rows["w2_floor"].mean(), color=REAL, lw=1)
        panel.set(ylabel="W₂ to true points", ylim=(0, None))
    left.set(xlabel="updates of map and critic")
    left.legend()
    right.set_xticks(range(len(names)), names, rotation=15)
    return figure
