"""Where the evidence of a claim comes from: studies and runs of one profile."""

import pandas as pd
import yaml

from gwf import params, runs, studies
from gwf.claims.outcome import NotRun
from gwf.errors import UsageError


class Sources:
    """Results of a profile; every reader raises `NotRun` where there are none.

    Parameters
    ----------
    profile : str
    """

    def __init__(self, profile):
        self.profile = profile
        self._studies = {}

    def study(self, name):
        """All cases of a low-dimensional study: dict case -> dict table -> DataFrame."""
        if name not in self._studies:
            self._studies[name] = studies.read(name, self.profile)
        if not self._studies[name]:
            raise NotRun(f"no results of the study {name!r} in the profile {self.profile!r}")
        return self._studies[name]

    def study_if_any(self, name):
        """As `study`, but an empty dict where there are none: for a part that a claim can do without."""
        try:
            return self.study(name)
        except NotRun:
            return {}

    def _parameters(self):
        """Parameters of the profile: params.yaml if it is of this profile, else what conf/ says."""
        try:
            return runs.parameters(self.profile)
        except UsageError:
            return yaml.safe_load(params.compose(self.profile))

    def runs(self, dataset, metric):
        """One number of every finished training run on a data set.

        Returns
        -------
        DataFrame with columns functional, step, seed, value
            Runs that the profile asks for and that exist, `metric` (a key of metrics.json) in `value`.
        """
        study = runs.Study(self.profile, params=self._parameters())
        if not study.has(dataset):
            raise NotRun(f"the profile {self.profile!r} does not train on {dataset}")
        rows = []
        for functional, step in study.methods_on(dataset):
            for seed in study.seeds:
                try:
                    value = study.run(functional, step, dataset, seed).metrics[metric]
                except UsageError:
                    continue
                except KeyError:
                    raise UsageError(
                        f"metrics.json of {functional}-{step}-{dataset}-{seed} has no {metric!r}"
                    ) from None
                rows.append({"functional": functional, "step": step, "seed": seed, "value": value})
        if not rows:
            raise NotRun(f"no finished runs on {dataset} in the profile {self.profile!r}")
        return pd.DataFrame(rows)


def table(cases, name="table"):
    """The tables `name` of all cases in one DataFrame, with the case's name in the column `case`.

    Raises `UsageError` that names the case without such a table.
    """
    frames = []
    for case, tables in cases.items():
        if name not in tables:
            raise UsageError(f"case {case} has no table {name!r}; it has {', '.join(sorted(tables))}")
        frames.append(tables[name].assign(case=case))
    return pd.concat(frames, ignore_index=True)


def column(frame, name, what="the table"):
    """A column of a DataFrame; `UsageError` that names it and those there are."""
    if name not in frame:
        raise UsageError(f"{what} has no column {name!r}; it has {', '.join(map(str, frame.columns))}")
    return frame[name]
