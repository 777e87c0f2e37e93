# make reproduce            everything, in the laptop profile; PROFILE=smoke or PROFILE=paper for another one
# make test                 the tests
# make lab                  JupyterLab
# make claims               the ledger: every claim of the papers and its verdict, from the last make reproduce
# make data                 bring data/ back to what data.dvc says, from embedded/
# make notebooks            execute the chapters and store their outputs
# make bench                milliseconds per update
# make clean                remove scratch files and the smoke profile's results
#
# PYTHON=python3.12 chooses the interpreter of the virtual environment, JOBS=4 the runs side by side.

PROFILE ?= laptop
JOBS ?=
VENV ?= .venv
STAMP := $(VENV)/.installed
STAMP_LAB := $(VENV)/.installed-lab
PROFILES := $(basename $(notdir $(wildcard conf/profile/*.yaml)))
CHAPTERS := $(filter-out notebooks/train.ipynb notebooks/lenet.ipynb,$(wildcard notebooks/*.ipynb))
FIND_PYTHON = for p in python3 python python3.11 python3.12 python3.13 python3.14; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell $(FIND_PYTHON))
endif

PY := $(abspath $(VENV))/bin/python
export PATH := $(abspath $(VENV))/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: reproduce test lab data notebooks claims bench clean profile python restored

reproduce: profile $(STAMP)
	@$(PY) -m gwf.pipeline $(PROFILE) $(if $(JOBS),--jobs $(JOBS))

profile: python
	@$(PYTHON) -Bc 'import sys; sys.tracebacklimit = 0; from gwf.errors import nearest; \
	  nearest(sys.argv[1], sys.argv[2:], "profile")' "$(PROFILE)" $(PROFILES)

python:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; give one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: PYTHON=$(PYTHON) is not Python >= 3.11" >&2; exit 1; }

$(STAMP): pyproject.toml constraints.txt | python
	@echo "setting up the virtual environment $(VENV) (once, some minutes)"
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@$(PY) -m pip install -c constraints.txt -e '.[test]'
	@touch $@

$(STAMP_LAB): $(STAMP)
	@$(PY) -m pip install -c constraints.txt -e '.[lab]'
	@touch $@

# The pipeline restores data/ by itself; what reads it without the pipeline needs it here.
restored: $(STAMP)
	@test -d data || $(PY) -m dvc pull -q data.dvc
	@$(PY) -m gwf.data >/dev/null || $(PY) -m gwf.data

test: restored
	@OMP_NUM_THREADS=1 $(PY) -m pytest tests --numprocesses 2 --dist loadfile
	@OMP_NUM_THREADS=1 GWF_PROGRESS=/dev/null PYDEVD_DISABLE_FILE_VALIDATION=1 $(PY) -m pytest -q --nbval \
	  --numprocesses 2 --dist loadfile $(CHAPTERS)

lab: $(STAMP_LAB) restored
	@$(PY) -m jupyter lab --notebook-dir=notebooks

data: $(STAMP)
	@git checkout -q -- data.dvc embedded
	@rm -rf data
	@$(PY) -m dvc pull --force data.dvc
	@$(PY) -m gwf.data

notebooks: restored
	@$(PY) -m companion.notebooks refresh $(CHAPTERS)
	@$(PY) -m companion.notebooks check $(wildcard notebooks/*.ipynb)

claims: $(STAMP)
	@$(PY) -m gwf.claims --print $(PROFILE)

bench: restored
	@for script in benchmarks/*.py; do $(PY) $$script || exit 1; done

clean:
	@rm -rf scratch results/smoke report/smoke .pytest_cache .hypothesis
