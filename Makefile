# Every target makes .venv first where there is none: a Python >= 3.11 and make are all that must be there.

VENV ?= .venv
PYTHONS ?= python3.11 python3.12 python3.13 python3.14 python3
WORKERS ?= auto
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := cyclers,dev,docs
# kernels for GPUs are tested without one, too; their compiler comes for Linux on x86-64
ifeq ($(shell uname -sm),Linux x86_64)
EXTRAS := $(EXTRAS),kernels
endif
BUILD := build

# Real data sets, where they lie beside the clone; tests that need them skip themselves elsewhere.
REMEM_DATA ?= $(abspath $(wildcard ../shared/data))
ifneq ($(REMEM_DATA),)
export REMEM_DATA
endif

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs clean

help:
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 18

install: $(STAMP)  ## virtual environment in .venv, versions of constraints.txt

demo: $(STAMP)  ## train, judge, export and run models on generated data; see out/report.html
	$(BIN)/remem demo --out out

test: $(STAMP)  ## all tests; WORKERS=1 for one process, ARGS="-k early" for some of them
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

lint: $(STAMP)  ## ruff, mypy and the import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@mkdir -p $(BUILD)/types && ln -sfn "$(CURDIR)" $(BUILD)/types/remem
	cd $(BUILD)/types && "$(abspath $(BIN))/mypy" --config-file remem/pyproject.toml -p remem.core -p remem.data -p remem.apps -p remem.serving
	$(BIN)/lint-imports

docs: $(STAMP)  ## docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:  ## what make made, the virtual environment included
	rm -rf $(VENV) $(BUILD) out docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@set -e; if [ ! -x $(BIN)/python ]; then \
	  for python in $(PYTHONS); do \
	    if $$python -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "make: remem needs Python >= 3.11 with venv; none of '$(PYTHONS)' is. Install one, or: make PYTHONS=/path/to/python" >&2; exit 1; \
	  fi; \
	  echo "make: virtual environment $(VENV) from $$found ($$($$found -V))"; \
	  $$found -m venv $(VENV); \
	fi
	@echo "make: installing into $(VENV) (a few minutes the first time)"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
