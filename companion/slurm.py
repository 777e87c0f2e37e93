"""Stages as jobs of a Slurm cluster, through submitit, on a file system that all its machines share.

conf/engine.yaml says partition, minutes and GPUs by kind of stage. A job runs the stage's own command. One that is
preempted or runs out of time is queued again by submitit, one that is killed is submitted again here; training goes on
from its checkpoint. Without Slurm, submitit's local executor stands in (`cluster: local`): how this is tested.
"""

import logging
import subprocess
from pathlib import Path

import submitit

from companion.engines import environment
from companion.files import read_file
from gwf.errors import nearest
from gwf.paths import CONF, ROOT, SCRATCH

# Without accounting on the cluster it warns at every look.
logging.getLogger("submitit").setLevel(logging.ERROR)
#: How often a job that ended without a word is submitted again.
AGAIN = 2
KNOWN = {"cluster", "partition", "minutes", "gpus", "cpus", "memory_gb", "more"}


def settings(kind, path=CONF / "engine.yaml"):
    """Settings of the jobs of one kind of stage: what `all` says, and the kind's own; `UsageError` on a misspelt one."""
    given = read_file(path)
    found = {**(given.get("all") or {}), **(given.get(kind) or {})}
    for name in found:
        nearest(name, KNOWN, "setting of conf/engine.yaml")
    return found


class Command:
    """What a job does: the stage's command, in the root of the repository."""

    def __init__(self, cmd):
        self.cmd = cmd

    def __call__(self):
        """Run it; raises if it fails."""
        # The driver is on another machine: its death cannot be watched from here.
        kept = {name: value for name, value in environment().items() if name != "GWF_DRIVER"}
        subprocess.run(self.cmd, shell=True, check=True, cwd=ROOT, env=kept, stderr=subprocess.STDOUT)

    def checkpoint(self):
        """Called when the job is preempted: the same command goes on from what it has kept."""
        return submitit.helpers.DelayedSubmission(Command(self.cmd))


class Slurm:
    """The engine: a callable stage -> `Job`."""

    def __call__(self, stage):
        """Submit a stage."""
        chosen = settings(stage.kind)
        executor = submitit.AutoExecutor(folder=SCRATCH / "jobs" / "%j", cluster=chosen.get("cluster"))
        executor.update_parameters(
            name=stage.name.replace("@", "-"),
            timeout_min=chosen.get("minutes", 60),
            cpus_per_task=chosen.get("cpus", 1),
            gpus_per_node=chosen.get("gpus", 0),
            **({"mem_gb": chosen["memory_gb"]} if "memory_gb" in chosen else {}),
            **({"slurm_partition": chosen["partition"]} if "partition" in chosen else {}),
            slurm_additional_parameters=chosen.get("more", {}),
        )
        return Job(executor, Command(stage.cmd))


class Job:
    """A submitted stage; see `companion.engines` for what a job has."""

    def __init__(self, executor, command):
        self.executor, self.command, self.submitted, self.read, self.status = executor, command, 0, 0, None
        self.submit()

    def submit(self):
        """Hand it to the queue."""
        self.job, self.read = self.executor.submit(self.command), 0
        self.submitted += 1

    def done(self):
        """Whether it has ended; one that was killed is submitted again."""
        if not self.job.done():
            return False
        try:
            failed = self.job.exception()
        except submitit.core.utils.UncompletedJobError as error:
            failed = error
        if isinstance(failed, submitit.core.utils.UncompletedJobError) and self.submitted <= AGAIN:
            self.submit()
            return False
        self.status = int(failed is not None)
        return True

    def said(self):
        """Lines printed since the last call."""
        path = Path(self.job.paths.stdout)
        if not path.exists():
            return []
        with open(path, errors="replace") as file:
            file.seek(self.read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self.read += len(whole.encode(errors="replace"))
        return [line for line in whole.splitlines() if not line.startswith("submitit ")]

    def stop(self):
        """Cancel it."""
        self.job.cancel()
