"""What one update of every method in the digits' table costs, measured alone: milliseconds, passes, memory.

    python benchmarks/digits.py [--write] [--updates 15] [--cases kl-jko js-increments ...]

Each method trains a few updates at its settings of the profile laptop, one thread, in a process of its own. Time is the
processor's, which a busy machine disturbs less than the clock: the median over runs of as many updates as a method takes
turns in (R1 is in every fourth critic loss, a target of the explicit step lasts five updates). Passes are counted by
hooks on the networks, in batches: forward through the map, of which the frozen T_k is one too, or through the critic;
back, where a gradient of the output is taken, without the second derivatives of penalties. `networks_mb`: weights of the
networks that an update evaluates; `peak_mb`: what the process takes beyond one that has loaded the modules alone.
A method with time steps is in its second, where T_k is there; of `BY_PHASE` all are measured, `phase` 1, 2, ...

`--write` keeps all of it in conf/times.yaml, which the sheet of the digits shows. It asserts nothing.
"""

import argparse
import multiprocessing
import resource
import statistics
import sys
import time

import yaml
from torch import nn

from companion import params
from gwf.nets.transport import Composition
from gwf.paths import CONF
from gwf.training import machine, recipes, tasks
from gwf.training.settings import complete
from notebooks.experiments.trainings import REFERENCES

FILE = CONF / "times.yaml"
BY_PHASE = ("increments", "whole")
HEAD = "# Written by `python benchmarks/digits.py --write`: one thread, time of the processor; what the columns are stands there.\n"


def cases():
    """Case -> functional, step and settings of the table's methods: no variants, nothing that does not train."""
    found = params.compose("laptop")["training"]["digits"]
    return {name: case for name, case in found.items() if name.count("-") == 1 and case["step"] not in REFERENCES}


def trainer_of(functional, step, settings=None):
    """The trainer as `gwf.training.loop.run` makes it, with seed 0."""
    kind, task = recipes.get(functional, step), tasks.get("digits")
    settings = complete(kind.Settings, task.defaults, settings or {})
    device = machine.prepare("cpu", settings.threads, settings.amp)
    return kind(functional, task(0, device), settings, 0, device)


def phases_of(settings):
    """How many time steps a training has; 1 if it knows none."""
    return -(-settings.updates // min(getattr(settings, "phase", settings.updates), settings.updates))


def enter(trainer, phase):
    """Go on to the time step `phase`, from 1, without the updates before it."""
    if phase > 1:
        trainer.step = (phase - 1) * trainer.settings.phase
        trainer.prox.advance()


def networks(trainer):
    """The networks that the next updates evaluate: maps, critics."""
    T, T_k = trainer.T, getattr(getattr(trainer, "prox", None), "T_k", None)
    maps = list(T)[: trainer.index() + 1] if isinstance(T, Composition) else [getattr(T, "v", T)]
    if isinstance(T_k, nn.Module) and list(T_k.parameters()):  # neither T_0 nor the identity
        maps.append(T_k)
    return {
        "map": maps,
        "critic": list(trainer.critic) if isinstance(trainer.critic, nn.ModuleList) else [trainer.critic],
    }


def turn(settings):
    """After how many updates all of a method's have had their turn."""
    return max(getattr(settings, name, 1) for name in ("penalty_every", "persistency"))


def passes(trainer):
    """Batches per update through maps and critics, forward and `_back`, over one turn."""
    counts, hooks = {}, []

    def count(name, share):
        counts[name] += share / trainer.settings.batch / turn(trainer.settings)

    def hook(name):
        def passed(net, given, output):
            count(f"{name}_forward", len(given[0]))
            if output.requires_grad:
                output.register_hook(lambda _: count(f"{name}_back", len(given[0])))

        return passed

    for name, nets in networks(trainer).items():
        counts |= {f"{name}_forward": 0.0, f"{name}_back": 0.0}
        hooks += [net.register_forward_hook(hook(name)) for net in nets]
    for _ in range(turn(trainer.settings)):
        trainer.update()
    for handle in hooks:
        handle.remove()
    return {name: round(count, 4) for name, count in counts.items()}


def resident():
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def measure(name, case, phase, updates):
    """A row of the table, and seconds of processor and clock: of one case, (functional, step, settings), in one phase, so many updates."""
    before = resident()
    trainer = trainer_of(**case)
    known = phase or min(2, phases_of(trainer.settings))
    enter(trainer, known)
    nets = [net for nets in networks(trainer).values() for net in nets]
    held = sum(w.numel() * w.element_size() for net in nets for w in net.parameters())
    counts, each, runs = passes(trainer), turn(trainer.settings), []
    began = time.perf_counter(), time.process_time()
    for _ in range(-(-updates // each)):
        start = time.process_time()
        for _ in range(each):
            trainer.update()
        runs.append(time.process_time() - start)
    spent = time.process_time() - began[1], time.perf_counter() - began[0]
    row = {"case": name, "phase": phase, "batch": trainer.settings.batch}
    row |= {"ms": round(1000 * statistics.median(runs) / each, 2), **counts}
    return row | {"networks_mb": round(held / 2**20, 3), "peak_mb": round(resident() - before, 1)}, spent


def jobs(chosen, updates):
    """What is measured: every case once, those of `BY_PHASE` in each phase."""
    for name, case in chosen.items():
        case = {key: case.get(key) for key in ("functional", "step", "settings")}
        settings = complete(recipes.get(case["functional"], case["step"]).Settings, {}, case["settings"] or {})
        phases = range(1, phases_of(settings) + 1) if case["step"] in BY_PHASE else [None]
        yield from ((name, case, phase, updates) for phase in phases)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="keep it in conf/times.yaml")
    parser.add_argument("--cases", nargs="+", choices=(known := cases()), metavar="CASE", help="default: all")
    parser.add_argument("--updates", type=int, default=15, help="timed updates, at least")
    asked = parser.parse_args()
    if asked.write and asked.cases:
        parser.error("conf/times.yaml has all cases: --write and --cases exclude each other")
    if asked.updates < 1:
        parser.error(f"updates = {asked.updates} must be at least 1")
    about = {name: str(value) for name, value in machine.description().items()}
    print(f"{about['cpu']}, torch {about['torch']}, one thread; passes forward + back, in batches, per update\n")
    print(f"{'case':>24} phase       ms           map        critic  networks    peak MB")
    rows, alone, clock, chosen = [], 0.0, 0.0, {name: known[name] for name in asked.cases or known}
    # A forked process has the modules already; elsewhere than on Linux it would have half a system library.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    for job in jobs(chosen, asked.updates):
        with context.Pool(1) as pool:
            row, (processor, wall) = pool.apply(measure, job)
        rows, alone, clock = [*rows, row], alone + processor, clock + wall
        ways = [f"{row[name + '_forward']:.5g} + {row[name + '_back']:.5g}" for name in ("map", "critic")]
        print(
            f"{row['case']:>24} {row['phase'] or '':>5} {row['ms']:8.1f} {ways[0]:>13} {ways[1]:>13} "
            f"{row['networks_mb']:9.2f} {row['peak_mb']:10.0f}",
            flush=True,
        )
    print(f"\nThe updates had {alone / clock:.0%} of a processor.")
    if asked.write:
        text = yaml.safe_dump({"machine": about, "rows": rows}, sort_keys=False, default_flow_style=None, width=200)
        FILE.write_text(HEAD + text, encoding="utf-8")
        print(f"Written: {FILE}")


if __name__ == "__main__":
    main()
