"""Enter the outputs of stages into dvc.lock and DVC's cache: `dvc commit -f`, which writes the lock anew for every stage, once.

python -m companion.commit show@porous show@ring
"""

import sys

from dvc.repo import Repo, lock_repo

from companion.guard import command_line
from gwf.errors import UsageError


def commit(names: list):
    """The stages of dvc.yaml called `names`, as they are on disk; `UsageError` for one that is not there."""
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
