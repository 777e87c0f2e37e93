"""`make reproduce`: bring every stage of dvc.yaml up to date, several at a time, and show what is happening.

DVC's files say what there is to do (dvc.yaml) and what has been done (dvc.lock). The driver runs the stages' own
commands side by side, through an engine (`companion.engines`: processes of this machine, or jobs of a Slurm cluster),
and enters their outputs with `dvc commit`; `dvc repro` and `dvc status` then agree. The first seed of everything comes
first, then a complete report, then the other seeds, then the report again.

A profile other than `laptop` runs in a copy of the sources, scratch/profiles/<profile>, with DVC files of its own: it
leaves no trace in params.yaml and dvc.lock, and what is edited meanwhile does not disturb it.

Command line::

    python -m companion.driver laptop --jobs 2 [--minutes 15] [--reuse] [--plan] [--engine slurm]
"""

import argparse
import contextlib
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import joblib

from companion import code, params
from companion.engines import Failed, Stages, environment, python
from companion.files import read_file, write_text
from companion.guard import Alone, Parser, command_line, say, watch
from companion.workspace import SOURCES, data, mend, workspace
from gwf.errors import UsageError, nearest
from gwf.paths import ROOT, SCRATCH
from gwf.progress import clock

INPUTS = "results/inputs"
#: Seconds of a stage of which no run is recorded.
SECONDS = {"train": 120.0, "measure": 15.0, "run": 40.0, "show": 12.0, "chapter": 25.0, "claims": 3.0, "page": 3.0}
#: Runs side by side, by engine: processes, one for each core and at most four; jobs in the queue of a cluster.
SIDE_BY_SIDE = {"local": min(joblib.cpu_count(), 4), "slurm": 64}


@dataclass(frozen=True)
class Stage:
    """One stage: its command, and the paths it reads and writes, as in dvc.yaml."""

    name: str
    cmd: str
    deps: tuple
    outs: tuple
    seed: int = 0

    @property
    def kind(self):
        """`run` of `run@porous_d2-0`."""
        return self.name.split("@")[0]

    @property
    def inputs(self):
        """Name of its file below results/inputs."""
        (found,) = [Path(path).stem for path in self.deps if path.startswith(INPUTS + "/")]
        return found


def stages(composed):
    """All stages but `inputs`, name -> `Stage`, from dvc.yaml and the parameters, in the order of the file."""
    found = {}
    for name, entry in read_file(ROOT / "dvc.yaml")["stages"].items():
        if name == "inputs":
            continue
        each = composed[entry["foreach"].strip("${}")] if "foreach" in entry else {None: {}}
        for key, item in each.items() if isinstance(each, dict) else ((key, key) for key in each):
            values = {"profile": composed["profile"], "report": composed["report"], "key": key, "item": item}
            values |= {f"item.{word}": value for word, value in item.items()} if isinstance(item, dict) else {}

            def fill(text, values=values):
                for word, value in values.items():
                    text = text.replace(f"${{{word}}}", str(value))
                return text

            body = entry.get("do", entry)
            outs = tuple(fill(next(iter(out)) if isinstance(out, dict) else out) for out in body["outs"])
            full = name if key is None else f"{name}@{key}"
            seed = item.get("seed", 0) if isinstance(item, dict) else 0
            found[full] = Stage(full, fill(body["cmd"]), tuple(map(fill, body["deps"])), outs, seed)
    return found


def needs(found):
    """Name -> names of the stages whose outputs it reads."""
    owner = {out: stage.name for stage in found.values() for out in stage.outs}

    def makers(dep):
        return [name for out, name in owner.items() if out == dep or (out + "/").startswith(dep + "/")]

    return {name: {maker for dep in stage.deps for maker in makers(dep)} for name, stage in found.items()}


def stale(found, texts, reuse):
    """Names of the stages that must run: what they compute with has changed, or an output is not as recorded.

    Outputs that came with the clone were not computed here: such a stage is to run as well, unless `reuse`.
    """
    locked, ran = read_file(ROOT / "dvc.lock")["stages"], set(marks())
    status, written = "{}", params.PARAMS.exists() and read_file(params.PARAMS) or {}
    if set(params.FOLLOWS) <= set(written):  # else DVC cannot say anything before it is written anew
        status = python("dvc status", "dvc", "status", "--json")
    changed = {}
    for name, reasons in json.loads(status).items():
        changed[name] = [
            (path, what)
            for reason in reasons
            if isinstance(reason, dict)
            for path, what in next(iter(reason.values())).items()
            if not path.startswith(INPUTS)
        ]
    names = set()
    for name, stage in found.items():
        entry = locked.get(name, {"cmd": None, "deps": []})
        hashes = {dep["path"]: dep.get("md5") for dep in entry["deps"]}
        same = hashes.get(f"{INPUTS}/{stage.inputs}.txt") == hashlib.md5(texts[stage.inputs].encode()).hexdigest()
        absent = ("deleted", "not in cache") if reuse else ()
        touched = [path for path, what in changed.get(name, []) if what not in absent]
        if entry["cmd"] != stage.cmd or not same or touched or not (reuse or mark(entry) in ran):
            names.add(name)
    return names


def mark(entry):
    """What says that a stage ran here: a hash of its entry in dvc.lock."""
    return hashlib.md5(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def marks(new=None):
    """Marks of the stages that ran here; with `new`, names of stages whose entries in dvc.lock are to be marked."""
    file = SCRATCH / "ran.json"
    known = set(kept(file, []))
    if new:
        locked = read_file(ROOT / "dvc.lock")["stages"]
        known |= {mark(locked[name]) for name in new if name in locked}
        write_text(json.dumps(sorted(known)), file)
    return known


def kept(file, nothing):
    """What a file of scratch/ keeps, or `nothing` if it is absent or damaged: it is only lost time."""
    with contextlib.suppress(UsageError):
        return read_file(file)
    return nothing


def signature(profile):
    """Hash of name, size and time of change of every file that the pipeline reads or writes: has anything happened?"""
    digest = hashlib.md5()
    for name in (*SOURCES, "params.yaml", "dvc.lock", f"results/{profile}", "report"):
        for path in sorted([ROOT / name, *(ROOT / name).rglob("*")]):
            if path.is_file() and "__pycache__" not in path.parts:
                stat = path.stat()
                digest.update(f"{path} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Costs:
    """Seconds of each stage: the latest run here, else conf/costs.yaml, else a guess for its kind."""

    def __init__(self, profile):
        self.file = SCRATCH / "costs" / f"{profile}.json"
        shipped = read_file(ROOT / "conf" / "costs.yaml").get(profile) or {}
        self.known = shipped | kept(self.file, {})

    def __getitem__(self, stage):
        return self.known.get(stage.name) or self.known.get(stage.name.rsplit("-", 1)[0], SECONDS[stage.kind])

    def record(self, name, seconds):
        """Keep what a stage took."""
        self.known[name] = round(seconds, 1)
        write_text(json.dumps(self.known, indent=0, sort_keys=True), self.file)

    def together(self, chosen, jobs):
        """Estimated seconds for stages with `jobs` side by side."""
        each = [self[stage] for stage in chosen]
        return max([sum(each) / jobs, *each], default=0.0)


def telling(found, todo, costs, budget):
    """Of the stages `todo` those that tell most within `budget` seconds: of every family one, the cheapest first, then more.

    A family is an experiment, a chapter, or a data set with a time step; a training comes with its measuring, and what
    is the first of an experiment with the time of its sheet.
    """
    chosen, spent, families, sheets = set(), 0.0, set(), set()
    by_cost = [found[name] for name in todo if found[name].kind in ("run", "train", "chapter", "measure")]
    if not by_cost:  # all is calculated, a sheet has changed
        return todo
    by_cost.sort(key=lambda stage: (stage.seed, costs[stage], stage.name))
    for first in (True, False):
        for stage in by_cost:
            kind, words, both = stage.kind, stage.cmd.split(), {stage.name}
            if kind == "train":
                both.add(stage.name.replace("train@", "measure@"))
            family = (kind, words[4], words[5].split("-")[1] if kind == "train" else "")
            sheet = {f"show@{words[4]}"} & set(found) - sheets
            cost = sum(costs[found[name]] for name in both | sheet)
            waits = kind == "measure" and stage.name.replace("measure@", "train@") in todo
            if stage.name in chosen or waits or spent + cost > budget or (first and family in families):
                continue
            families.add(family)
            sheets |= sheet
            spent += cost
            chosen |= both
    return chosen


def reproduce(asked):
    """Bring the pipeline up to date as the command line asks, or print what would run.

    Raises
    ------
    UsageError
        Wrong profile, parameter or data; nothing has run.
    Failed
        A stage failed; the message says which and why.
    """
    began, profile = time.monotonic(), asked.profile
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(Alone(SCRATCH, "reproduce", wait=False))
        except BlockingIOError:
            raise UsageError("another `make reproduce` is running in this folder") from None
        mend()
        unchanged = SCRATCH / f"unchanged-{profile}"
        if unchanged.exists() and unchanged.read_text() == signature(profile):
            say("nothing to do" if asked.plan else f"profile {profile}: everything is up to date")
            return
        data()
        composed = params.compose(profile)
        found, texts = stages(composed), code.inputs(composed)
        todo = stale(found, texts, asked.reuse)
        costs, jobs = Costs(profile), asked.jobs or SIDE_BY_SIDE[asked.engine]
        left = set()
        if asked.minutes:
            part = telling(found, todo, costs, 60 * asked.minutes * jobs * 0.8)
            todo, left = part, todo - part
        if asked.plan:
            say("\n".join(name for name in found if name in todo) or "nothing to do")
            return
        if todo:
            params.check_training(composed)
            params.write(composed)
            code.write(ROOT / INPUTS, composed)
            runner = Stages(lock, asked.engine, jobs, costs, marks)
            runner.commit(["inputs"])
            ran = rounds(runner, found, todo, costs, jobs, composed)
            if profile == "laptop":
                from companion import compare

                compare.say_beside_git(composed, ran)
        if not left:
            unchanged.write_text(signature(profile))
    done = f"{asked.minutes:g} minutes of it ran, the same command goes on" if left else "everything is up to date"
    say(f"profile {profile}: {done} ({clock(time.monotonic() - began)})")
    report = composed["report"]
    for what, where in (("page", "index.html"), ("claims", "claims.md"), ("sheets", "sheets")):
        say(f"  {what:<8} {report}/{where}")
    say(f"  {'runs':<8} results/{profile}")


def rounds(runner, found, todo, costs, jobs, composed):
    """The first seed of everything and a report of it, then the other seeds and the report; returns what ran."""
    above, ran = needs(found), set()
    calculated = [found[name] for name in found if name in todo and found[name].kind in ("run", "train", "measure")]
    first = composed["seeds"][0]
    parts = [[s for s in calculated if s.seed == first], [s for s in calculated if s.seed != first]]
    total = sum(len(part) for part in parts)
    say(
        f"profile {composed['profile']}: {total} runs to do of {len(found)} stages, {jobs} "
        f"at a time: about {clock(costs.together(parts[0], jobs))} to a first report, {clock(costs.together(calculated, jobs))} in all"
    )
    for number, part in enumerate(parts):
        names = {stage.name for stage in part}
        if number and not part:
            break
        after = set(todo) if number == 0 else set()
        for name in found:  # in the order of dvc.yaml, so that what a stage needs has been looked at
            if found[name].kind in ("show", "chapter", "claims", "page") and (name in after or above[name] & names):
                names.add(name)
        ordered = sorted(names, key=lambda name: -costs[found[name]])
        runner.side_by_side({name: found[name] for name in ordered}, {name: above[name] & names for name in ordered})
        ran |= names
    return ran


def positive(text):
    """A whole number from 1 on, for the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number from 1 on")
    return int(text)


def time_of(text):
    """Minutes, a positive number, for the command line."""
    with contextlib.suppress(ValueError):
        if 0 < float(text) < math.inf:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} must be a positive number of minutes")


@command_line(Failed)
def main(arguments):
    """Command line; returns the exit status."""
    parser = Parser(prog="python -m companion.driver", description="Bring the pipeline up to date.")
    parser.add_argument("profile", nargs="?", default="laptop")
    parser.add_argument(
        "--jobs", type=positive, help="runs side by side; default: as cores allow, at most 4, on a cluster 64"
    )
    parser.add_argument("--minutes", type=time_of, help="a spot check: the stages that tell most within that time")
    parser.add_argument("--reuse", action="store_true", help="take results that came with the clone as they are")
    parser.add_argument("--plan", action="store_true", help="print the stages that would run, and change nothing")
    parser.add_argument("--data", action="store_true", help="restore data/ if it is absent, check it, and run nothing")
    parser.add_argument("--engine", default="local", choices=SIDE_BY_SIDE)
    asked = parser.parse_args(arguments)
    if os.environ.get("MAKELEVEL"):
        # A killed make must not leave the pipeline running behind its back; the stages stop with this process.
        watch([os.getppid()], lambda: os._exit(1))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    nearest(asked.profile, params.profiles(), "profile")
    if asked.data:
        return data()
    if asked.profile != "laptop" and not os.environ.get("GWF_WORKSPACE"):
        data()
        target = workspace(asked.profile)
        command = [sys.executable, "-m", "companion.driver", *(sys.argv[1:] if arguments is None else arguments)]
        inside = environment() | {"GWF_WORKSPACE": "1", "PYTHONPATH": str(target)}
        return subprocess.run(command, cwd=target, env=inside).returncode
    reproduce(asked)


if __name__ == "__main__":
    sys.exit(main())
