"""Parameters: how a profile becomes params.yaml, and which values it may have.

`conf/config.yaml` with `conf/profile/<name>.yaml` says which cases of which experiments there are, their settings and
their seeds; what a case does not say is the default in its notebook's parameters cell. params.yaml has, besides, a list
of all runs that follow from it, which dvc.yaml goes through.

Command line::

    python -m companion.params laptop [training.digits.kl-jko.settings.updates=100 ...]     # writes params.yaml
"""

import re
import sys
from pathlib import Path

import yaml

from companion.files import read_file, shaped, write_text
from companion.form import accept, parameters_of, path_of
from companion.guard import command_line
from gwf.data.files import absent
from gwf.errors import UsageError, nearest
from gwf.paths import CONF, NOTEBOOKS, ROOT

PARAMS = ROOT / "params.yaml"
NAME = re.compile(r"[a-z][a-z0-9_-]*")
GIVEN = {"profile", "report", "device", "seeds", "seeds_of", "experiments", "training", "also", "late"}
#: What a notebook depends on that reads nothing else: a stage of DVC cannot have fewer dependencies than the others.
NOTHING = ".dvcignore"
FOLLOWS = ("trainings", "runs", "shows", "chapters")


def profiles():
    """Names of the profiles: one file each in conf/profile."""
    return sorted(file.stem for file in (CONF / "profile").glob("*.yaml"))


def notebooks(folder):
    """Names of the experiments or chapters: one notebook each."""
    return sorted(path.stem for path in (NOTEBOOKS / folder).glob("*.ipynb"))


def compose(profile, overrides=()):
    """The parameters of a profile, a validated dict; `UsageError` for what is not valid.

    `overrides` are texts in Hydra's grammar, for example `experiments.porous.porous_d2.K=5`.
    """
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    nearest(profile, profiles(), "profile")
    where = " ".join([f"conf/profile/{profile}.yaml", *overrides])
    try:
        with initialize_config_dir(str(CONF), version_base=None):
            found = compose("config", overrides=[f"profile={profile}"])
            for text in overrides:
                group, name, case, *setting = [*text.partition("=")[0].split("."), "", ""]
                if any(setting) and text[:1] not in "+~" and case not in (found.get(group, {}).get(name) or {case}):
                    raise UsageError(f"no case {case!r} of {name}")
            # Whether a case has a setting of its own or its notebook's default does not matter to who changes it.
            given = [f"++{text}" if re.match(r"\w+\.[^=]*=", text) else text for text in overrides]
            found = compose("config", overrides=[f"profile={profile}", *given]) if given else found
        composed = OmegaConf.to_container(found, resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError, OSError) as error:
        for path in (CONF / "config.yaml", *sorted((CONF / "profile").glob("*.yaml"))):
            with shaped(path):  # the broken file may be one that this profile builds on
                read_file(path).get("defaults")
        raise UsageError(f"{where}: {' '.join(str(error).split())}") from None
    if not isinstance(composed, dict) or composed.get("profile") != profile:
        raise UsageError(f"{where} must begin with '# @package _global_' and have the line 'profile: {profile}'")
    composed = available(validate(composed, FOLLOWS))
    return composed | follow(composed)


def available(given):
    """The parameters without the cases that need an external data set which is not there; says which those are.

    A setting, or the data set of a training, names one if it is a key of `gwf.data.files.FILES`.
    """
    left, skipped = {"experiments": {}, "training": {}}, set()
    for group, name, case, settings in cases(given):
        named = [value for value in (name, *settings.values()) if isinstance(value, str)]
        if files := [file for value in named for file in absent(value, settings.get("folder"))]:
            print(f"{name}, {case}: skipped, it needs {', '.join(files)} in datasets/", file=sys.stderr)
            skipped.add(case)
        else:
            left[group].setdefault(name, {})[case] = settings
    if own := given.get("seeds_of"):
        left["seeds_of"] = {key: seeds for key, seeds in own.items() if key.split("/")[-1] not in skipped}
    return given | left


def entries(group, where):
    """Names and values of a group of parameters; `UsageError` if it is none."""
    if not isinstance(group, dict):
        raise UsageError(f"{where} = {group!r} must be a group of named entries")
    return group.items()


def cases(given):
    """Every case of the parameters: (group, name, case, settings)."""
    for group in ("experiments", "training"):
        for name, named in entries(given[group], group):
            for case, settings in entries(named, f"{group}.{name}"):
                yield group, name, case, settings


def seeds_of(given, name, case):
    """Seeds of a case of the experiment or data set `name`: those of both together, of that, of the case, or of all."""
    own = given.get("seeds_of") or {}
    return next((own[key] for key in (f"{name}/{case}", name, case) if key in own), given["seeds"])


def follow(given):
    """What follows from the parameters: the runs, one entry for each case and seed, and the notebooks to be shown."""
    runs, trainings = {}, {}
    for group, name, case, _ in cases(given):
        for seed in seeds_of(given, name, case):
            if group == "training":
                trainings[f"{name}-{case}-{seed}"] = {"dataset": name, "case": case, "seed": seed}
            else:
                runs[f"{case}-{seed}"] = {"experiment": name, "case": case, "seed": seed}
    names, also = [*given["training"], *given["experiments"]], given.get("also") or {}
    place = lambda name: f"results/{given['profile']}/{name}" if name in names else NOTHING
    shows = {name: {"reads": place(name), "also": place(also.get(name))} for name in names}
    chapters = notebooks("chapters")
    if given["chapters"] != "all":
        if not isinstance(given["chapters"], list):
            raise UsageError(f"chapters = {given['chapters']!r} must be 'all' or a list of chapters")
        chapters = [nearest(name, chapters, "chapter") for name in given["chapters"]]
    for name in sorted({*chapters} & {*also}):  # a chapter on what experiments found is shown as they are
        chapters.remove(name)
        if set(also[name]) <= set(names):
            shows[name] = dict(zip(("reads", "also"), map(place, also[name]), strict=True))
    return {"trainings": trainings, "runs": runs, "shows": shows, "chapters": chapters}


def validate(params, later=()):
    """Return `params` if all keys are there but for those that come `later`, with valid values; else `UsageError`."""
    if not isinstance(params, dict):
        raise UsageError(f"params.yaml must be a group of parameters, not {params!r}")
    for key in params:
        nearest(key, GIVEN | set(FOLLOWS), "parameter")
    if missing := sorted(GIVEN - {"seeds_of", "also", "late", *params} | set(FOLLOWS) - {*params, *later}):
        raise UsageError(f"parameter {missing[0]} is missing")
    nearest(params["profile"], profiles(), "profile")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", str(params["device"])):
        raise UsageError(f"device = {params['device']!r} is unknown: use 'cpu', 'cuda' or 'cuda:<index>'")
    report = Path(str(params["report"]))
    taken = (ROOT / report).exists() and not (ROOT / report / "sheets").is_dir()  # what lies there is no report
    if report.is_absolute() or ".." in report.parts or not report.parts or taken:
        raise UsageError(f"report = {params['report']!r} must be a folder for the report alone, such as 'report'")
    for name, _ in entries(params["experiments"], "experiments"):
        nearest(name, notebooks("experiments"), "experiment")
    for kind, name, case, settings in cases(params):
        where = f"{kind}.{name}.{case}"
        if not NAME.fullmatch(str(case)):
            raise UsageError(f"{where}: {case!r} is no name of a case, which has small letters, digits, _ and -")
        if not isinstance(settings, dict):
            raise UsageError(f"{where} = {settings!r} must be a group of settings")
        if own := {"profile", "case", "seed", "out", "dataset"} & {*settings}:
            raise UsageError(f"{where}.{own.pop()} is given by the pipeline, not by a case")
        if kind == "training":
            accept(path_of("train"), settings, f"{where}; a method's own are under `settings`")
        else:
            accept(path_of(name), settings, where)
    entries(params.get("also", {}), "also")
    if not isinstance(late := params.get("late", []), list):
        raise UsageError(f"late = {late!r} must be a list of patterns, such as [digits/*-fast]")
    known = {word for _, name, case, _ in cases(params) for word in (name, case, f"{name}/{case}")}
    lists = {"seeds": params["seeds"]}
    for case, seeds in entries(params.get("seeds_of", {}), "seeds_of"):
        lists[f"seeds_of.{nearest(case, known, 'case in seeds_of')}"] = seeds
    for where, seeds in lists.items():
        whole = isinstance(seeds, list) and seeds and all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
        if not whole or len(set(seeds)) < len(seeds):
            raise UsageError(f"{where} = {seeds!r} must be a list of different whole numbers from 0 on")
    return params


def check_training(params):
    """Raise `UsageError` if a training has an unknown method, data set or setting, or a value out of range.

    Apart from `validate`, as it imports the networks: two seconds that are not spent where nothing is to be done.
    """
    from gwf.training import recipes, tasks
    from gwf.training.settings import complete

    for group, dataset, case, given in cases(params):
        if group == "training":
            try:
                given = parameters_of(path_of("train")) | given
                kind = recipes.get(given["functional"], given["step"]).Settings
                nearest(f"{given['functional']}-{given['step']}", recipes.names(), "recipe")
                complete(kind, tasks.get(dataset).defaults, given["settings"])
            except UsageError as error:
                raise UsageError(f"training.{dataset}.{case}: {error}") from None


def read(path=PARAMS):
    """Validated content of params.yaml."""
    try:
        return validate(read_file(path))
    except UsageError as error:
        made = f". `python -m companion.params laptop` composes {Path(path).name} from conf/"
        raise UsageError(f"{error}{'' if '.ipynb' in str(error) else made}") from None


def write(composed):
    """Write params.yaml if its content changes; returns whether it did."""
    head = "# Written by companion/params.py from conf/. To change a setting for good, edit conf/.\n"
    return write_text(head + yaml.safe_dump(composed, sort_keys=False, allow_unicode=True, width=120), PARAMS)


def put(profile, overrides: list):
    """Compose a profile and write params.yaml; `UsageError` for a setting that no notebook or method has."""
    check_training(composed := compose(profile, overrides))
    print(f"params.yaml: profile {profile}", "written" if write(composed) else "unchanged")


main = command_line(main=put)

if __name__ == "__main__":
    sys.exit(main())
