"""Stages as jobs of a Slurm cluster, through submitit, on a file system that all its machines share.

conf/engine.yaml says partition, minutes and GPUs by kind of stage. A job runs the stage's own command. One that is
preempted or runs out of time is queued again by submitit, one that is killed is submitted again here; training goes on
from its checkpoint. Without Slurm, submitit's local executor stands in (`cluster: local`): how this is tested.
"""

import logging
import subprocess
from pathlib import Path

import submitit

from companion.engines import Job, environment
from companion.files import read_file
from gwf.errors import nearest
from gwf.paths import CONF, ROOT, SCRATCH

# Without accounting on the cluster it warns at every look.
logging.getLogger("submitit").setLevel(logging.ERROR)
#: How often a job that ended without a word is submitted again.
AGAIN = 2
#: Setting of conf/engine.yaml -> what submitit calls it; `cluster` besides.
NAMES = {"partition": "slurm_partition", "minutes": "timeout_min", "gpus": "gpus_per_node", "cpus": "cpus_per_task"}
NAMES |= {"memory_gb": "mem_gb", "more": "slurm_additional_parameters"}


def settings(kind, path=CONF / "engine.yaml"):
    """Settings of the jobs of one kind of stage: those of `all`, and its own; `UsageError` on a misspelt one."""
    given = read_file(path)
    found = (given.get("all") or {}) | (given.get(kind) or {})
    for name in found:
        nearest(name, {"cluster", *NAMES}, "setting of conf/engine.yaml")
    return found


class Command(submitit.helpers.Checkpointable):
    """What a job does; when it is preempted, the same command goes on from what it has kept."""

    def __call__(self, cmd):
        """Run a stage's command in the root of the repository; raises if it fails."""
        subprocess.run(cmd, shell=True, check=True, cwd=ROOT, env=environment(), stderr=subprocess.STDOUT)


class Queued(Job):
    """A stage as a job of the queue; one that is killed is submitted again."""

    submitted = 0

    def start(self):
        """Hand it to the queue."""
        chosen = settings(self.stage.kind)
        executor = submitit.AutoExecutor(folder=SCRATCH / "jobs" / "%j", cluster=chosen.pop("cluster", None))
        named = {"name": self.stage.name.replace("@", "-"), "timeout_min": 60}
        executor.update_parameters(**named | {NAMES[key]: value for key, value in chosen.items()})
        self.job, self.read = executor.submit(Command(), self.stage.cmd), 0
        self.submitted, self.log = self.submitted + 1, Path(self.job.paths.stdout)

    def status(self):
        """Exit status, None while it runs or waits."""
        if not self.job.done():
            return None
        try:
            failed = self.job.exception()
        except submitit.core.utils.UncompletedJobError as error:
            failed = error
        if isinstance(failed, submitit.core.utils.UncompletedJobError) and self.submitted <= AGAIN:
            return self.start()
        return int(failed is not None)

    def said(self):
        """Whole lines of the stage itself printed since the last call."""
        return [line for line in super().said() if not line.startswith("submitit ")]

    def stop(self):
        """Cancel it."""
        self.job.cancel()
