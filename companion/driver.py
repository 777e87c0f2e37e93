"""`make reproduce`: bring every stage of dvc.yaml up to date, several at a time, and show what is happening.

DVC's files say what there is to do (dvc.yaml) and what has been done (dvc.lock). The driver runs the stages' own
commands side by side (`companion.engines`) and enters their outputs as `dvc commit` does (`companion.workspace`); `dvc repro`
and `dvc status` then agree. The first seed of every case but `late` ones comes first, then a complete report. What git has of
later seeds and `late` cases stays as it is, beside what has run here, where it is up to date and not all is asked for.

A profile other than `laptop` runs in a copy of the sources, scratch/profiles/<profile>, with DVC files of its own: it
leaves no trace in params.yaml and dvc.lock, and what is edited meanwhile does not disturb it.

Command line::

    python -m companion.driver laptop [options]

    --jobs 2          runs side by side; default: as cores allow, at most 4, on a cluster 64
    --minutes 15      a spot check: the stages that tell most within that time
    --claim w2fe-C2   the stages that this claim needs, or several, and its verdict
    --all             every seed and late case, also where git has its results
    --reuse           take all results that came with the clone as they are
    --plan            print the stages that would run, and change nothing
    --data            restore data/ if it is absent, check it, and run nothing
    --engine slurm    jobs of a Slurm cluster
"""

import contextlib
import difflib
import hashlib
import json
import os
import re
import signal
import sys
import time
from collections import defaultdict, namedtuple
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

import joblib

from companion import claims, code, ledger, params, results, workspace
from companion.engines import LOCK, Stages, environment, python
from companion.files import read_file, shaped, write_text
from companion.guard import alone, command_line, say, watch
from gwf.errors import UsageError, in_range, nearest, whole
from gwf.paths import CONF, ROOT, SCRATCH
from gwf.progress import clock

#: Seconds of a stage of which no run is recorded.
SECONDS = {"train": 120.0, "measure": 15.0, "run": 40.0, "show": 12.0, "chapter": 25.0, "claims": 3.0}
#: Runs side by side, by engine: processes, one for each core and at most four; jobs in the queue of a cluster.
SIDE_BY_SIDE = {"local": min(joblib.cpu_count(), 4), "slurm": 64}
#: Kinds of stages that calculate; the others report what these have.
CALCULATE = ("run", "train", "measure")
#: A stage of dvc.yaml; of `run@porous_d2-0`: `kind` "run", `case` "porous/porous_d2", `sheet` "porous"; `inputs`: of inputs.json.
Stage = namedtuple("Stage", "name kind cmd deps outs inputs seed case sheet")


def stages(composed):
    """All stages but `inputs`, name -> `Stage`, from dvc.yaml and the parameters, in the order of the file."""
    found, file = {}, ROOT / "dvc.yaml"
    with shaped(file):
        kinds = read_file(file)["stages"].items()
    for kind, entry in kinds:
        if kind == "inputs":
            continue
        each = composed[entry["foreach"].strip("${}")] if "foreach" in entry else {"": {}}
        for key, item in each.items() if isinstance(each, dict) else zip(each, each, strict=True):
            fields = item if isinstance(item, dict) else {}
            values = composed | {"key": key, "item": item} | {f"item.{word}": value for word, value in fields.items()}
            body = filled(entry.get("do", entry), values)
            outs = [next(iter(out)) for out in body["outs"]]
            ((inputs,),) = body["params"][0].values()
            name = f"{kind}@{key}" if key else kind
            case = "/".join(str(fields[word]) for word in ("dataset", "experiment", "case") if word in fields)
            seed, sheet = (
                fields.get("seed", 0),
                body["cmd"].split()[4],
            )  # python -m companion.notebooks train digits kl-jko 0
            found[name] = Stage(name, kind, body["cmd"], body.get("deps", []), outs, inputs, seed, case, sheet)
    return found


def filled(entry, values):
    """An entry of dvc.yaml with `${name}` replaced by the value of that name."""
    value = lambda name: json.dumps(str(values[name[1]]))[1:-1]
    return json.loads(re.sub(r"\$\{([\w.]+)\}", value, json.dumps(entry)))


def needs(found):
    """Name -> names of the stages whose outputs it reads."""
    makers = defaultdict(set)  # output, or a folder above it -> names of the stages
    for out, name in ((out, stage.name) for stage in found.values() for out in stage.outs):
        for folder in (Path(out), *Path(out).parents):
            makers[folder.as_posix()].add(name)
    return {name: set().union(*(makers.get(dep, ()) for dep in stage.deps)) for name, stage in found.items()}


def status():
    """What `dvc status` says of the stages, as text."""
    written = params.PARAMS.exists() and read_file(params.PARAMS) or {}
    # Without the lists of runs in params.yaml DVC cannot say anything.
    return python("dvc status", "dvc", "status", "--json") if set(params.FOLLOWS) <= set(written) else "{}"


def early(found, late):
    """Names of the stages that compute what a first report needs: the first seed of every case that no pattern of `late` names."""
    first = {}
    for stage in found.values():
        first.setdefault(stage.case, stage.seed)
    here = [s for s in found.values() if s.kind in CALCULATE and s.seed == first[s.case]]
    return {stage.name for stage in here if not any(fnmatch(stage.case, pattern) for pattern in late)}


def stale(found, texts, said):
    """Names of the stages that must run, as what they compute with has changed or an output is not as recorded; and of those
    that are up to date by what came with the clone, and did not run here. `said` is what `status` returned.
    """
    locked, ran = read_file(ROOT / "dvc.lock")["stages"], marks()
    changed = defaultdict(set)  # name of a stage -> what DVC says of its files: modified, deleted
    for name, reasons in json.loads(said).items():
        for files in (files for reason in reasons if isinstance(reason, dict) for files in reason.values()):
            changed[name] |= {what for path, what in files.items() if ROOT / path != code.FILE}

    def done(stage):
        entry = locked.get(stage.name, {"cmd": None})
        hashes = entry.get("params", {}).get(code.FILE.relative_to(ROOT).as_posix(), {})
        same = hashes.get(stage.inputs) == code.hashed(texts[stage.inputs])
        return entry["cmd"] == stage.cmd and same and not changed[stage.name]

    todo = {stage.name for stage in found.values() if not done(stage)}
    return todo, {name for name in found if name not in todo and mark(locked[name]) not in ran}


def with_samples(todo, found):
    """`todo`, what measures the samples that it makes, and what trains where git's checksums are all there is of samples."""
    makers = {out: name for name, stage in found.items() for out in stage.outs if out.endswith(".sha256")}
    read = {name: {dep for dep in stage.deps if dep in makers} for name, stage in found.items()}
    todo = todo | {name for name, sums in read.items() if {makers[dep] for dep in sums} & todo}
    return todo | {makers[dep] for name in todo for dep in read[name] if not (ROOT / dep).with_suffix("").exists()}


def mark(entry):
    """What says that a stage ran here: a hash of its entry in dvc.lock."""
    return hashlib.md5(json.dumps(entry, sort_keys=True).encode()).hexdigest()


def marks(new=()):
    """Marks of the stages that ran here; the entries in dvc.lock of those named in `new` are marked now."""
    known = {entry for entry in kept(SCRATCH / "ran.json", []) if isinstance(entry, str)}
    if new:
        locked = read_file(ROOT / "dvc.lock")["stages"]
        known |= {mark(locked[name]) for name in new if name in locked}
        write_text(json.dumps(sorted(known)), SCRATCH / "ran.json")
    return known


def kept(file, nothing):
    """What a file of scratch/ keeps, or `nothing` if it is absent or damaged: it is only lost time."""
    with contextlib.suppress(UsageError):
        if isinstance(found := read_file(file), type(nothing)):
            return found
    return nothing


def signature(*names):
    """Hash of name, size and time of change of these files, or all files in these folders: has anything happened?"""
    digest = hashlib.md5()
    for name in names:
        for path in sorted([ROOT / name, *(ROOT / name).rglob("*")]):
            if path.is_file() and not {"__pycache__", "site"} & set(path.parts):
                digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Costs:
    """Seconds of each stage: the latest run here, else what conf/costs.yaml or its kind says, times this machine's pace."""

    def __init__(self, profile):
        self.file = SCRATCH / "costs" / f"{profile}.json"
        seconds = lambda known: {name: s for name, s in known.items() if isinstance(s, int | float) and s > 0}
        with shaped(given := CONF / "costs.yaml"):
            self.given = seconds(read_file(given).get(profile) or {})
        self.here = seconds(kept(self.file, {}))
        self.pace = self._pace()

    def _pace(self):
        return sum(self.here.values()) / sum(map(self.usual, self.here)) if self.here else 1.0

    def usual(self, name):
        """Seconds elsewhere: of the stage, else of the case whatever its seed, else of the kind."""
        of_kind = SECONDS.get(name.partition("@")[0], 10.0)
        return self.given.get(name) or self.given.get(name.rsplit("-", 1)[0], of_kind)

    def __getitem__(self, stage):
        return self.here.get(stage.name) or self.pace * self.usual(stage.name)

    def record(self, name, seconds):
        """Keep what a stage took."""
        self.here[name] = round(seconds, 1)
        self.pace = self._pace()
        write_text(json.dumps(self.here, indent=0, sort_keys=True), self.file)

    def together(self, chosen, jobs):
        """Estimated seconds for stages with `jobs` side by side."""
        each = [self[stage] for stage in chosen]
        return max([sum(each) / jobs, *each], default=0.0)


def telling(found, todo, costs, budget):
    """Of the stages `todo` those that tell most within `budget` seconds: the cheapest of every family, then more.

    A family is an experiment, a chapter, or a data set with one of the chief time steps. A training comes with its
    measuring, the first of an experiment with the time of its sheet.
    """
    calculated = [found[name] for name in todo if found[name].kind in ("run", "train", "chapter", "measure")]
    if not calculated:  # a sheet has changed
        return todo
    by_cost = sorted(calculated, key=lambda stage: (stage.seed, costs[stage], stage.name))
    chosen, spent, families, sheets = set(), 0.0, set(), set()
    for first in (True, False):
        for stage in by_cost:
            step = stage.case.split("-")[1] if stage.kind == "train" else ""
            family = (stage.kind, stage.sheet, step if step in ("gan", "jko", "euler") else "")
            both = {stage.name, stage.name.replace("train@", "measure@")}
            sheet = {f"show@{stage.sheet}"} & set(found) - sheets
            cost = sum(costs[found[name]] for name in both | sheet)
            waits = stage.kind == "measure" and stage.name.replace("measure@", "train@") in todo
            if stage.name in chosen or waits or spent + cost > budget or (first and family in families):
                continue
            families.add(family)
            sheets |= sheet
            spent += cost
            chosen |= both
    return chosen


def named(text):
    """The ids of one claim or several, typed in any case."""
    known, words = {name.lower(): name for name in claims.read()}, text.replace(",", " ").split() or [""]
    for word in (word for word in words if word.lower() not in known):
        close = difflib.get_close_matches(word.lower(), known, n=1)
        hint = f"did you mean {known[close[0]]!r}? " if close else ""
        raise UsageError(f"no claim {word!r}: {hint}`make claims` lists them, `make claim ID=w2fe-C2` runs one")
    return [known[word.lower()] for word in words]


def settling(claim, found):
    """Names of the stages that a claim needs: the notebook that judges it, what that reads, the ledger."""
    claim = claims.read()[claim]
    if claim.id not in (judges := ledger.judged_in()):
        raise UsageError(f"claim {claim.id} is not judged by a run: {claim.otherwise}")
    notebook, above = Path(judges[claim.id]).stem, needs(found)
    chosen = {name for name in (f"show@{notebook}", f"chapter@{notebook}") if name in found}
    if not chosen:
        raise UsageError(f"claim {claim.id} is judged in {judges[claim.id]}, which is not in this profile")
    while more := set().union(*map(above.__getitem__, chosen)) - chosen:
        chosen |= more
    return chosen | {"claims"}


def reproduce(
    profile="laptop",
    *,
    jobs: int = None,
    minutes: float = None,
    claim: str = None,
    all=False,
    reuse=False,
    plan=False,
    data=False,
    engine="local",
):
    """Bring the pipeline up to date, or print what would run; the arguments are those of the command line, see above.

    `UsageError` for a wrong profile, parameter or data, when nothing has run; `Failed` says which stage failed and why.
    """
    began = time.monotonic()
    if os.environ.get("MAKELEVEL"):
        # A killed make must not leave the pipeline running behind its back; the stages stop with this process.
        watch(lambda: os._exit(1))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    nearest(profile, params.profiles(), "profile")
    most = SIDE_BY_SIDE[nearest(engine, SIDE_BY_SIDE, "engine")]
    jobs = most if jobs is None else whole(jobs, 1, 10**4, "jobs")
    if minutes is not None:
        in_range(minutes, 0, 10**6, "minutes", open_low=True)
    if all and reuse:
        raise UsageError("ALL=1 runs what git has anew, and REUSE=1 nothing of it: choose one")
    asked = [] if claim is None else named(claim)
    if data:
        return workspace.data()
    if profile != "laptop" and not os.environ.get("GWF_WORKSPACE"):
        workspace.data()
        os.chdir(target := workspace.copy(profile))
        inside = environment() | {"GWF_WORKSPACE": "1", "PYTHONPATH": str(target)}
        os.execve(sys.executable, [sys.executable, "-m", "companion.driver", *sys.argv[1:]], inside)
    with alone(LOCK, wait=False):
        workspace.mend()
        narrow = not (all or minutes or asked)  # the first report's stages alone, of those that git has
        unchanged = SCRATCH / f"unchanged-{profile}{'' if narrow else '-all'}"
        written = (*workspace.SOURCES, "params.yaml", "dvc.lock", "scratch/ran.json", f"results/{profile}", "report")
        known, _, note = (unchanged.read_text() if unchanged.exists() else "").partition("\n")
        if not asked and known == signature(*written):
            done = "nothing to do" if plan else f"profile {profile}: everything is up to date"
            return say(f"{done}\n{note}".rstrip())
        workspace.data()
        sources = signature(*workspace.SOURCES)
        composed, costs = params.compose(profile), Costs(profile)
        print("looking at what is out of date", file=sys.stderr, flush=True)
        if params.PARAMS.exists() and read_file(params.PARAMS) != composed:
            print("params.yaml has other settings than conf/, by which make goes", file=sys.stderr)
        with ThreadPoolExecutor(1) as beside:  # DVC takes as long as reading the code
            said = beside.submit(status)
            found, texts = stages(composed), code.inputs(composed)
        soon = early(found, composed.get("late", []))
        later = {name for name, stage in found.items() if stage.kind in CALCULATE} - soon
        todo, elsewhere = stale(found, texts, said.result())
        taken = elsewhere & (set(found) if reuse else later if narrow else set())
        todo = out_of_date = with_samples(todo | elsewhere - taken, found)
        taken -= todo
        if minutes:
            todo = telling(found, todo, costs, 60 * minutes * jobs * 0.8)
            if out_of_date and not todo:
                raise UsageError(f"minutes = {minutes:g}: no stage is as short as that")
        if asked:
            needed = set().union(*(settling(name, found) for name in asked))
            todo = todo & needed | {name for name in needed if found[name].kind in ("show", "chapter", "claims")}
        if plan:
            return say("\n".join(name for name in found if name in todo) or "nothing to do")
        if todo:
            if any(found[name].kind == "train" for name in todo):
                params.check_training(composed)
            params.write(composed)
            code.write(texts)
            runner = Stages(engine, jobs, costs, marks)
            entered = runner.commit("inputs")
            ran = rounds(runner, found, todo, soon, costs, profile)
            entered.result()
            if profile == "laptop":
                measured = [found[name] for name in sorted(ran) if found[name].kind in ("run", "measure")]
                results.say_beside_git([ROOT / stage.outs[0] for stage in measured])
        left, rest = out_of_date - todo, clock(costs.together([found[name] for name in taken], jobs))
        note = f"{len(taken)} of {len(found)} stages have git's results: ALL=1 runs them here too, in about {rest}"
        note = note if taken else ""
        # What was only taken as it is has not been calculated here, and what was edited meanwhile has not been looked at.
        if not left and not reuse and sources == signature(*workspace.SOURCES):
            unchanged.write_text(f"{signature(*written)}\n{note}")
    if asked:
        frame = ledger.load(ROOT / composed["report"])
        return print(*(ledger.entry(frame, name) for name in asked), sep="\n\n")
    done = f"{minutes:g} minutes of it ran, the same command goes on" if left else "everything is up to date"
    say(f"profile {profile}: {done} ({clock(time.monotonic() - began)})\n{note}".rstrip())
    for what, where in (("report", "README.md"), ("claims", "claims.md"), ("sheets", "sheets")):
        say(f"  {what:<8} {composed['report']}/{where}")
    say(f"  {'runs':<8} results/{profile}")


def rounds(runner, found, todo, soon, costs, profile):
    """What a first report needs, that is `soon`, and the report; then the rest and the report again; returns what ran."""
    above, ran = needs(found), set()
    calculated = {name for name in todo if found[name].kind in CALCULATE}
    first, others = calculated & soon, calculated - soon
    took = lambda names: clock(costs.together([found[name] for name in names], runner.jobs))
    say(f"profile {profile}: {len(todo)} of {len(found)} stages to do, {runner.jobs} at a time")
    say(f"about {took(first)} to a first report, {took(todo)} in all" if first and others else f"about {took(todo)}")
    for part in (first, others) if others else (first,):
        names = set(part)
        for name in found:  # in the order of dvc.yaml, so that what a stage needs has been looked at
            reports = found[name].kind in ("show", "chapter", "claims")
            waits = above[name] and above[name] <= todo - ran - names
            if reports and not waits and (name in todo - ran or above[name] & names):
                names.add(name)
        # Seed after seed and sheet after sheet, as dvc.yaml has them, so that a run cut short leaves whole ones; the dear ones first.
        place = list(dict.fromkeys(stage.sheet for stage in found.values())).index
        ordered = sorted(names, key=lambda name: ((of := found[name]).seed, place(of.sheet), -costs[of]))
        runner.side_by_side({name: found[name] for name in ordered}, {name: above[name] & names for name in ordered})
        ran |= names
    return ran


main = command_line(main=reproduce)

if __name__ == "__main__":
    sys.exit(main())
