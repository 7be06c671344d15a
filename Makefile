# Everything a fresh clone needs, with Python 3.11 or newer and make: `make quickstart`, `make test`.

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
RUN ?= runs/quickstart
PYTEST_ARGS ?= -n auto
OVERRIDES ?=
NPM ?= npm
BENCH_ARGS ?= --write
BENCH_PEERS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.r1-installed
INSTALLED_DEV := $(VENV)/.r1-installed-dev
PAGE := r1/serving/page/index.html
PAGE_SOURCES := $(wildcard web/*.*) $(shell find web/src -type f)

.PHONY: help quickstart test test-page page bench bench-peers lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make quickstart   set up, train a tiny R1 from a base model, report on it (about ten minutes)"
	@echo "make test         set up and run the test suite (PYTEST_ARGS='-k engine' for a part)"
	@echo "make test-page    test the chat page: its own tests, and a real browser (chromium)"
	@echo "make page         build the chat page of r1 serve (needs Node.js 20.19 or newer)"
	@echo "make bench        measure against the peers that are there (BENCH_ARGS='--quick steps' for a part)"
	@echo "make bench-peers  set up transformers, TRL, vLLM, llama.cpp and SGLang to compare with (7 GB in .bench/)"
	@echo "make lint         set up and check formatting, lint and types"
	@echo "make format       set up and format the code"
	@echo "make clean        remove the environment and caches (runs/ stays)"
	@echo "PYTHON=python3.12 chooses the interpreter, OVERRIDES='key=value' changes the quickstart"

quickstart: $(INSTALLED) $(PAGE)
	@$(BIN)/r1 run recipes/quickstart.toml output=$(RUN) $(OVERRIDES)
	@echo
	@echo "Report:   $(RUN)/report.html"
	@echo "Figures:  $(RUN)/report.json"
	@echo "Chat:     $(BIN)/r1 chat $(RUN)"

test: $(INSTALLED_DEV) $(PAGE)
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-page: $(INSTALLED_DEV) page
	@cd web && $(NPM) run --silent check && $(NPM) test --silent
	@$(BIN)/python -m pytest $(PYTEST_ARGS) --with browser tests/serving/page

page:
	@command -v $(NPM) >/dev/null || \
		{ echo "$(NPM) not found: the chat page needs Node.js 20.19 or newer with npm" >&2; exit 1; }
	@cd web && $(NPM) ci --no-audit --no-fund --loglevel=error && $(NPM) run --silent build -- --logLevel warn

# Python and the API do without the page, so that nothing here stops the set-up.
$(PAGE): $(PAGE_SOURCES)
	@if command -v $(NPM) >/dev/null; then $(MAKE) --no-print-directory page; else false; fi || \
		echo "The chat page is not built (it needs npm); all else works. Later: make page" >&2

bench: $(INSTALLED_DEV)
	@$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

bench-peers: $(INSTALLED_DEV)
	@$(BIN)/python benchmarks/peers.py $(BENCH_PEERS)

lint: $(INSTALLED_DEV)
	@$(BIN)/ruff format --check r1 tests
	@$(BIN)/ruff check r1 tests
	@$(BIN)/pyright

format: $(INSTALLED_DEV)
	@$(BIN)/ruff format r1 tests
	@$(BIN)/ruff check --fix r1 tests

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -rf web/node_modules r1/serving/page
	find r1 tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer not found: set PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11: set PYTHON=/path/to/python" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "no environment could be made: install Python's venv module (Debian: python3-venv)" >&2; exit 1; }

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[report]'
	@touch $@

$(INSTALLED_DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[report,data,serve,dev]'
	@touch $@ $(INSTALLED)
