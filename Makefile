# Every target makes its own environment first: a clean checkout needs nothing but Python 3.11 and make.
STUDY   ?= navigation
SEEDS   ?=
SCALE   ?= paper
WORKERS ?= $(shell nproc)
RESULTS ?= results

BIN     := .venv/bin
SIZE    := --scale $(SCALE) --results $(RESULTS) $(if $(SEEDS),--seeds $(SEEDS))

.DEFAULT_GOAL := help
.PHONY: help setup reproduce navigation bandits tabular-mdp report ui status check test bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  variables: STUDY=$(STUDY)  SEEDS=0-4 (or 0,2,7)  SCALE=paper|smoke  WORKERS=$(WORKERS)  RESULTS=$(RESULTS)"

.venv/ready: requirements.lock pyproject.toml
	python3 -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

setup: .venv/ready  ## create .venv from requirements.lock

reproduce: .venv/ready  ## run what is missing of a study, write its page (STUDY=navigation)
	$(BIN)/metarepro reproduce $(STUDY) $(SIZE) --workers $(WORKERS)

navigation: STUDY := navigation
navigation: reproduce  ## 2D navigation: the Ulm replication

bandits: STUDY := bandits
bandits: reproduce  ## Bernoulli bandits and the ablation of the inner step (about 25 minutes)

tabular-mdp: STUDY := tabular_mdp
tabular-mdp: reproduce  ## tabular MDPs (about 20 minutes)

report: .venv/ready  ## write a study's page from the recorded runs
	$(BIN)/metarepro report $(STUDY) $(SIZE)

ui: .venv/ready  ## open MLflow on 127.0.0.1:5000
	$(BIN)/metarepro ui --results $(RESULTS)

status: .venv/ready  ## list done, running, failed, diverged and missing runs
	$(BIN)/metarepro status $(STUDY) $(SIZE)

check: .venv/ready  ## format, lint, types and tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

test: .venv/ready  ## run the tests
	$(BIN)/pytest

bench: .venv/ready  ## measure speed, memory and scaling (about 5 minutes on a quiet machine)
	$(BIN)/python -m tests.benchmarks.bench --results $(RESULTS)

clean:  ## remove the environment and caches; results stay
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache
