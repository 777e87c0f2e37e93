"""Tables of results as every sheet has them: a row for each group of runs; means, spreads and numbers of seeds."""

import math

import pandas as pd

from companion.sheet import spread


def summary(rows, keys, columns, n="n", **constant):
    """A row for each group of `rows` with the same `keys`, in order of appearance; its size stands last, titled `n`.

    Parameters
    ----------
    keys, columns : dict
        Columns to group by -> their titles (or a list); title -> what stands there: a column, for its mean; (column,
        "std"), or another statistic of a Series, or "first"; (column, digits), for `mean ± sd` as text, the mean alone
        where nothing varies; a function of the group's rows. A pair of titles is for a column's mean and deviation.
    constant : str
        Columns with the same text in every row, before `n`.
    """

    def entry(part, what):
        if callable(what):
            return what(part)
        name, how = (what, "mean") if isinstance(what, str) else what
        if isinstance(how, int):
            return spread(part[name].mean(), part[name].std() or math.nan, how)
        return part[name].iloc[0] if how == "first" else getattr(part[name], how)()

    titles, each = keys.values() if isinstance(keys, dict) else keys, {}
    for title, what in columns.items():
        each |= {title: what} if isinstance(title, str) else dict(zip(title, (what, (what, "std")), strict=True))
    return pd.DataFrame(
        dict(zip(titles, key, strict=True))
        | {title: entry(part, what) for title, what in each.items()}
        | constant
        | ({n: len(part)} if n else {})
        for key, part in rows.groupby(list(keys), sort=False, dropna=False)
    )


def led_by(first, frame):
    """`frame` with those of the columns `first` that it has in front: what is seen of a wide table before it is unfolded."""
    return frame[[*(name for name in first if name in frame), *frame.columns.difference(first, sort=False)]]
