# Two commands: `make quickstart` and `make test`. Each sets itself up; a second run reuses everything.
#
# TORCH picks the build of torch. The default is a CPU build; on a GPU machine, for instance:
#   make quickstart TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cu130"
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev

.PHONY: quickstart test lint clean

quickstart: $(STAMP)
	$(BIN)/varscale run studies/quickstart.yaml

test: $(DEV_STAMP) lint
	$(BIN)/python -m pytest

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(STAMP): pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] < (3, 13) else "varscale needs Python 3.11 or 3.12; set PYTHON=python3.11")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet $(TORCH)
	$(BIN)/pip install --quiet --editable .
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .varscale .mypy_cache .ruff_cache .pytest_cache
