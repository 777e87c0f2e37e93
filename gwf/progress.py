"""Progress of a long loop: lines for the runner to show, or a bar on stderr. Never on stdout."""

import contextlib
import os
import sys
import time

from tqdm import tqdm

INTERVAL = 2.0


def clock(seconds):
    """Duration as `mm:ss`, or `h:mm:ss` from one hour on; `seconds` >= 0."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def number(value):
    """Short text of a number: three significant digits, integers in full; a word stays as it is."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) else f"{float(value):.3g}"


class Progress:
    """Show how far a loop of `total` steps is, as a context manager.

    If the environment variable `GWF_PROGRESS` names a file, or is "stderr", one plain line is appended at most every
    two seconds, and always at the last step; the runner (`companion.notebooks`) shows it. Otherwise a `tqdm` bar is
    drawn on stderr. Standard output stays untouched, so that a notebook keeps the same bytes. `label` says what runs;
    the steps before `start` were done before this process, in a loop that resumes, and do not count for the time left.

    Examples
    --------
    >>> with Progress(5000, "kl-jko digits seed 0") as progress:           # doctest: +SKIP
    ...     for step in range(1, 5001):
    ...         progress.update(step, critic_loss=0.31)
    """

    def __init__(self, total, label, start=0):
        self.total, self.label, self.start = int(total), label, int(start)
        self.file = os.environ.get("GWF_PROGRESS") or None
        self.bar = None
        self.numbers = {}

    def __enter__(self):
        self.began = time.monotonic()
        self.written = -INTERVAL
        if self.file is None:
            self.bar = tqdm(total=self.total, desc=self.label, file=sys.stderr, initial=self.start, mininterval=0.5)
        return self

    def __exit__(self, *exception):
        if self.bar is not None:
            self.bar.close()

    def update(self, step, **numbers):
        """Say that `step` steps are done; `numbers` (losses, metrics) stay shown until given again.

        A tensor is turned into a number only when a line is written, so a call costs a few microseconds.
        """
        self.numbers.update(numbers)
        if self.bar is not None:
            if time.monotonic() - self.written >= INTERVAL or step >= self.total:
                self.written = time.monotonic()
                self.bar.set_postfix({k: number(v) for k, v in self.numbers.items()}, refresh=False)
            self.bar.update(step - self.bar.n)
            return
        elapsed = time.monotonic() - self.began
        if elapsed - self.written < INTERVAL and step < self.total:
            return
        self.written = elapsed
        with contextlib.nullcontext(sys.stderr) if self.file == "stderr" else open(self.file, "a") as file:
            file.write(self.line(step, elapsed) + "\n")

    def line(self, step, elapsed):
        """The line shown after `step` steps and `elapsed` seconds."""
        parts = [f"{self.label}: step {step}/{self.total}"]
        parts += [f"{name} {number(value)}" for name, value in self.numbers.items()]
        if step > self.start:
            parts.append(f"{clock(elapsed / (step - self.start) * (self.total - step))} left")
        return ", ".join(parts)


class follow:
    """A callable `(done, total, **shown)` that shows how far a computation is, named `label`; it ends with the last step.

    With `patience`, in seconds, it shows nothing in a loop that looks like being over within that time.
    """

    def __init__(self, label, patience=0.0):
        self.label, self.patience, self.progress, self.began = label, patience, None, time.monotonic()

    def __call__(self, done, total, **shown):
        if self.progress is None or self.progress.total != int(total):
            elapsed = time.monotonic() - self.began
            if self.patience and (elapsed < self.patience / 10 or elapsed * total < self.patience * done):
                return
            self.progress = Progress(total, self.label).__enter__()
        self.progress.update(done, **shown)
        if done >= total:
            self.progress.__exit__(None, None, None)
            self.progress = None
