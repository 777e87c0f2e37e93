"""A user's slip is answered in one line that names its cause: the file, the parameter, or what a tool said."""

import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch

from companion import claims, code, driver, engines, files, form, ledger, notebooks, params, workspace
from companion.form import source
from companion.guard import command_line
from gwf.errors import UsageError, in_range, real, whole
from gwf.paths import CONF, NOTEBOOKS, ROOT, replace

MARKS = "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> theirs\n"
PACKAGE = "# @package _global_\n"
MINE = f"{PACKAGE}defaults: [laptop, _self_]\nprofile: mine\n"


@pytest.fixture
def error(capsys):
    """Runs a `main` that must fail; returns its one line."""

    def run(main, *arguments):
        assert main([str(argument) for argument in arguments]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1, said
        return said

    return run


@pytest.fixture
def conf(tmp_path, monkeypatch):
    """A copy of conf/ to break, which everything reads instead; params.yaml is not written."""
    shutil.copytree(CONF, tmp_path / "conf")
    for module in (params, claims):
        monkeypatch.setattr(module, "CONF", tmp_path / "conf")
    monkeypatch.setattr(params, "write", lambda composed: True)
    return tmp_path / "conf"


# Files.


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.yaml", MARKS, "a.yaml is damaged: git left the marks of a conflict in line 1"),
        ("a.yaml", "a: |\n  b\n>>>>>>> theirs\n", "conflict in line 3"),
        ("a.yaml", "a: 1\nb: [", "a.yaml is damaged: .* in line [23]"),
        ("a.lock", "a: {b", "a.lock is damaged"),
        ("a.json", '{"a": ', "a.json is damaged: .* line 1"),
        ("a.json", "", "a.json is damaged"),
        ("a.csv", "", "a.csv is damaged: No columns"),
        ("a.csv", "a,b\n1,2\n1,2,3\n", "a.csv is damaged: .* line 3"),
        ("a.csv", "a\n" + MARKS, "conflict in line 2"),
        ("a.csv", "a,b\n1,2\n3,4.", "a.csv is damaged: it breaks off"),
        ("a.csv", b"a\n\xff\xfe\x00", "a.csv is damaged: .* position 2"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError, match=message) as caught:
        files.read_file(path)
    assert "\n" not in str(caught.value) and "unicode string" not in str(caught.value)


def test_an_absent_file_is_said_to_be_absent(tmp_path):
    with pytest.raises(UsageError, match="there is no .*a.csv"):
        files.read_file(tmp_path / "a.csv")


@pytest.mark.parametrize("name, text", [("a.ipynb", "[]"), ("a.ipynb", "{}"), ("a.md", "# Title"), ("a.ipynb", "{")])
def test_what_is_no_notebook(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=rf"{name} is (not a notebook|damaged)"):
        form.load(tmp_path / name)


@pytest.mark.parametrize("text, value", [("1e-3", 1e-3), ("-2.5E4", -2.5e4), ("1.0e-3", 1e-3), ("'1e-3'", "1e-3")])
def test_a_rate_may_be_written_without_a_point(tmp_path, text, value):
    """YAML 1.1 takes 1e-3 for a word; a hash that looks like a number stays one."""
    md5 = "1234567e123456789012345678901234"
    (tmp_path / "a.yaml").write_text(f"rate: {text}\nmd5: {md5}\n")
    assert files.read_file(tmp_path / "a.yaml") == {"rate": value, "md5": md5}


# Numbers.


@pytest.mark.parametrize("value", [2.5, -1, 0, True, "3", None, float("nan"), np.float64(3), np.bool_(True)])
def test_a_count_is_a_whole_number(value):
    with pytest.raises(UsageError, match="batch = "):
        whole(value, 1, 10, "batch")
    assert whole(np.int64(3), 1, 10, "batch") == 3


@pytest.mark.parametrize(
    "value, message",
    [
        ("1e-3", "'1e-3' is not a number"),
        (True, "not a number"),
        (np.bool_(True), "not a number"),
        (-1, "out of range"),
        (None, "number"),
        (0.5j, "number"),
        (np.array([0.1, 0.2]), "number"),
        (np.zeros((30, 30)), "number"),
        (torch.tensor([0.1, 0.2]), "number"),
        (np.array(["0.1"]), "number"),
        (np.float64("nan"), "out of range"),
    ],
)
def test_a_rate_is_a_number_in_its_range(value, message):
    with pytest.raises(UsageError, match=f"^lr = .*{message}[^\n]*$"):
        in_range(value, 0, 1, "lr")
    for number in (0.5, np.float32(0.5), np.array(0.5), torch.tensor([0.5]), Fraction(1, 2), 1):
        assert in_range(number, 0, 1, "lr") is number


@pytest.mark.parametrize(
    "values",
    ["3", None, [1.0, None], [[1.0], [1.0, 2.0]], [1j], [np.nan], [-1.0, 2.0], [2.0, np.inf], torch.ones(2) * 1j],
)
def test_an_array_is_of_real_numbers_in_their_range(values):
    with pytest.raises(UsageError, match="^R [^\n]*$"):
        real(values, "R", 0)
    for good in ([], 1, [[0, 2]], torch.ones(3)):
        assert real(good, "R", 0).dtype == np.float64 and real(good, "R", 0).shape == np.shape(good)


# Parameters.


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "arguments are required: profile"),
        (["laptop", "--fast"], "unrecognized arguments: --fast"),
        (["laptop", "experiments.porous.porous_d2.K=2.5"], "K = 2.5"),
        (
            ["laptop", "experiments.porous.porous_d2.K=-1"],
            "K of porous.ipynb (experiments.porous.porous_d2) = -1 is out of range",
        ),
        (["laptop", "experiments.porous.porous_d2.K=True"], "K = True"),
        (["laptop", "experiments.porous=3"], "experiments.porous = 3 must be a group"),
        (["laptop", "experiments.porous.porous_d2.lr_mapp=1e-3"], "'lr_mapp': did you mean 'lr_map'"),
        (["laptop", "experiments.porous.porous_d2.lr_map=fast"], "lr_map = 'fast'"),
        (["laptop", "experiments.porous.porous_d9.K=3"], "no case 'porous_d9' of porous"),
        (["laptop", "training.digits.kl-jko.settings.batch=0"], "batch"),
        (
            ["laptop", "training.digits.kl-jko.batch=64"],
            "training.digits.kl-jko; a method's own are under `settings`) 'batch'. Valid: ",
        ),
        (["laptop", ""], "expecting"),
        (["laptop", "experiments=3"], "experiments = 3 must be a group"),
        (["laptop", "chapters=al"], "chapters = 'al' must be 'all' or a list"),
        (["laptop", "seeds=3"], "seeds = 3 must be a list"),
        (["laptop", "seeds=1,2"], "key=[value1,value2]"),
        (["laptop", "seeds_of=3"], "seeds_of = 3 must be a group"),
        (["laptop", "also=3"], "also = 3 must be a group"),
        (["laptop", "profile=smoke"], "the line 'profile: laptop'"),
        (["laptop", "report=${nope}"], "nope"),
    ],
)
def test_a_wrong_override_is_named(conf, error, arguments, message):
    assert message in error(params.main, *arguments)


@pytest.mark.parametrize(
    "file, text, message",
    [
        ("profile/mine.yaml", MARKS, "mine.yaml is damaged: git left the marks of a conflict in line 1"),
        ("profile/mine.yaml", "profile: [\n", "mine.yaml is damaged"),
        ("profile/laptop.yaml", "seeds: [0\n", "laptop.yaml is damaged"),  # mine builds on it
        ("profile/mine.yaml", b"\xff\xfe", "mine.yaml is damaged"),
        ("profile/mine.yaml", "defaults: [laptop, _self_]\nseeds: [0]\n", "'# @package _global_'"),
        ("profile/mine.yaml", f"{PACKAGE}defaults: [laptop, _self_]\n", "the line 'profile: mine'"),
        ("profile/mine.yaml", f"{MINE}experiments: [porous]\n", "Cannot merge DictConfig with ListConfig"),
        ("profile/mine.yaml", f"{MINE}seeds: 0\n", "seeds = 0 must be a list"),
        ("config.yaml", None, "there is no"),
        ("config.yaml", MARKS, "config.yaml is damaged"),
    ],
)
def test_a_broken_profile_is_named(conf, error, file, text, message):
    (conf / "profile" / "mine.yaml").write_text(MINE)
    if text is None:
        (conf / file).unlink()
    else:
        (conf / file).write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in error(params.main, "mine")


def test_a_profile_may_write_a_rate_without_a_point(conf):
    (conf / "profile" / "mine.yaml").write_text(MINE + "experiments: {porous: {porous_d2: {tau: 1e-3}}}\n")
    assert params.compose("mine")["experiments"]["porous"]["porous_d2"]["tau"] == 1e-3


def test_a_training_without_method_has_the_notebooks_own(conf):
    composed = params.compose("laptop", ["~training.digits.kl-jko.functional"])
    assert "functional" not in composed["training"]["digits"]["kl-jko"]
    params.check_training(composed)


@pytest.mark.parametrize("text", [MARKS, "null\n", "profile: laptop\n", "[1]\n", "profile: [\n", None])
def test_a_broken_params_yaml_is_named_with_what_writes_it(tmp_path, text):
    if text is not None:
        (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UsageError, match="companion.params laptop` composes params.yaml") as caught:
        params.read(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)


def test_a_broken_notebook_is_not_mended_by_other_parameters(monkeypatch):
    monkeypatch.setattr(params, "validate", lambda content: files.read_file(ROOT / "gone.ipynb"))
    with pytest.raises(UsageError, match="there is no .*gone.ipynb$"):
        params.read()


# Notebooks.


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["run", "porous", "porous_d2", "x"], "seed: invalid int value: 'x'"),
        (["run", "porous", "porous_d2", "7"], "seed 7 of porous_d2 is not in params.yaml, which has 0, 1, 2"),
        (["run", "porous", "porous_d2", "-1"], "seed -1 of porous_d2 is not in params.yaml"),
        (["run", "porous", "porous_d2"], "required: seed"),
        (["known", "digits", "kl-jko", "-1"], "seed -1 of kl-jko is not in params.yaml"),
        (["known", "digit", "kl-jko", "0"], "did you mean 'digits'"),
        (["run", "poruos", "porous_d2", "0"], "did you mean 'porous'"),
        (["run", "porous", "porous_d22", "0"], "did you mean 'porous_d2'"),
        (["run", "digits", "kl-jk0", "0"], "did you mean 'kl-jko'"),
        (["train", "digit", "kl-jko", "0"], "did you mean 'digits'"),
        (["train", "digits", "kl-jko", "9"], "seed 9 of kl-jko"),
        (["train", "porous", "porous_d2", "0"], "unknown experiment or data set in params.yaml 'porous'"),
        (["show", "poruos"], "did you mean 'porous'"),
        (["show", "train"], "unknown experiment or chapter"),
        (["shwo", "porous"], "invalid choice: 'shwo'"),
        (["refresh", "README.md"], "README.md is not a notebook"),
        (["refresh", "notebooks"], "notebooks is not a notebook"),
        (["refresh", "notebooks/chapters/00.ipynb"], "there is no notebooks/chapters/00.ipynb"),
    ],
)
def test_a_wrong_run_stops_before_anything_runs(error, monkeypatch, arguments, message):
    monkeypatch.setattr("papermill.execute_notebook", lambda *given, **more: pytest.fail("it runs"))
    assert message in error(notebooks.main, *arguments)


def test_a_damaged_table_is_named_before_anything_runs_or_goes(tmp_path, error, monkeypatch):
    for name in ("ROOT", "RESULTS"):
        monkeypatch.setattr(notebooks, name, tmp_path / name)
    table = tmp_path / "RESULTS" / "laptop" / "porous" / "porous_d2-0" / "table.csv"
    sheet = tmp_path / "ROOT" / "report" / "sheets" / "porous" / "shown.json"
    for path in (table, sheet):
        path.parent.mkdir(parents=True)
        path.write_text("")
    assert "table.csv is damaged" in error(notebooks.main, "show", "porous") and sheet.exists()
    table.write_text("d,t\n")
    assert "table.csv is damaged: it has no rows" in error(notebooks.main, "show", "porous") and sheet.exists()


def test_a_notebook_run_by_hand_looks_at_its_parameters():
    typed = "profile = 'lab'"
    known = form.parameters_of(form.path_of("porous")) | {"In": ["", typed], "KK": 2}
    form.check("porous", known)  # KK is a name of the user's own
    form.check("porous", form.parameters_of(form.path_of("porous")))  # as a script, outside of Jupyter
    with pytest.raises(UsageError, match="K of porous.ipynb = -2 is out of range"):
        form.check("porous", known | {"K": -2})
    with pytest.raises(UsageError, match="'KK': did you mean 'K'"):
        form.check("porous", known | {"In": ["", typed, "# Parameters\nKK = 2\n"]})


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("**/*.ipynb")), ids=lambda path: path.stem)
def test_every_notebook_looks_before_anything_runs(path):
    texts = [source(cell) for cell in form.cells(path)]
    stages = [i for i, cell in enumerate(form.cells(path)) if form.tags(cell) & {"run", "show"}]
    if path.stem not in ("train", "index"):  # these have a check in the library, and no parameters
        assert f'check("{path.stem}", vars())' in texts[: min(stages, default=3)]


# What stages compute with.


@pytest.mark.parametrize(
    "text, message",
    [
        (MARKS, "vwgf.yaml is damaged: git left the marks"),
        ("claims: [", "vwgf.yaml is damaged"),
        ("claims: 3", "vwgf.yaml must have"),
        ("key: vwgf\npaper: P\nclaims: [3]", "vwgf.yaml must have"),
        (None, "there is no"),
    ],
)
def test_a_broken_file_of_claims_is_named(conf, error, text, message, tmp_path):
    claims.read.cache_clear()
    path = conf / "claims" / "vwgf.yaml"
    path.unlink() if text is None else path.write_text(text)
    assert message in error(ledger.main, "write", "laptop", tmp_path)
    claims.read.cache_clear()


def test_python_that_is_none_is_named_with_its_line():
    with pytest.raises(UsageError, match="gwf.bounds, line 2: this is no Python"):
        code.Module("gwf.bounds", "a = 1\n<<<<<<< HEAD\n")


# The report.

HEADER = "id,paper,claim,value,verdict,control_verdict\n"


@pytest.mark.parametrize(
    "table, message",
    [
        (None, "there is no"),
        ("", "claims.csv is damaged"),
        ("a,b\n1,2\n", "claims.csv has no claims"),
        (HEADER, "claims.csv has no claims"),
        (HEADER + MARKS, "claims.csv is damaged: git left"),
        (b"\xff\xfe\x00", "claims.csv is damaged"),
    ],
)
def test_a_damaged_ledger_is_named_with_what_makes_it(tmp_path, error, table, message):
    if table is not None:
        (tmp_path / "claims.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    said = error(ledger.main, "print", tmp_path)
    assert message in said and said.rstrip().endswith("Make it with: make reproduce")


def test_a_ledger_older_than_the_claims_is_made_anew_and_not_taken_from_git(error, monkeypatch):
    monkeypatch.setattr(claims, "read", dict)
    assert error(ledger.main, "print", "report").rstrip().endswith("other claims. Make it with: make reproduce")


def test_the_profile_of_a_ledger_is_looked_at(error):
    assert "unknown profile 'smok': did you mean 'smoke'" in error(ledger.main, "print", "results/smok/report")
    assert "unknown profile 'laptpo'" in error(ledger.main, "write", "laptpo", "report")


@pytest.mark.parametrize("name", ["claims.json", "shown.json"])
def test_a_damaged_sheet_is_named(tmp_path, error, name):
    shutil.copytree(ROOT / "report", tmp_path / "report", ignore=shutil.ignore_patterns("*.png", "*.pdf"))
    (tmp_path / "report" / "sheets" / "porous" / name).write_text("[")
    assert f"porous/{name} is damaged" in error(ledger.main, "write", "laptop", tmp_path / "report")


def test_a_report_is_found_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert ledger.main(["print", "report"]) == 0
    assert "verdicts were turned by their control, " in " ".join(
        capsys.readouterr().out.split()
    )  # its lines are folded


# The pipeline.


@pytest.fixture
def lock(tmp_path, monkeypatch):
    for name, folder in (("ROOT", tmp_path), ("SCRATCH", tmp_path / "scratch")):
        for module in (driver, workspace):
            monkeypatch.setattr(module, name, folder)
    return tmp_path / "dvc.lock"


WHOLE = "schema: '2.0'\nstages:\n  page:\n    cmd: c\n    outs:\n    - path: p\n"


@pytest.mark.parametrize("text", ["", "stages: 3", "stages: {a: null}", WHOLE[:-18], "{", b"\xff\x00"])
def test_a_cut_lock_is_replaced_by_the_last_whole_one_or_named(lock, text, capsys):
    broken = text if isinstance(text, bytes) else text.encode()
    lock.write_bytes(broken)
    with pytest.raises(UsageError, match="dvc.lock is .*git checkout dvc.lock"):
        workspace.mend()
    lock.write_text(WHOLE)
    workspace.mend()
    lock.write_bytes(broken)
    workspace.mend()
    assert lock.read_text() == WHOLE and "cut off" in capsys.readouterr().out


def test_a_lock_that_is_gone_is_the_last_whole_one(lock):
    workspace.mend()
    assert "stages: {}" in lock.read_text()  # there never was one
    lock.write_text(WHOLE)
    workspace.mend()
    lock.unlink()
    workspace.mend()
    assert lock.read_text() == WHOLE


def test_a_conflict_in_the_lock_is_the_users_to_settle(lock):
    lock.write_text(WHOLE)
    workspace.mend()
    lock.write_text(WHOLE + MARKS)
    with pytest.raises(UsageError, match="marks of a conflict in line 7.*git checkout dvc.lock"):
        workspace.mend()
    assert lock.read_text() == WHOLE + MARKS


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["laptop", "--jobs", "2.5"], "invalid int value: '2.5'"),
        (["laptop", "--jobs=-1"], "jobs = -1 is out of range"),
        (["laptop", "--jobs", "²"], "invalid int value: '²'"),
        (["laptop", "--minutes", "nan"], "minutes = nan is out of range"),
        (["laptop", "--engine", "slurn"], "did you mean 'slurm'"),
        (["laptop", "smoke"], "unrecognized arguments: smoke"),
        (["laptop", "--all", "--reuse"], "choose one"),
        (["laptop", "--claim", ""], "no claim ''"),
        (["laptop", "--claim", "w2fe-C22"], "did you mean 'w2fe-C2'"),
        (["laptop", "--claim", "w2fe-C2, vwgf-X"], "no claim 'vwgf-X'"),
    ],
)
def test_a_wrong_command_line_is_one_line(error, arguments, message):
    assert message in error(driver.main, *arguments)


def test_what_scratch_keeps_may_be_damaged(lock):
    for file in ("ran.json", "costs/laptop.json"):
        (driver.SCRATCH / file).parent.mkdir(parents=True, exist_ok=True)
        (driver.SCRATCH / file).write_text('["a", ')
    assert driver.marks() == set() and driver.kept(driver.SCRATCH / "costs" / "laptop.json", {}) == {}


def test_a_tool_that_fails_is_quoted():
    with pytest.raises(UsageError, match=r"the tool: .*No module named gwf\.nothing$"):
        engines.python("the tool", "gwf.nothing")


# The command line as such.


def test_what_the_system_refuses_is_one_line(error, tmp_path):
    def write():
        (tmp_path / "nowhere" / "file").write_text("")

    assert error(command_line(main=write)) == f"error: {tmp_path / 'nowhere' / 'file'}: No such file or directory\n"


@pytest.mark.parametrize("module", ["driver", "notebooks", "params"])
def test_a_python_without_the_packages_is_told_what_to_use(module):
    bare = [sys.executable, "-S", "-m", f"companion.{module}", "laptop"]
    done = subprocess.run(bare, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: this Python has no torch, pandas, ") and "use make" in done.stderr


@pytest.mark.parametrize("command", ["gwf.data", "companion.ledger print report"])
def test_a_closed_pipe_is_no_error(command):
    words = [sys.executable, "-m", *command.split()]
    piped = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    piped.stdout.close()
    assert (piped.stderr.read(), piped.wait()) == ("", 0)


def make(*words, folder=ROOT):
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True)


def test_words_for_make_reach_the_command_as_they_are():
    said = make("-n", "plan", "PROFILE=it's $$HOME", "JOBS=-1", "MINUTES=a b", "REUSE=0", "ALL=no").stdout
    assert "companion.driver 'it'\\''s $HOME' --engine='local' --jobs='-1' --minutes='a b'" in said
    for name in ("all", "reuse"):
        assert f"--{name}" not in said and f"--{name}" in make("-n", "plan", f"{name.upper()}=1").stdout


def test_make_in_another_folder_says_so(tmp_path):
    done = make("-n", "-f", str(ROOT / "Makefile"), "plan", folder=tmp_path)
    assert done.returncode and done.stderr.count("\n") == 1 and "make -C" in done.stderr


def test_git_gives_the_same_bytes_everywhere():
    shown = subprocess.run(
        ["git", "check-attr", "text", "--", "dvc.lock", "README.md", "data.dvc", "report/claims.csv"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.count("text: unset") == 4


def test_a_file_is_as_readable_as_its_folder(tmp_path):
    def for_me_alone(path):
        path.write_text("")
        path.chmod(0o600)

    for folder, file in ((0o755, 0o644), (0o700, 0o600)):
        tmp_path.chmod(folder)
        replace(tmp_path / "file", for_me_alone)
        assert (tmp_path / "file").stat().st_mode & 0o777 == file


def test_a_link_stands_when_the_folder_is_moved(tmp_path):
    (tmp_path / "a" / "target").mkdir(parents=True)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "gone")
    files.link(tmp_path / "a" / "link", tmp_path / "a" / "target")
    (tmp_path / "a").rename(tmp_path / "b")
    assert (tmp_path / "b" / "link").is_dir()
