# Every target does all of its own set-up. `make` alone prints the list.
# Paths are relative, so that a folder with a space in its name works.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SERVERS := $(VENV)/.servers
# Stages are typed as `python -m tasks.<stage>`: the environment's Python has to come first.
ACTIVE := PATH="$$PWD/$(BIN):$$PATH" VIRTUAL_ENV="$$PWD/$(VENV)"

.PHONY: help setup repro run plan test test-slow check ui bench gpu-smoke clean

help: ## this list
	@echo "Grand Rounds: reproducible training of medical vision-language models that reason (research only)"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(READY) ## virtual environment in .venv, pinned packages, DVC; again only when pins change

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is %d.%d: make setup PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $$(grep -E '^torch(vision)?==' constraints.txt)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	test -d .dvc || $(BIN)/dvc init --quiet $$(test -e .git || echo --no-scm)
	$(BIN)/dvc config core.analytics false
	$(BIN)/dvc config core.autostage false
	@touch $(READY)

$(SERVERS): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,servers]'
	@touch $(SERVERS)

repro: $(READY) ## reproduce every stage in turn (dvc repro)
	$(ACTIVE) $(BIN)/dvc repro

run: $(READY) ## the same through Prefect, two stages at a time (WORKERS=2)
	$(ACTIVE) $(BIN)/grandrounds run --workers $(WORKERS)

plan: $(READY) ## which stages would run, in waves, and why
	@$(BIN)/grandrounds plan

test: $(READY) ## all tests but the slow ones; one reproduces the whole pipeline on reduced params
	$(ACTIVE) $(BIN)/python -m pytest -m "not slow"

test-slow: $(SERVERS) ## the slow tests, those of real servers among them (Prefect, MLflow, PostgreSQL, S3, SSH, Ray)
	$(ACTIVE) $(BIN)/python -m pytest -m slow

check: $(READY) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

ui: $(READY) ## Prefect and MLflow in the browser, until Ctrl-C
	@$(ACTIVE) $(BIN)/grandrounds ui

bench: $(READY) ## every benchmark, quick sizes
	@for script in benchmarks/*.py; do \
	  [ -e "$$script" ] || { echo "no benchmark here yet"; break; }; \
	  echo "== $$script"; $(ACTIVE) $(BIN)/python "$$script" --quick; \
	done

gpu-smoke: $(READY) ## on a GPU, in ten minutes: load a 3B model, SFT, GRPO, vLLM with a LoRA (not yet run on one)
	$(ACTIVE) $(BIN)/python benchmarks/gpu_smoke.py

clean: ## remove the environment, caches and scratch; data, models, reports and DVC's cache stay
	rm -rf $(VENV) .scratch .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache build dist *.egg-info
	find grandrounds tasks flows tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
