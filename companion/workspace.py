"""What a run finds and leaves: whole data, a whole dvc.lock, for a profile other than `laptop` a copy of the sources.

python -m companion.workspace show@porous show@ring     # enter the outputs of these stages into dvc.lock
"""

import os
import shutil
import sys

from companion.engines import python
from companion.files import link, read_file, write_text
from companion.guard import command_line, say
from gwf.errors import UsageError
from gwf.paths import RESULTS, ROOT, SCRATCH

#: Sources that a run of another profile works with.
SOURCES = (".dvc/plots", "companion", "conf", "data", "gwf", "notebooks", "data.dvc", "dvc.yaml", "pyproject.toml")


def data():
    """Restore data/ if it is absent, and stop unless every file is as it should be."""
    if not (ROOT / ".git").exists():  # a download without git: DVC must not look for it
        write_text("[core]\n    no_scm = true\n", ROOT / ".dvc" / "config.local")
    restoring = SCRATCH / "restoring-data"
    if restoring.exists() or not (ROOT / "data").exists():
        say("data/: restoring from embedded/")
        restoring.parent.mkdir(exist_ok=True)
        restoring.touch()
        python("data/ cannot be restored from embedded/", "dvc", "pull", "--force", "data.dvc")
        restoring.unlink()
    python("data/ is not whole", "gwf.data")


def mend():
    """If dvc.lock was cut off in the middle of a write, take the last whole one."""
    lock, good = ROOT / "dvc.lock", SCRATCH / "dvc.lock.good"
    if not lock.exists() and not good.exists():
        lock.write_text("schema: '2.0'\nstages: {}\n")
    try:
        entries = (whole := read_file(lock))["stages"].values()
        if "schema" not in whole or not all(entry["cmd"] and isinstance(entry["outs"], list) for entry in entries):
            raise TypeError
    except (UsageError, TypeError, KeyError, AttributeError) as error:
        if "conflict" in str(error) or not good.exists():
            what = error if isinstance(error, UsageError) else "dvc.lock is not whole"
            raise UsageError(f"{what}. `git checkout dvc.lock` brings it back; without it all runs again") from None
        say("dvc.lock is gone or was cut off in the middle of a write: taking the last whole one")
        shutil.copyfile(good, lock)
    else:
        good.parent.mkdir(exist_ok=True)
        shutil.copyfile(lock, good)


def copy(profile):
    """A copy of the sources for a profile of its own, with DVC files of its own; returns its folder."""
    target = SCRATCH / "profiles" / profile
    for name in SOURCES:
        source, to = ROOT / name, target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.rmtree(to, ignore_errors=True)
            ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            shutil.copytree(source, to, ignore=ignored, copy_function=os.link if name == "data" else shutil.copy2)
        else:
            shutil.copy2(source, to)
    for name in ("datasets", ".dvcignore", "embedded"):
        link(target / name, ROOT / name)
    (target / ".dvc" / "tmp").mkdir(exist_ok=True)
    shared = os.path.relpath(ROOT / ".dvc" / "cache", target / ".dvc")
    core = "[core]\n    no_scm = true\n    analytics = false\n    check_update = false\n"
    (target / ".dvc" / "config").write_text(f"{core}[cache]\n    dir = {shared}\n")
    results = target / "results" / profile
    results.mkdir(parents=True, exist_ok=True)
    link(RESULTS / profile, results)
    return target


def commit(names: list):
    """Enter the outputs of these stages as `dvc commit -f` does, but write the lock once; `UsageError` for an unknown one."""
    from dvc.repo import Repo, lock_repo

    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        stages = [stage for stage in repo.stage.load_all() if stage.name in names]
        if missing := set(names) - {stage.name for stage in stages}:
            raise UsageError(f"dvc.yaml has no stage {', '.join(sorted(missing))}")
        for stage in stages:
            stage.save()
            stage.commit()
        stages[0].dvcfile.dump_stages(stages, update_pipeline=False)


main = command_line(commit=commit)

if __name__ == "__main__":
    sys.exit(main())
