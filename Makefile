# Two commands: `make quickstart` and `make test`. Each sets itself up; a second run reuses everything.
#
# TORCH_BUILD picks the build of torch: cpu, or one for GPUs such as cu130. ARGS goes to `varscale run`.
#   make quickstart TORCH_BUILD=cu130 ARGS="--set resources.gpus_per_worker=1"
PYTHON ?= python3
TORCH_VERSION := 2.13.0
TORCH_BUILD ?= cpu
ARGS ?=
BASE ?= HEAD
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(TORCH_BUILD)
DEV_STAMP := $(VENV)/.installed-dev-$(TORCH_BUILD)

.PHONY: quickstart test lint same clean

quickstart: $(STAMP)
	$(BIN)/varscale run studies/quickstart.yaml $(ARGS)

# Two processes, which take a file at a time: what a file's tests share is made once.
test: $(DEV_STAMP) lint
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder tests

lint: $(DEV_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Does this tree train as another commit does, to the last bit? make same BASE=main
same: $(DEV_STAMP)
	$(BIN)/python benchmarks/same.py $(BASE)

# The index configured for pip may hold the build already; PyTorch's own index has all of them.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] < (3, 13) else "varscale needs Python 3.11 or 3.12; try make PYTHON=python3.11")'
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "torch==$(TORCH_VERSION)+$(TORCH_BUILD)" 2> /dev/null || \
	  $(BIN)/pip install --quiet --extra-index-url https://download.pytorch.org/whl/$(TORCH_BUILD) "torch==$(TORCH_VERSION)+$(TORCH_BUILD)"
	$(BIN)/pip install --quiet --editable .
	rm -f $(VENV)/.installed-*
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
