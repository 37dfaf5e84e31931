# One command for each thing that one does with the tree; `make` alone lists them.

PYTHON ?= python3
SEEDS ?= 1000
SECONDS ?= 600
# Tests at a time: many of them wait most of the time, so that three keep two processors busy.
JOBS ?= 3

BIN := .venv/bin
STAMP := .venv/.installed
PURE := not (net or proc or program or slow or soak)

# What is compiled once must not be compiled by each of the hundreds of processes that the tests start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup demo test quick simulate fuzz sabotage soak bench test-programs format clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP)  ## make .venv with everything that the other targets need

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Kwik needs Python 3.11 or newer, and $(PYTHON) is not: install one, then make $(MAKECMDGOALS) PYTHON=python3.11" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv .venv || { \
	  echo "no virtual environment could be made: install Python's venv module (Debian: apt install python3-venv)" >&2; \
	  exit 1; }
	@# Most of what comes along is never imported: Python compiles the rest when it is.
	@$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: setup  ## three servers, one stream, one of them killed: see it go on
	@$(BIN)/kwik demo

test: setup  ## everything that must pass: format, lint, types, layers, all tests
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	@# Types are checked beside the tests, and told when these are over; layers by one of them (tests/arch).
	@said=$$(mktemp); $(BIN)/mypy --no-error-summary >$$said 2>&1 & checks=$$!; \
	  echo '$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not soak"'; \
	  $(BIN)/pytest -n $(JOBS) --dist worksteal -m "not soak"; tests=$$?; \
	  wait $$checks; checked=$$?; \
	  echo '$(BIN)/mypy --no-error-summary'; cat $$said; rm -f $$said; \
	  [ $$checked = 0 ] || echo "make test: mypy FAILED, see above" >&2; \
	  [ $$tests = 0 ] || echo "make test: pytest FAILED, see above" >&2; \
	  [ $$tests = 0 ] && [ $$checked = 0 ]

quick: setup  ## the pure tests and the simulated ones: under a minute
	@$(BIN)/pytest -n $(JOBS) --dist worksteal -m "$(PURE)"

simulate: setup  ## SEEDS=1000 random scenarios in virtual time, every guarantee checked
	@$(BIN)/python -m kwik.sim --seeds $(SEEDS)

fuzz: setup  ## SECONDS=600 of hostile bytes for every decoder
	@$(BIN)/python tests/fuzz/run.py --seconds $(SECONDS) --jobs 0

sabotage: setup  ## break the code on purpose, one place at a time: the tests must notice
	@$(BIN)/python tests/sabotage/run.py

soak: setup  ## what runs for minutes: a gigabyte through both sides, weighed
	@$(BIN)/pytest -m soak -s

bench: setup  ## speed, as ratios within one run, the quick versions (benchmarks/README.md has the full ones)
	@$(BIN)/python -m benchmarks.single_server --pairs 5
	@$(BIN)/python -m benchmarks.striping --runs 1
	@$(BIN)/python -m benchmarks.failover --runs 2

test-programs: setup  ## the tests with real programs; fails if one of the programs is missing
	@KWIK_REQUIRE_PROGRAMS=1 $(BIN)/pytest -m program

format: setup  ## put the code in the house's form
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

clean:  ## remove everything that can be made again
	@rm -rf .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
