"""Parts of figures that many sheets draw the same way."""


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
