# Needs Python 3.11 or newer and a C compiler (`make ctest` C++ too); all else comes from PyPI into $(VENV).
PYTHON ?= python3
VENV ?= .venv
CC ?= cc
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PYTEST_ARGS ?=
TARGET ?= host
MODELS ?=
THREADS ?= 1 2
PAGE ?= docs/benchmarks.md

BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.ready
PYTEST = $(BIN)/python -m pytest -n $(JOBS) $(PYTEST_ARGS)

# Files whose change calls for another test run, and those that are compiled at installation.
LINKS := edgec/compiler edgec/passes edgec/targets edgec/runtime
SOURCES := $(filter-out $(LINKS), $(shell git ls-files -co --exclude-standard 2>/dev/null || find * -type f -not -path 'build/*'))
NATIVE := $(filter CMakeLists.txt edgec/__init__.py runtime/%, $(SOURCES))
EXISTING = $(wildcard $(1))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: force help setup demo test test-long test-cuda check lint format types ctest bench bench-cuda bless conformance clean

help: ## this list
	@echo "make TARGET   (variables: PYTHON=$(PYTHON) VENV=$(VENV) CC=$(CC) JOBS=$(JOBS) PYTEST_ARGS=)"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

setup: $(READY) ## create the virtual environment: edgec (editable) and its tools

# Dependencies, which need the network, and edgec itself, which does not once they are there.
$(VENV)/.dependencies: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgec needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

# An editable install remembers where each module was: it is renewed when one comes, goes or moves.
$(VENV)/.modules: force
	@mkdir -p $(VENV)
	@find edgec compiler passes targets -name '*.py' | sort > $@.new
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

$(READY): $(VENV)/.dependencies $(VENV)/.modules $(call EXISTING, $(NATIVE))
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY) ## compile examples/digits and run it in a C program
	$(BIN)/edgec compile examples/digits/digits.onnx --target $(TARGET) -o build/demo
	$(CC) -std=c11 -O2 -Ibuild/demo examples/digits/main.c -Lbuild/demo -l:libdigits.a -l:libedgec.a -lm -o build/digits-demo
	build/digits-demo

test: $(READY) ## the tests, without those that take long
	@mkdir -p build
	$(PYTEST)
	@touch build/tested

build/tested: $(READY) $(call EXISTING, $(SOURCES))
	@$(MAKE) --no-print-directory test

test-long: $(READY) ## all tests: fresh installs, emulated targets, the whole acceptance suite, 500 random graphs
	$(PYTEST) -m ''

check: lint types ctest build/tested ## what a change must pass (tests run again only where something changed)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY) ## write the formatting that check expects
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

types: $(READY)
	$(BIN)/mypy

ctest: $(READY) ## build the C runtime and run its tests
	PATH="$(BIN):$$PATH" cmake -S . -B build/runtime -G Ninja -DCMAKE_BUILD_TYPE=Debug
	PATH="$(BIN):$$PATH" cmake --build build/runtime
	PATH="$(BIN):$$PATH" ctest --test-dir build/runtime --output-on-failure -j $(JOBS)

bench: $(READY) ## time models beside other engines and write docs/benchmarks.md: MODELS="a.onnx b" THREADS="1 2" PAGE=
	$(BIN)/python benchmarks/models.py $(MODELS) --threads $(THREADS) $(if $(PAGE),--page $(PAGE))

test-cuda: $(READY) ## what runs on an NVIDIA GPU, on this machine's if it has one; else emulated, for hours
	$(PYTEST) -m '' tests/e2e/test_cuda.py tests/unit/cuda/test_bundle.py tests/onnx -k 'cuda or gpu'

bench-cuda: $(READY) ## time models on an NVIDIA GPU beside PyTorch: MODELS="resnet50.onnx distilbert.onnx"
	$(BIN)/python benchmarks/cuda.py $(MODELS)

bless: $(READY) ## accept the present output as the expected one (golden files); review with git diff
	EDGEC_BLESS=1 $(PYTEST) --bless

conformance: $(READY) ## the official ONNX operator suite through compiled code
	$(PYTEST) -m '' tests/onnx

clean: ## remove build products and the virtual environment
	rm -rf build dist $(VENV) .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
