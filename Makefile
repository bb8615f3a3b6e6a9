# make demo: install into .venv and run the whole path. make test: install and run the tests.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install install-dev demo reproduce test check format lint types imports crash bench bench-quick bench-collect parity build clean

help:  ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# a stamp a set of packages: installed again only when what is asked for has changed
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed  ## the package and the command .venv/bin/zephyr

install-dev: $(VENV)/.installed-dev  ## the same, with what tests and checks need

demo: install  ## the whole path on a real small model, into runs/demo
	$(BIN)/zephyr run recipes/demo.yaml

reproduce: install  ## the paper's experiments with the shipped texts, a page in runs/reproduce-demo; more: docs/reproduction.md
	$(BIN)/zephyr reproduce all

test: install-dev  ## all tests; TESTS=tests/numerics for some
	$(BIN)/python -m pytest $(TESTS)

check: install-dev $(if $(CI),,format) lint types imports  ## format (in CI: only look), lint, types, import contract

format: install-dev  ## put the code into its format
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix --quiet src tests benchmarks || true

lint: install-dev
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks

types: install-dev
	$(BIN)/mypy

imports: install-dev
	$(BIN)/lint-imports

crash: install-dev  ## a thousand seeded kills of a training, and as many of a collection; goes on where it was stopped
	$(BIN)/python tests/faults/crash.py --points 1000 --results crash.jsonl
	$(BIN)/python tests/faults/crash_collection.py --points 1000 --results crash-collection.jsonl

bench: install-dev  ## ours beside TRL's, in turn, medians of three: steps, ideas, whole job, data, start-up
	$(BIN)/python benchmarks/race.py

bench-quick: install-dev  ## does it run? the same once, on a tiny model, less of everything
	$(BIN)/python benchmarks/race.py --quick

bench-collect: install-dev  ## requests a second: ours with its journal, the bare HTTP client, the vendor's where it is installed
	$(BIN)/python benchmarks/collect.py

parity: install-dev  ## published numbers of MT-Bench and AlpacaEval, recomputed: make parity DATA=../shared/data
	$(BIN)/python benchmarks/parity.py $(or $(DATA),../shared/data)

build: install-dev  ## wheel and sdist into dist/
	$(BIN)/python -m build --no-isolation

clean:  ## remove what make made, but not runs/
	rm -rf $(VENV) dist build src/*.egg-info
