# Every target makes its own environment first: a clean checkout needs nothing but Python 3.11 and make.
STUDY   ?= navigation
TUNING  ?= tuning_navigation
SEEDS   ?=
SCALE   ?= paper
WORKERS ?= $(shell nproc)
RESULTS ?= results
COMPARE ?=
ID      ?=
RUNS    ?=
KILLS   ?=
DEVICE  ?= cpu

BIN     := .venv/bin
# One thread each: processes side by side would otherwise fight for the cores.
PYTEST  := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal
SIZE     = --scale $(SCALE) --results $(RESULTS) $(if $(SEEDS),--seeds $(SEEDS))

.DEFAULT_GOAL := help
.PHONY: help setup all reproduce navigation bandits tabular-mdp point-corners point-1d locomotion estimators tune tune-ui supplementary ladder extensions films report verdicts ui status check audit test bench bench-locomotion chaos load clean

help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' Makefile | sed -E 's/^([a-z0-9-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'
	@echo "  variables: STUDY=$(STUDY)  TUNING=$(TUNING)  SEEDS=0-4 (or 0,2,7)  SCALE=paper|quick|smoke  WORKERS=$(WORKERS)  RESULTS=$(RESULTS)"

.venv/ready: requirements.lock pyproject.toml
	python3 -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: .venv/ready  ## create .venv from requirements.lock

all: .venv/ready  ## run what is missing of every study, tuning and audit, cheapest first, and the report (says the hours first; SCALE=paper: a day and a half of core, then thousands of hours for locomotion)
	$(BIN)/metarepro all $(SIZE) --workers $(WORKERS)

reproduce: .venv/ready  ## run what is missing of a study, write its page (STUDY=navigation)
	$(BIN)/metarepro reproduce $(STUDY) $(SIZE) --workers $(WORKERS)

navigation: STUDY := navigation
navigation: reproduce  ## 2D navigation: the Ulm replication

bandits: STUDY := bandits
bandits: reproduce  ## Bernoulli bandits and the ablation of the inner step (about 25 minutes)

tabular-mdp: STUDY := tabular_mdp
tabular-mdp: reproduce  ## tabular MDPs (about 20 minutes)

point-corners: STUDY := point_corners
point-corners: SCALE := quick
point-corners: reproduce  ## ProMP's corner tasks and its gradient spread (SCALE=quick: 75 minutes; paper: a day)

point-1d: STUDY := point_1d
point-1d: reproduce  ## ProMP's toy task: update directions of formulations I and II

locomotion: STUDY := locomotion
locomotion: SCALE := quick
locomotion: reproduce  ## ten MuJoCo environments of ProMP and those of MAML (SCALE=quick: three bodies, about two hours of core; paper: 1e8 steps per run, says how long first)

estimators: .venv/ready  ## every meta-gradient estimator against the exact meta-gradient (about 10 minutes)
	$(BIN)/metarepro estimators --scale $(SCALE) --results $(RESULTS)

tune: .venv/ready  ## rerun the Ulm report's tuning of its learning rates, twice, and write the page (TUNING=tuning_navigation: 33 CPU minutes)
	$(BIN)/metarepro tune $(TUNING) --scale $(SCALE) --results $(RESULTS) --workers $(WORKERS)

tune-ui: .venv/ready  ## open optuna-dashboard on 127.0.0.1:8080 over the trials of a tuning
	$(BIN)/metarepro tune-ui $(TUNING) --scale $(SCALE) --results $(RESULTS)

supplementary: STUDY := supplementary
supplementary: reproduce  ## the Ulm report's supplements over ten seeds (about 86 CPU minutes)

ladder: STUDY := ladder
ladder: reproduce  ## from the Ulm replication to the original MAML code, one factor at a time (127 CPU minutes)

extensions: STUDY := extensions
extensions: reproduce  ## what the Ulm report proposes to try next, under equal tuning (25 CPU minutes)

films: STUDY := locomotion
films: .venv/ready  ## draw trained policies before and after adaptation, for the page (STUDY=locomotion SCALE=quick SEEDS=0; needs EGL or OSMesa)
	$(BIN)/metarepro films $(STUDY) --scale $(SCALE) --results $(RESULTS) $(if $(SEEDS),--seeds $(SEEDS))

report: .venv/ready  ## write the report on all studies that were run (STUDY=: on one; COMPARE=a,b: two results folders side by side)
	$(BIN)/metarepro report $(if $(COMPARE),--compare $(COMPARE) --results $(RESULTS),$(if $(filter file,$(origin STUDY)),all,$(STUDY)) --results $(RESULTS) $(if $(filter file,$(origin SCALE)),,--scale $(SCALE)) $(if $(SEEDS),--seeds $(SEEDS)))

verdicts: .venv/ready  ## print the verdict on everything published, from the committed evidence (ID=: all behind one)
	$(BIN)/metarepro verdicts $(ID)

ui: .venv/ready  ## open MLflow on 127.0.0.1:5000
	$(BIN)/metarepro ui --results $(RESULTS)

status: .venv/ready  ## list done, running, failed, diverged and missing runs
	$(BIN)/metarepro status $(STUDY) $(SIZE)

check: .venv/ready  ## format, lint, types, tests and known vulnerabilities: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)
	$(BIN)/python .ci/audit_lock.py

audit: .venv/ready  ## known vulnerabilities of the locked packages, where the index can say
	$(BIN)/python .ci/audit_lock.py

test: .venv/ready  ## run the tests
	$(PYTEST)

bench: .venv/ready  ## measure speed, memory and scaling (about 15 minutes on a quiet machine; DEVICE=cuda on a GPU)
	$(BIN)/python -m tests.benchmarks.bench --results $(RESULTS) --device $(DEVICE)

bench-locomotion: .venv/ready  ## measure locomotion beside mujoco.rollout, gymnasium and, where it is installed, EnvPool (about 15 minutes)
	OMP_WAIT_POLICY=passive $(BIN)/python -m tests.benchmarks.locomotion --results $(RESULTS)

chaos: .venv/ready  ## a grid under fire: workers and drivers killed, the MLflow server stopped (RUNS=40 KILLS=20; needs PostgreSQL)
	$(BIN)/python -m tests.chaos $(if $(RUNS),--runs $(RUNS)) $(if $(KILLS),--kills $(KILLS))

load: .venv/ready  ## what scheduling, MLflow and the report cost per run, on many tiny runs (RUNS=1000)
	$(BIN)/python -m tests.load $(if $(RUNS),--runs $(RUNS))

clean:  ## remove the environment and caches; results stay
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache
