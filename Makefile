# Everything a developer types. `make help` lists it; `make demo` is the place to start.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup test lint unit demo sandbox sim chaos soak bench pin clean

help: ## this table
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## the virtual environment .venv, with pinned packages (the others do it when needed)

# Once, and again when a pin or the project's own metadata changes.
$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Install one, or name it: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lint: $(READY) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## lint, and all tests; those on the real broker need Java 17+ and Maven, or KAFKA=host:port
	$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

unit: $(READY) ## only the tests that need no broker
	$(BIN)/pytest -m "not kafka"

demo: $(READY) ## 5,000 changes through a real Kafka and a misbehaving API, with kill -9 in the middle
	@$(BIN)/python -m tests.sandbox demo

sandbox: $(READY) ## the same parts, staying up to be played with; Ctrl-C ends them
	@$(BIN)/python -m tests.sandbox up

HISTORIES ?= 1000
SEED ?= 1
sim: $(READY) ## 1,000 histories of faults in virtual time, without a broker; make sim HISTORIES=200 SEED=3
	@$(BIN)/python -m tests.sim --histories $(HISTORIES) --seed $(SEED)

KILLS ?= 10
chaos: $(READY) ## three replicas and their Kafka killed and frozen; make chaos KILLS=200 SEED=7
	@$(BIN)/python -m tests.sandbox chaos --kills $(KILLS) --seed $(SEED)

MINUTES ?= 10
soak: $(READY) ## more changes than the API takes, for minutes: is memory flat? make soak MINUTES=3
	@$(BIN)/python -m tests.sandbox soak --minutes $(MINUTES) --seed $(SEED)

bench: $(READY) ## how fast, on a real Kafka
	@$(BIN)/python -m tests.bench

# One resolution for all platforms; no index host is written into the files.
UV_COMPILE := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
              --no-emit-index-url --no-emit-find-links --custom-compile-command "make pin"
pin: ## pin the newest allowed packages, with hashes (needs uv)
	@command -v uv >/dev/null || { echo "make pin needs uv: $(PYTHON) -m pip install uv" >&2; exit 1; }
	$(UV_COMPILE) pyproject.toml --output-file requirements/runtime.txt
	$(UV_COMPILE) pyproject.toml --group dev --output-file requirements/dev.txt
	$(UV_COMPILE) --group build --constraint requirements/dev.txt --output-file requirements/build.txt

clean: ## remove what the others made (the cache of Kafka's jars stays)
	rm -rf .venv .sandbox .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
