# Partita: `make` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 2
MINUTES ?= 20
SEED ?= 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.venv/uv: 
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Partita needs Python 3.11 or newer; set PYTHON=python3.x" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --requirement docker/uv.txt && touch $@

.venv/installed: .venv/uv requirements.lock pyproject.toml
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

install: .venv/installed ## .venv with the partita command and everything to develop it

extensions: .venv/installed ## the state host and the example applications' extensions, from C
	@$(BIN)/python engine/sandbox/host/build.py > /dev/null
	@$(BIN)/partita extension build topology/bank
	@$(BIN)/partita extension build topology/flights
	@$(BIN)/partita extension build topology/restaurant

demo: extensions ## load a year of real flights into an embedded engine, query it, exit
	@$(BIN)/python -m loadtest.demo --year

demo-kafka: extensions ## a month of them on a real local broker with two nodes, one of which is killed
	@$(BIN)/python -m loadtest.demo --kafka

dev: extensions ## a month of the demo, and the engine stays up
	@$(BIN)/python -m loadtest.demo --stay

check: format lint types imports test ## all that CI checks

format: .venv/installed
	@$(BIN)/ruff format --quiet --check .

lint: .venv/installed
	@$(BIN)/ruff check --quiet .

types: .venv/installed
	@$(BIN)/pyright

imports: .venv/installed
	@$(BIN)/lint-imports | tail -n 4

test: extensions ## every test, real Kafka included
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup

simulate: .venv/installed ## 10,000 seeds of the simulator
	@$(BIN)/partita simulate --seeds 10000

bench: extensions ## measure this machine: every case, with the results kept in loadtest/results
	@for case in host-call harm commands replay growth query; do \
	  $(BIN)/partita bench $$case --keep || exit 1; done

chaos: extensions ## three brokers, three nodes, load and faults for 20 minutes, and an audit
	@$(BIN)/python -m loadtest.chaos --minutes $(MINUTES) --seed $(SEED) --keep > /dev/null

soak: extensions ## half of full speed for 30 minutes: does anything grow?
	@$(BIN)/python -m loadtest.soak --minutes 30 --keep > /dev/null

lock: .venv/uv ## make requirements.lock anew from pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
	  --generate-hashes --no-emit-index-url --no-header pyproject.toml -o requirements.lock

.PHONY: help install extensions demo demo-kafka dev check format lint types imports test simulate bench chaos soak lock
