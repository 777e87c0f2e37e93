"""`make reproduce`: bring every stage of dvc.yaml up to date, several at a time, and show what is happening.

DVC decides what is out of date and runs it, but one stage at a time. This driver asks it for the plan and
starts `dvc repro --single-item <stage>` for every stage whose inputs are ready, as many side by side as there
are cores (each run computes on one thread). Every line printed begins with the number of its stage.

Command line::

    python -m gwf.pipeline smoke --jobs 2
"""

import argparse
import contextlib
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from unittest import mock

import yaml

from gwf import params
from gwf.errors import UsageError, nearest
from companion.guard import Alone, watch
from gwf.mend import mend
from companion.notebooks import say
from gwf.paths import RESULTS, ROOT, SCRATCH
from gwf.progress import clock
from gwf.workers import Failed, Stages, environment

OVERHEAD = 8.0
MS_PER_UPDATE = {"digits": 55.0, "eight_gaussians": 10.0}
OTHER_SECONDS = {"lenet": 60.0, "chapter": 20.0, "study": 60.0}
CONSTANT = ("check", "code")
# Stages of which several run at a time.
BESIDE = ("train", "longer", "explicit", "study", "chapter")
RESTORING = SCRATCH / "restoring-data"


def data(checking):
    """Restore data/ if it is absent, and stop unless every file is as it should be.

    Parameters
    ----------
    checking : subprocess.Popen
        `python -m gwf.data`, started earlier, as it takes two seconds to import; ignored if data/ is absent.
    """
    if RESTORING.exists() or not (ROOT / "data").exists():
        checking.kill()
        checking.wait()
        say("data/: restoring from embedded/")
        RESTORING.touch()
        pull("--force")
        RESTORING.unlink()
        checking = check_data()
    output = checking.communicate()[0]
    if checking.returncode:
        raise UsageError(output.strip().removeprefix("data: "))


def pull(*options):
    """`dvc pull data.dvc`: DVC's cache and data/ as data.dvc says, from embedded/."""
    pulled = subprocess.run(
        [sys.executable, "-m", "dvc", "--wait-for-lock", "pull", *options, "data.dvc"],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if pulled.returncode:
        raise UsageError(f"data/ is not what data.dvc says. The command that mends it: make data\n{pulled.stderr}")


def check_data():
    """Start the check of all checksums in data/; returns the process."""
    return subprocess.Popen(
        [sys.executable, "-m", "gwf.data"],
        cwd=ROOT,
        env=environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


class Plan:
    """What is out of date, according to DVC.

    Attributes
    ----------
    total : int
        Number of all stages of the profile.
    needs : dict
        Name of each stage to be run -> set of the stages to be run before it.
    cached : list of str
        Those of them whose result for exactly these inputs is in DVC's run cache: they are restored, not run.
    data_changed : bool
        Whether data/ or its copy in DVC's cache is not what data.dvc says.
    """

    def __init__(self):
        from dvc.repo import Repo
        from dvc.utils.serialize import _yaml

        logging.getLogger("dvc").setLevel(logging.ERROR)
        # DVC parses params.yaml anew for every stage, a quarter of a second each time; here nobody changes it.
        once = mock.patch.object(_yaml, "parse_yaml", functools.lru_cache(_yaml.parse_yaml))
        with once, Repo(str(ROOT)) as repo, repo.lock:
            self.data_changed = any(self.is_changed(stage) for stage in repo.index.stages if not stage.cmd)
            stages = {stage.addressing: stage for stage in repo.index.stages if stage.cmd}
            graph = repo.index.graph
            changed = [name for name, stage in stages.items() if self.is_changed(stage)]
            self.total = len(stages)
            before = {name: {s.addressing for s in graph.successors(stage)} for name, stage in stages.items()}
            self.needs = self.closure(changed, before)
            self.cached = [name for name in changed if self.in_run_cache(repo, stages[name])]

    @staticmethod
    def closure(changed, before):
        """Stages to run: those changed and all that come after them, except after one of constant output."""
        run = set(changed)
        while True:
            more = {
                name
                for name, needs in before.items()
                if name not in run and any(need in run and not need.startswith(CONSTANT) for need in needs)
            }
            if not more:
                return {name: before[name] & run for name in before if name in run}
            run |= more

    @staticmethod
    def is_changed(stage):
        """Whether DVC would run the stage as things are; a missing input counts as changed."""
        from dvc.exceptions import DvcException

        try:
            return bool(stage.status(check_updates=False))
        except (DvcException, OSError):
            return True

    @staticmethod
    def in_run_cache(repo, stage):
        """Whether the results of the stage for its present inputs are all in the cache."""
        from dvc.exceptions import DvcException
        from dvc_data.hashfile.hash_info import HashInfo

        try:
            if stage.changed_stage() or not stage.deps_cached():
                stage.save_deps()
                # What dvc.lock has are results of other inputs.
                for out in stage.outs:
                    out.hash_info = HashInfo()
            repo.stage_cache.restore(stage, dry=True)
            return True
        except (DvcException, OSError):
            return False


def seconds(name, parameters):
    """Estimate of what a stage takes: from its run on record, or else from the number of updates."""
    kind, _, key = name.partition("@")
    folder = RESULTS / parameters["profile"]
    if kind == "explicit":
        folder = folder / "{}-euler-digits-{}".format(*key.rsplit("-", 1))
    record = {
        "explicit": folder / "run.json",
        "longer": folder / "longer" / key / "run.json",
        "study": folder / "timing" / f"{key}.json",
    }
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(record.get(kind, folder / key / "run.json").read_text())["seconds"]) + OVERHEAD
    if kind == "explicit":
        return parameters["explicit"]["training"]["updates"] * MS_PER_UPDATE["digits"] / 1000 + OVERHEAD
    if kind not in ("train", "longer"):
        return OTHER_SECONDS.get(kind, 0.0) + OVERHEAD
    dataset = key.rsplit("-", 2)[1] if kind == "train" else "digits"
    training = parameters["training"][dataset] if kind == "train" else parameters["longer"]["training"]
    return training["updates"] * MS_PER_UPDATE[dataset] / 1000 + OVERHEAD


def minutes(value):
    """Duration in words."""
    return f"{value / 60:.0f} minutes" if value >= 90 else f"{value:.0f} seconds"


def estimate(names, parameters, jobs):
    """Estimated seconds for the stages `names` with `jobs` workers, runs and chapters side by side."""
    cost = {name: seconds(name, parameters) for name in names}
    spread = [value for name, value in cost.items() if name.startswith(BESIDE)]
    return sum(cost.values()) - sum(spread) + max([sum(spread) / jobs, *spread], default=0.0)


def reproduce(profile, jobs, only_plan=False):
    """Bring the pipeline of `profile` up to date with `jobs` stages side by side, or print what would run.

    Raises
    ------
    UsageError
        Wrong profile, parameter or data; nothing has run.
    Failed
        A stage failed; the message says which and why.
    """
    began = time.monotonic()
    nearest(profile, params.profiles(), "profile")
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(Alone(SCRATCH, "reproduce", wait=False))
        except BlockingIOError:
            raise UsageError("another `make reproduce` is running in this folder") from None
        checking = check_data()
        stack.callback(checking.kill)
        composed = params.compose(profile)
        parameters = yaml.safe_load(composed)
        params.matches_notebooks(parameters)
        params.write(composed)
        mend()
        data(checking)
        plan = Plan()
        if plan.data_changed:
            pull()
            plan = Plan()
        if only_plan:
            names = [f"{name} (cached)" if name in plan.cached else name for name in plan.needs]
            say("\n".join(names) or "nothing to do")
            return
        run(plan, Stages(lock), parameters, jobs or side_by_side(parameters))
    report = parameters["report"]
    say(f"profile {profile}: everything is up to date ({clock(time.monotonic() - began)})")
    say(
        f"  page     {report}/index.html\n  claims   {report}/claims.md\n  tables   {report}/tables\n  figures  {report}/figures"
    )
    say(f"  runs     results/{profile}")


def run(plan, stages, parameters, jobs):
    """Run what is out of date: first what decides whether the rest is, then the rest, then all by DVC."""
    if not plan.needs:
        return
    first = [name for name in plan.needs if name.startswith(CONSTANT)]
    if first:
        say(f"[check] {', '.join(first)}")
        stages.together(first, "[check]")
        plan = Plan()
    tried = set()
    while not tried.issuperset(plan.cached):
        say(f"[cache] {', '.join(plan.cached)}: run before with the same inputs, taken from the cache")
        stages.together(plan.cached, "[cache]")
        tried.update(plan.cached)
        plan = Plan()
    if plan.needs:
        waiting = len(plan.needs)
        guess = minutes(estimate(list(plan.needs), parameters, jobs))
        ready = f"{plan.total} stages, {plan.total - waiting} up to date"
        say(f"profile {parameters['profile']}: {ready}, {waiting} to run, {jobs} at a time, about {guess}")
        # The longest first: otherwise the last of them runs alone.
        longest = dict(sorted(plan.needs.items(), key=lambda item: -seconds(item[0], parameters)))
        stages.side_by_side(longest, jobs, lambda left: estimate(left, parameters, jobs))
    stages.together([], "[close]")


def side_by_side(parameters):
    """How many runs go side by side: as many as the cores have threads for, at most 4; one on a GPU."""
    if parameters["device"] != "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = max(settings["threads"] for settings in parameters["training"].values())
    return max(1, min(cores // threads, 4))


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m gwf.pipeline", description="Bring the pipeline up to date.")
    parser.add_argument("profile", nargs="?", default="laptop")
    parser.add_argument("--jobs", type=int, help="runs side by side; default: as cores allow, at most 4")
    parser.add_argument("--plan", action="store_true", help="compose params.yaml, print the stages out of date, stop")
    asked = parser.parse_args(arguments)
    if os.environ.get("MAKELEVEL"):
        # A killed make must not leave the pipeline running behind its back; the stages stop with this
        # process.
        watch([os.getppid()], lambda: os._exit(1))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        reproduce(asked.profile, asked.jobs, asked.plan)
    except (UsageError, Failed) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except Exception as error:
        if not type(error).__module__.startswith("dvc"):
            raise
        print(f"error: DVC: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
