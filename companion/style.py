"""The style of every figure: one colour per method everywhere, one marker per time step, and parts that many figures have.

A filled marker with the JKO step, an open one without. The colours are from the sets of Okabe and Ito and of Tol, told apart
with any colour vision.
"""

import zlib

import matplotlib

COLOURS = {
    "kl": "#0072B2",
    "kl_dv": "#D55E00",
    "js": "#009E73",
    "js_ns": "#44AA99",
    "chi2": "#CC79A7",
    "w1": "#E69F00",
    "reverse_kl": "#56B4E9",
    "hellinger": "#882255",
    "chi2_tight": "#332288",
    "reverse_chi2": "#EE99AA",
    "w1_r1": "#997700",
    "sinkhorn": "#117733",
    "sinkhorn_single": "#66CC66",
    "w2": "#661100",
    "sliced": "#6699CC",
    "mmd": "#AA4499",
    "mmd_learned": "#762A83",
    "mmd_scaled": "#C2A5CF",
    "mmd_repulsive": "#9970AB",
    "minibatch_ot": "#999933",
    "independent": "#777777",
    "drifting": "#DDAA33",
    "drifting_released": "#AA7700",
    # S-JKO is KL's step in semi-dual form, its JSD variant the non-saturating Jensen-Shannon.
    "sjko": "#0072B2",
    "jsd": "#44AA99",
    "uotm": "#BB5566",
    "uotm_released": "#DDAA33",
    "ot": "#225522",
    # The dual, the input-convex map and the particles of KL's flow.
    "vwgf": "#D55E00",
    "icnn": "#009E73",
    "langevin": "#E69F00",
    "svgd": "#CC79A7",
    "mode": "#000000",
    "mode, wide": "#56B4E9",
    "bootstrap filter": "#0072B2",
    "smoothed truth": "#CC79A7",
    # An interaction energy taken explicitly, or inside the implicit step.
    "split": "#0072B2",
    "unsplit": "#D55E00",
    # Anomaly scores by transport, and the usual detectors; usual ways to fill in missing cells.
    "kept_mass": "#D55E00",
    "potential": "#0072B2",
    "path": "#009E73",
    "knn": "#000000",
    "lof": "#999933",
    "mahalanobis": "#882255",
    "ocsvm": "#56B4E9",
    "iforest": "#CC79A7",
    "mean": "#888888",
    "ridge": "#DDAA33",
}
SPARE_COLOURS = ["#000000", "#DDAA33", "#004488", "#BB5566", "#225522", "#888888"]
REAL = "#666666"
"""Colour of real data, exact solutions and the floor."""

OTHERS = {"ck_jko": "h", "ck_gan": "H", "increments": "X", "whole": "x", "sjko": "P", "uotm_fixed": "^", "uotm": "v"}
OTHERS |= {"uotm_released": ">", "matching": "*", "gaussian": "<", "real": "+"}
MARKERS = {"jko": "o", "gan": "s", "euler": "D"} | OTHERS

STYLE = {
    "figure.dpi": 100,
    "savefig.dpi": 160,
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    "legend.frameon": False,
    "image.cmap": "gray",
    "pdf.fonttype": 42,
}
WIDTH = 7.0
"""Width of a figure in inches: a text column, at which the fonts above are read without zooming."""


def use_style():
    """Set matplotlib's parameters for every figure that follows, whatever the user's own matplotlibrc says."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)


def colour(method):
    """Colour of a method (a functional or velocity field), as `#RRGGBB`; one without an entry gets a spare colour."""
    return COLOURS.get(method) or SPARE_COLOURS[zlib.crc32(method.encode()) % len(SPARE_COLOURS)]


def marker(method, step):
    """Keyword arguments of `Axes.plot` for a method's marker: filled with the JKO step, open without."""
    own = colour(method)
    face = "white" if step in ("gan", "ck_gan") else own
    return {"color": own, "marker": MARKERS[step], "markeredgecolor": own, "markerfacecolor": face}


def ticks(axis, places):
    """Ticks at `places` alone, as plain numbers: for a logarithmic axis with few values."""
    axis.set_ticks(sorted(places), [f"{place:g}" for place in sorted(places)])
    axis.set_ticks([], minor=True)


def legend(figure, panels, loc="outside lower center", **options):
    """One legend outside of the panels in place of their own: every label once, in order of appearance."""
    found = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
        if axes.get_legend():
            axes.get_legend().remove()
    figure.legend(found.values(), found.keys(), loc=loc, **options)
