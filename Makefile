# All developer commands. `make help` lists them; start with `make demo`.

SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup test endurance lint unit coverage image cluster demo sandbox sim chaos soak bench profile pin clean

help: ## show this table
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create the virtual environment .venv with pinned packages (the other targets do it when needed)

# Runs once, and again when a pin or the project's own metadata changes.
$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Install one, or name it: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

lint: $(READY) ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Four processes, because tests of the broker wait more than they compute.
# The tests of the core run apart from the others, because measuring would slow those down.
IN_PARALLEL := --numprocesses 4 --dist loadfile --no-loadscope-reorder
CORE_TESTS := tests/unit/test_core_*.py tests/unit/test_journal_*.py

test: $(READY) ## run lint and the tests; those on a real broker need Java 17+ and Maven, or KAFKA=host:port
	@$(MAKE) --no-print-directory --jobs 2 --output-sync=target lint coverage
	$(BIN)/pytest $(IN_PARALLEL) -m "not endurance" $(CORE_TESTS:%=--ignore-glob='%')

endurance: $(READY) ## run the tests that disturb whole programs and brokers for long; CI runs them after `make test`
	$(BIN)/pytest $(IN_PARALLEL) -m endurance

unit: $(READY) ## run only the tests that need no broker
	$(BIN)/pytest -m "not kafka"

coverage: $(READY) ## run the tests of the core; fails when they cover too few branches
	@mkdir -p .coverage
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(CORE_TESTS) --cov

image: $(READY) ## build the image with Docker or podman, print its layers, and try it as a user without privileges
	@$(BIN)/python -m tests.chart.container_engine
	$(BIN)/pytest tests/chart/test_image.py

demo: $(READY) ## send 5,000 changes through a real Kafka and a misbehaving API, with kill -9 halfway
	@$(BIN)/python -m tests.sandbox demo

sandbox: $(READY) ## start the same parts and keep them running to try things out; Ctrl-C ends them
	@$(BIN)/python -m tests.sandbox up

HISTORIES ?= 1000
SEED ?= 1
sim: $(READY) ## run 1,000 histories of faults in virtual time, without a broker; make sim HISTORIES=200 SEED=3
	@$(BIN)/python -m tests.sim --histories $(HISTORIES) --seed $(SEED)

KILLS ?= 10
chaos: $(READY) ## kill and freeze three replicas and their Kafka; make chaos KILLS=200 SEED=7
	@$(BIN)/python -m tests.sandbox chaos --kills $(KILLS) --seed $(SEED)

PHASES ?= all
cluster: $(READY) ## install the chart on a Kubernetes of its own and disturb it (root, Debian 12); make cluster PHASES=quick
	@$(BIN)/python -m tests.cluster disturb --phases $(PHASES) --seed $(SEED)

MINUTES ?= 10
soak: $(READY) ## publish more changes than the API takes, for minutes, and watch memory; make soak MINUTES=3
	@$(BIN)/python -m tests.sandbox soak --minutes $(MINUTES) --seed $(SEED)

bench: $(READY) ## measure rates and latency on a real Kafka
	@$(BIN)/python -m tests.bench

profile: $(READY) ## show where the daemon's time goes at full speed, as a table and a flame graph's stacks
	@$(BIN)/python -m tests.bench.profiling

# One resolution for all platforms; the files contain no index host.
UV_COMPILE := uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
              --no-emit-index-url --no-emit-find-links --custom-compile-command "make pin"
pin: ## pin the newest allowed packages with hashes (needs uv)
	@command -v uv >/dev/null || { echo "make pin needs uv: $(PYTHON) -m pip install uv" >&2; exit 1; }
	$(UV_COMPILE) pyproject.toml --output-file requirements/runtime.txt
	$(UV_COMPILE) pyproject.toml --extra otel --constraint requirements/runtime.txt --output-file requirements/otel.txt
	$(UV_COMPILE) pyproject.toml --extra aws --extra otel --constraint requirements/otel.txt --output-file requirements/aws.txt
	$(UV_COMPILE) pyproject.toml --extra aws --extra otel --group dev --output-file requirements/dev.txt
	$(UV_COMPILE) --group build --constraint requirements/dev.txt --output-file requirements/build.txt

clean: ## remove everything that the other targets created, except the cache of Kafka's jars
	rm -rf .venv .sandbox .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
