# hongbao: `make demo` shows it, `make test` proves it. Both set themselves up in .venv; no root, no Docker.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed: to run a system; and beside it, to test, load and measure one.
INSTALLED := $(VENV)/.runs
READY := $(VENV)/.ready
# A lock is whole, so that nothing is looked for beside it.
INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-deps

SECONDS ?= 60
SIMULATE = $(if $(SEED),--seed $(SEED)) $(if $(STEPS),--steps $(STEPS)) $(if $(WITHOUT),--without $(WITHOUT)) \
  $(if $(RUNS),--runs $(RUNS),$(if $(SEED),,--seconds $(SECONDS)))
SCENARIO ?= midnight

LOCKS := requirements.lock requirements-dev.lock

.PHONY: demo test bench load chaos simulate lint unit cluster mutants mutation-score lock format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo      replay the minute of 00:05 on 2016-01-01 on a system of its own (about 90 s)"
	@echo "make test      lint, types, imports, unit, simulation, contract and cluster tests, mutants"
	@echo "make bench     the platform beside its peers, as ratios, costs and a plot (about 12 minutes)"
	@echo "make load      a locust scenario on a system of its own (SCENARIO=midnight; $$(ls loadtest/profiles | sed 's/.toml//' | xargs))"
	@echo "make chaos     kill, freeze and starve every part under load, then check every answer (about 9 minutes)"
	@echo "make simulate  the whole platform under fresh seeds, on all cores (SECONDS=60)"
	@echo "make unit      the tests that need no Ray (a minute)"

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "hongbao needs Python 3.11 or newer as $(PYTHON): apt-get install python3 (or make PYTHON=/path/to/python)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "hongbao needs the venv module of $(PYTHON): apt-get install python3-venv"; exit 1; }
	@echo "setting up $(VENV) (once, a minute or so)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes --requirement requirements.lock | $(call TELL,requirements.lock)
	@$(INSTALL) --quiet --no-build-isolation --editable .
	@touch $@

$(READY): requirements-dev.lock $(INSTALLED)
	@echo "adding what tests, load and bench need"
	@$(INSTALL) --require-hashes $(LOCKS:%=--requirement %) | $(call TELL,requirements-dev.lock)
	@touch $@

# Of pip's own lines: which package it fetches, in place on a terminal and now and then elsewhere; then that it unpacks.
TELL = awk -v all="$$(grep -c '^[a-z0-9].*==' $(1))" -v terminal="$$(test -t 1 && echo 1)" ' \
  /^(Collecting|Processing) / { n++; sub(".*/", "", $$2); line = sprintf("  %d of %d: %s", n, all, $$2); \
    if (terminal) printf "\r%s\033[K", line; else if (n % 10 == 1) print line } \
  /^Installing collected/ { printf "%s  unpacking %d packages, half a minute or so\n", terminal ? "\r\033[K" : "", n } \
  { fflush() }'

demo: $(INSTALLED)
	@$(BIN)/hongbao demo

# BENCH="--only http --rounds 1 --json" passes options; wrk, redis-tools and postgresql (apt) make it whole.
bench: $(READY)
	@$(BIN)/python -m loadtest.bench.run $(BENCH)

# LOAD="--rate 60 --seconds 30 --workers 2" passes options; LOAD=--help lists them.
load: $(READY)
	@$(BIN)/python -m loadtest.load $(SCENARIO) $(LOAD)

# CHAOS="--seed 7 --faults 20 --keep" passes options.
chaos: $(READY)
	@$(BIN)/python -m loadtest.chaos.run $(CHAOS)

# SECONDS=600 makes it run longer; RUNS=3000 counts runs instead; SEED=7 (and STEPS, WITHOUT) replays one run.
simulate: $(READY)
	@$(BIN)/python -m tests.simulation.campaign $(SIMULATE)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.tidy

# A process for each of two cores: these tests share nothing but the machine.
unit: $(READY)
	$(BIN)/pytest -n 2 tests/unit tests/simulation tests/contract

cluster: $(READY)
	$(BIN)/pytest tests/cluster

mutants: $(READY)
	$(BIN)/python -m tests.mutants

# SCORE="--mutants 500 --seed 7" draws others.
mutation-score: $(READY)
	$(BIN)/python -m tests.mutation_score $(SCORE)

# pytest last: its closing line says what ran.
test: lint mutants unit cluster

# Both locks from pyproject.toml, for Python 3.11 and newer: names, versions, hashes; no address. What is locked stays as
# it is where that can be: UPGRADE=--upgrade renews all, UPGRADE="--upgrade-package ray" one. The second holds what the first
# lacks. uv comes and goes with a virtual environment of its own.
UPGRADE ?=
LOCK = .venv-lock/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)
lock:
	@$(PYTHON) -m venv .venv-lock
	@.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(LOCK) --extra photos --group build --output-file requirements.lock
	@$(LOCK) --all-extras --constraint requirements.lock --output-file requirements-dev.lock \
	  $$(sed -n 's/^\([a-z0-9][a-z0-9._-]*\)==.*/--no-emit-package \1/p' requirements.lock)
	@rm -rf .venv-lock

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
