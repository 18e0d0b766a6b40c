# Forethought. `make demo` shows it working, `make test` tests it; each sets itself up first.
# Needs Python 3.11 or later, make, and a C toolchain for the rare package without a wheel.

.DEFAULT_GOAL := help
SHELL := /bin/sh

# The first of these that is new enough; `make PYTHON=/path/to/python demo` overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo "$$p" && break; done)
BIN := .venv/bin
STAMP := .venv/.ready

ARGS ?=
PYTEST_ARGS ?=
QUICK ?=
DEMO_ARGS = $(if $(filter-out 0,$(QUICK)),--quick) $(ARGS)

.PHONY: help setup demo serve test check format lock bench clean

help: ## list these commands
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv and install everything that requirements.lock pins

demo: $(STAMP) ## run the main job on the embedded model (QUICK=1: the smallest; ARGS=...)
	@$(BIN)/forethought demo $(DEMO_ARGS)

serve: $(STAMP) ## start the proxy (ARGS="--port 8300")
	@$(BIN)/forethought serve $(ARGS)

test: $(STAMP) ## run the tests (PYTEST_ARGS="-k name", PYTEST_ARGS="-m slow")
	@$(BIN)/forethought models fetch smollm2-135m
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP) ## ruff, mypy, pyright and the layer contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

format: $(STAMP) ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP) ## resolve the dependencies anew into requirements.lock (ARGS=--upgrade)
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
	    --custom-compile-command "make lock" --no-emit-package forethought $(ARGS) -o requirements.lock >/dev/null

bench: $(STAMP) ## list the benches; make bench-NAME runs one
	@$(BIN)/python -m bench

bench-%: $(STAMP)
	@$(BIN)/python -m bench.$* $(ARGS)

clean: ## remove .venv and the caches; keeps models and data
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# Three steps, each skipped when it is done. pip, which honours the user's own configuration, brings
# uv; uv, which is several times faster, installs the rest, unless only pip can reach an index here.
.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "Forethought needs Python 3.11 or later: install it, or name one by PYTHON=/path/to/python." >&2; exit 2; }
	@echo "==> making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Could not make a virtual environment: this Python lacks venv (on Debian: apt-get install python3-venv)." >&2; exit 2; }

.venv/bin/uv: | .venv/bin/python
	@echo "==> installing uv"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'

$(STAMP): requirements.lock pyproject.toml | .venv/bin/uv
	@echo "==> installing the locked dependencies"
	@$(BIN)/uv pip install --python $(BIN)/python --require-hashes -r requirements.lock \
	    || { echo "==> uv could not; trying pip" >&2; $(BIN)/python -m pip install --require-hashes -r requirements.lock; }
	@echo "==> installing forethought"
	@$(BIN)/uv pip install --python $(BIN)/python --quiet --offline --no-deps --no-build-isolation -e .
	@touch $@
