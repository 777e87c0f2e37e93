"""What a killed DVC leaves in pieces is made whole, and what a living one uses is left alone."""

import json
import os
import subprocess
import sys
import time

import pytest

from gwf import mend

WHOLE = """schema: '2.0'
stages:
  lenet:
    cmd: python -m companion.notebooks run
    outs:
    - path: a
      md5: 0123456789abcdef0123456789abcdef
  page:
    cmd: python -m gwf.page
    outs:
    - path: b
      md5: 0123456789abcdef0123456789abcdef
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    for name in ("LOCK", "GOOD", "RWLOCK"):
        monkeypatch.setattr(mend, name, tmp_path / name)
    return tmp_path


# In the empty file, in the head, between the stages, inside one.
CUTS = [0, 10, WHOLE.index("  lenet"), WHOLE.index("    outs"), len(WHOLE) - 70]


@pytest.mark.parametrize("length", CUTS)
def test_a_lock_cut_off_goes_back_to_the_last_whole_one(places, length):
    mend.LOCK.write_text(WHOLE)
    mend.keep()
    mend.LOCK.write_text(WHOLE[:length])
    mend.keep()
    mend.mend()
    assert mend.LOCK.read_text() == WHOLE


def test_a_lock_cut_off_without_a_copy_is_removed(places):
    mend.LOCK.write_text(WHOLE[:40])
    mend.mend()
    assert not mend.LOCK.exists()


def test_a_whole_lock_is_left_alone(places):
    mend.LOCK.write_text(WHOLE)
    mend.mend()
    assert mend.LOCK.read_text() == WHOLE


def held_by(pid):
    entry = {"pid": pid, "cmd": "repro"}
    return json.dumps({"write": {"a": entry}, "read": {"b": [entry]}})


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"write": 3}', held_by(2**22 - 1), held_by(os.getpid())],
    # Without the number of this process, by which two processes of pytest would disagree.
    ids=["empty", "cut off", "not a table", "dead", "alive but not DVC"],
)
def test_an_entry_of_no_living_dvc_blocks_nothing(places, content):
    # The process of the tests lives but is not DVC: numbers of processes are given again.
    mend.RWLOCK.write_text(content)
    mend.mend()
    assert not mend.RWLOCK.exists()


def test_a_living_dvc_keeps_its_entry(places):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "dvc"])
    try:
        end = time.monotonic() + 10
        while not mend.is_dvc(process.pid) and time.monotonic() < end:
            time.sleep(0.05)
        mend.RWLOCK.write_text(held_by(process.pid))
        mend.mend()
        assert mend.RWLOCK.exists()
    finally:
        process.kill()
        process.wait()
