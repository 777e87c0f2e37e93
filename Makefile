# make reproduce            everything with its first seed, beside the other seeds that git has; PROFILE=smoke, full, paper
# make reproduce ALL=1      every seed here: overnight
# make reproduce MINUTES=15 a spot check: the stages that tell most within that time, beside what git has
# make test                 the tests
# make lab                  JupyterLab, from notebooks/index.ipynb on
# make site                 the reading site, report/site/index.html
# make claims               the ledger: every claim of the papers and its verdict, from the last make reproduce
# make claim ID=w2fe-C2     run what a claim needs (or several), and its verdict; with REUSE=1 from what git has
# make plan                 the stages that make reproduce would run
# make train                one training: DATASET=digits CASE=kl-jko SEED=0
# make data                 bring data/ back to what data.dvc says, from embedded/
# make notebooks            execute the notebooks and store their outputs
# make bench                milliseconds per update; DEVICE=cuda: on a GPU, with launches and GFLOP/s of every network
# make clean                remove scratch files and the results of all profiles but laptop
#
# PYTHON=python3.12 chooses the interpreter of the virtual environment, JOBS=4 the runs side by side, REUSE=1 takes
# all results that came with the clone as they are, ENGINE=slurm starts the stages as jobs of a cluster (conf/engine.yaml).

PROFILE ?= laptop
JOBS ?=
MINUTES ?=
ALL ?=
REUSE ?=
ID ?=
ENGINE ?= local
DEVICE ?= cpu
VENV ?= .venv
space := $() $()
STAMP := $(subst $(space),\$(space),$(VENV))/.installed
STAMP_LAB := $(STAMP)-lab
NOTEBOOKS := $(wildcard notebooks/*.ipynb notebooks/chapters/*.ipynb notebooks/experiments/*.ipynb)
SITE := report/site/index.html
ifeq ($(wildcard companion/driver.py),)
$(error this Makefile works in its own folder: cd to it, or use make -C)
endif
FIND_PYTHON = for p in python3 python python3.11 python3.12 python3.13 python3.14; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell $(FIND_PYTHON))
endif

PY := $(VENV)/bin/python
# uv sets up in a quarter of pip's time where it is installed; what is used is compiled when it is first imported.
INSTALL = $(if $(shell command -v uv),uv pip install --python "$(PY)","$(PY)" -m pip install --no-compile) -c constraints.txt
export PATH := $(if $(filter /%,$(VENV)),,$(CURDIR)/)$(VENV)/bin:$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Set-up compiles nothing, so what is imported first is kept compiled, also where images for containers forbid it.
unexport PYTHONDONTWRITEBYTECODE
# Whether a switch is on.
yes = $(filter-out 0 n no No NO false False FALSE off Off OFF,$(1))
# What is given on the command line, as one word of the shell.
quoted = '$(subst ','\'',$(1))'
DRIVE = "$(PY)" -m companion.driver $(call quoted,$(PROFILE)) --engine=$(call quoted,$(ENGINE)) \
  $(if $(JOBS),--jobs=$(call quoted,$(JOBS))) $(if $(MINUTES),--minutes=$(call quoted,$(MINUTES))) \
  $(if $(call yes,$(ALL)),--all) $(if $(call yes,$(REUSE)),--reuse)
# Kernels as the pipeline starts them, whatever is set up for the user's own Jupyter and matplotlib.
KERNELS := JUPYTER_PREFER_ENV_PATH=1 JUPYTER_PATH= IPYTHONDIR=$(call quoted,$(CURDIR)/scratch/ipython/tests) MATPLOTLIBRC=/dev/null MPLBACKEND=

.PHONY: reproduce plan train test lab site data notebooks claims claim bench clean python restored

reproduce: $(STAMP)
	@$(DRIVE)
	@$(if $(filter laptop,$(PROFILE)),"$(MAKE)" --no-print-directory site)

plan: $(STAMP)
	@$(DRIVE) --plan

train: restored
	@$(if $(and $(DATASET),$(CASE),$(SEED)),,echo "error: give DATASET=digits CASE=kl-jko SEED=0, for instance" >&2; exit 1)
	@"$(PY)" -m companion.notebooks known $(call quoted,$(DATASET)) $(call quoted,$(CASE)) $(call quoted,$(SEED))
	@"$(PY)" -m dvc repro --force $(call quoted,train@$(DATASET)-$(CASE)-$(SEED))

python:
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; give one with PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || \
	  { echo "error: PYTHON=$(PYTHON) is not Python >= 3.11" >&2; exit 1; }

$(STAMP): pyproject.toml constraints.txt | python
	@echo "setting up the virtual environment $(VENV) (once, some minutes)" >&2
	@test -x "$(PY)" || "$(PYTHON)" -m venv "$(VENV)"
	@$(INSTALL) -e '.[test]' >&2
	@touch "$@"

$(STAMP_LAB): $(STAMP)
	@$(INSTALL) -e '.[lab]' >&2
	@touch "$@"

# The pipeline restores data/ by itself; what reads it without the pipeline needs it here.
restored: $(STAMP)
	@"$(PY)" -m companion.driver --data

test: restored
	@rm -rf results/lab
	@$(KERNELS) OMP_NUM_THREADS=1 "$(PY)" -m pytest tests --numprocesses 2 --dist loadfile --no-loadscope-reorder
	@$(KERNELS) OMP_NUM_THREADS=1 PYDEVD_DISABLE_FILE_VALIDATION=1 "$(PY)" -m pytest -q --nbval \
	  --numprocesses 2 --dist loadfile $(NOTEBOOKS)

lab: $(STAMP_LAB) restored
	@$(KERNELS) "$(PY)" -m jupyterlab --notebook-dir=. --LabApp.default_url=/lab/tree/notebooks/index.ipynb

site: $(SITE)
	@echo $(SITE)

# From the notebooks and report/, whatever profile ran last; nothing is executed.
$(SITE): $(STAMP) $(wildcard report/claims.csv report/sheets/*/* website/*.* website/static/* *.md references.bib) \
  $(wildcard gwf/*.py gwf/*/*.py) $(NOTEBOOKS)
	@test -e report/site/searchindex.js || rm -rf scratch/site/doctrees  # a first build that was cut short
	@"$(PY)" -m website
	@"$(PY)" -m sphinx -q -c website -d scratch/site/doctrees scratch/site/source report/site
	@touch "$@"

data: $(STAMP)
	@if test -e .git; then git checkout -q -- data.dvc embedded; fi
	@rm -rf data
	@"$(PY)" -m companion.driver --data
	@"$(PY)" -m gwf.data

notebooks: restored
	@"$(PY)" -m companion.notebooks refresh $(NOTEBOOKS)

claims: $(STAMP)
	@"$(PY)" -m companion.ledger print $(if $(filter laptop,$(PROFILE)),report,$(call quoted,results/$(PROFILE)/report))

claim: $(STAMP)
	@$(DRIVE) --claim=$(call quoted,$(ID))

# The other benchmarks are of CPUs.
bench: restored
ifeq ($(DEVICE),cpu)
	@for script in benchmarks/*.py; do "$(PY)" "$$script" || exit 1; done
else
	@"$(PY)" benchmarks/devices.py --device $(call quoted,$(DEVICE))
endif

clean:
	@rm -rf scratch .pytest_cache .hypothesis
	@test ! -d results || find results -mindepth 1 -maxdepth 1 ! -name laptop -exec rm -rf {} +
