"""Reading finished runs: which ones a profile asks for, what they measured, what they are called.

Tables and figures read runs through this module alone, so that both see the same runs in the same order and a
run that is not there stops both with the command that makes it.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import yaml

from gwf import functionals, paths
from gwf.errors import UsageError, nearest

STEPS = {"jko": "JKO", "gan": "no JKO", "euler": "Euler"}
EXPLICIT_TITLES = {"w2": "W2-FE", "w1": "W1-FE"}
PRETTY = {"chi2": "χ²", "W1": "W₁"}


def parameters(profile):
    """The parameters in `params.yaml`, which must be those of `profile`.

    Raises
    ------
    UsageError
        If there is no such profile (the message names the nearest one), or if `params.yaml` is of another.
    """
    nearest(profile, [file.stem for file in (paths.ROOT / "conf" / "profile").glob("*.yaml")], "profile")
    composed = paths.ROOT / "params.yaml"
    params = yaml.safe_load(composed.read_text()) if composed.exists() else {}
    if params.get("profile") != profile:
        raise UsageError(
            f"params.yaml has profile {params.get('profile')!r}, not {profile!r}. "
            f"Compose it with: python -m gwf.params compose {profile}"
        )
    return params


def functional_title(functional):
    """Name of a functional for people, `KL-DV` for `kl_dv`: the registry's title, with χ² and W₁ spelt so."""
    title = functionals.get(functional).title
    for plain, pretty in PRETTY.items():
        title = title.replace(plain, pretty)
    return title


def gan_title(functional):
    """What tau = infinity gives: `f-GAN` for an f-divergence, `WGAN` for Lipschitz critics, else `GAN`."""
    chosen = functionals.get(functional)
    if chosen.penalty == "lipschitz":
        return "WGAN"
    return "f-GAN" if hasattr(chosen, "f") else "GAN"


def method_title(functional, step):
    """Full name of a method for people.

    >>> method_title("kl_dv", "jko"), method_title("kl_dv", "gan")
    ('KL-DV, JKO (GWF-KL-DV)', 'KL-DV, no JKO (f-GAN)')
    """
    nearest(step, STEPS, "time step")
    name = functional_title(functional)
    if step == "euler":
        return f"{name}, {STEPS[step]} ({EXPLICIT_TITLES.get(functional, 'explicit flow')})"
    also = f"GWF-{name}" if step == "jko" else gan_title(functional)
    return f"{name}, {STEPS[step]} ({also})"


@dataclass(frozen=True)
class Run:
    """A finished run: its `folder`, `metrics` (metrics.json) and `timing` (run.json, empty if not there)."""

    folder: Path
    metrics: dict
    timing: dict


@dataclass
class Study:
    """All runs that a profile asks for.

    Parameters
    ----------
    profile : str
        Name of the profile.
    params : dict, optional
        Its parameters (`functionals`, `steps`, `datasets`, `seeds`, `training`); read from disk by default.
    results : path, optional
        Folder that holds `<profile>/<run>`; `gwf.paths.RESULTS` by default.
    """

    profile: str
    params: dict = None
    results: Path = None
    _runs: dict = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self.params = parameters(self.profile) if self.params is None else self.params
        self.folder = Path(self.results or paths.RESULTS) / self.profile

    @property
    def methods(self):
        """Pairs (functional, step) in the order of the parameters, a functional's steps side by side."""
        return [(f, s) for f in self.params["functionals"] for s in self.params["steps"]]

    def methods_on(self, dataset):
        """`methods`, and on the digits the explicit ones after them."""
        explicit = self.params.get("explicit", {}).get("functionals", []) if dataset == "digits" else []
        return self.methods + [(functional, "euler") for functional in explicit]

    @property
    def seeds(self):
        """The seeds, in the order of the parameters."""
        return list(self.params["seeds"])

    def has(self, dataset):
        """Whether the profile trains on `dataset`."""
        return dataset in self.params["datasets"]

    def everything(self, dataset):
        """All runs on `dataset`, a list in the order of the methods and seeds."""
        return [run for functional, step in self.methods_on(dataset) for run in self.runs(functional, step, dataset)]

    def common(self, dataset, key):
        """The value of `metrics[key]` that all runs on `dataset` share, as text; or all that there are."""
        return " or ".join({str(run.metrics[key]): None for run in self.everything(dataset)})

    def reference_text(self, dataset):
        """What samples are compared with, and how many there are of it."""
        reference, n = self.common(dataset, "reference"), self.common(dataset, "n_reference")
        return reference if n in reference else f"{reference}, n = {n}"

    def step_text(self, dataset):
        """What tau means on `dataset`: per dimension or not, and the map's loss where there is a choice."""
        settings = self.params.get("training", {}).get(dataset, {})
        each = " per dimension (a Euclidean step d τ in dimension d)" if settings.get("per_dimension") else ""
        loss = "non-saturating" if settings.get("nonsaturating") else "saturating"
        return (
            f"τ: JKO step, with proximal weight 1/(2τ) on the mean squared displacement{each}; map "
            f"loss: {loss} where the functional has both"
        )

    def seeds_text(self):
        """`seeds 0, 1, 2`, or a warning with the seed if there is one only."""
        names = ", ".join(str(seed) for seed in self.seeds)
        return f"seeds {names}" if len(self.seeds) > 1 else f"seed {names} alone, hence no spread"

    def weights_text(self, dataset):
        """Which weights of the map were measured: their exponential moving average, or as trained."""
        ema = self.params.get("training", {}).get(dataset, {}).get("ema")
        return f"moving average of the map's weights (decay {ema})" if ema else "map's weights as trained"

    def command(self, *targets):
        """The command that makes `targets`, names of pipeline stages, under this profile."""
        verb = "dvc repro" if self.profile == "laptop" else f"dvc exp run -S profile={self.profile}"
        return " ".join([verb, *targets])

    def train_command(self, functional, step, dataset):
        """The command that makes every seed of one method on one data set, hence its row of a table."""
        return self.command(*[self.stage(functional, step, dataset, seed) for seed in self.seeds])

    @staticmethod
    def stage(functional, step, dataset, seed):
        """Name of the pipeline stage that makes a run."""
        if step == "euler":
            return f"explicit@{functional}-{seed}"
        return f"train@{paths.run_name(functional, step, dataset, seed)}"

    def run(self, functional, step, dataset, seed):
        """The finished `Run`; `UsageError` that names it and the command that makes it if it is not there."""
        name = paths.run_name(functional, step, dataset, seed)
        if name not in self._runs:
            folder = self.folder / name
            metrics = self.read_json(
                folder / "metrics.json", f"run {name}", self.stage(functional, step, dataset, seed)
            )
            timing = folder / "run.json"
            self._runs[name] = Run(folder, metrics, json.loads(timing.read_text()) if timing.exists() else {})
        return self._runs[name]

    def runs(self, functional, step, dataset):
        """The runs of one method, a list with one `Run` per seed.

        Raises
        ------
        UsageError
            If a run is missing, or if the seeds disagree on what was measured (`n`, `updates`, `tau`, ...):
            their mean would mean nothing.
        """
        found = [self.run(functional, step, dataset, seed) for seed in self.seeds]
        for key in ("n", "n_reference", "reference", "tau", "updates", "extractor_sha256"):
            values = {str(run.metrics.get(key)) for run in found}
            if len(values) > 1:
                command = self.train_command(functional, step, dataset)
                raise UsageError(
                    f"the seeds of {functional}-{step}-{dataset} disagree on {key}: "
                    f"{', '.join(sorted(values))}. Make them alike with: {command}"
                )
        return found

    def file(self, run, name):
        """Path of the file `name` of a run; `UsageError` with the command that makes it if not there."""
        path = run.folder / name
        if not path.exists():
            raise self.missing(path, f"run {run.folder.name}", self.stage(*run.folder.name.rsplit("-", 3)))
        return path

    def curve(self, run):
        """`curve.csv` of a run as a table, one row per evaluation."""
        return pd.read_csv(self.file(run, "curve.csv"))

    def missing(self, path, what, target):
        """The error for a file that a pipeline stage should have written."""
        return UsageError(
            f"{what} of profile {self.profile!r} is missing {Path(path).name} "
            f"({path}). Make it with: {self.command(target)}"
        )

    def read_json(self, path, what, target):
        """Contents of a JSON file that stage `target` writes; `UsageError` with its command if not there."""
        if not Path(path).exists():
            raise self.missing(path, what, target)
        return json.loads(Path(path).read_text())
