# Two commands, nothing before them: `make look` opens the page on a sentence, `make test` runs every check.
# Needed: Python 3.10+ with venv and headers, a C++ compiler, make. Node comes from the machine or from PyPI.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Handed to the recipe through the environment, so that quotes and dollars in a text stay text.
export TEXT ?= The animal didn't cross the street because it was too tired
export MODEL ?= minilm

SOURCES := pyproject.toml constraints.txt CMakeLists.txt README.md $(shell find build_backend cpp src web \
	\( -name node_modules -o -name page -o -name __pycache__ -o -name test-results \) -prune -o -type f -print)

# Trained models, each a distribution of its own.
MODELS := $(wildcard models/*/pyproject.toml)
MODEL_FILES := $(shell find models -type f)

.PHONY: look test check sanitize size bench install test-install browser models clean

look: $(VENV)/.installed
	$(BIN)/qkv look --text "$$TEXT" --model "$$MODEL"

test: check
	$(BIN)/python -m pytest

# The kernels without Python: under sanitizers, and compiled for another processor.
sanitize: $(VENV)/.build-tools
	PATH="$(CURDIR)/$(BIN):$$PATH" tests/native/sanitize.sh

# How long a clean build takes, and how large the compiled module is.
size: $(VENV)/.build-tools
	$(BIN)/python benchmarks/build.py

# Speed and memory beside other libraries, about twenty minutes: renews docs/benchmarks.md. `qkv bench --quick` needs no more than PyTorch.
bench: $(VENV)/.bench-installed
	$(BIN)/qkv bench --write docs

$(VENV)/.bench-installed: $(VENV)/.installed pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt --group bench
	touch $@

## The steps of `make test`, each usable by itself.
check: test-install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python build_backend/qkv_build.py npm run check
	$(BIN)/python build_backend/qkv_build.py npm test

install: $(VENV)/.installed

test-install: $(VENV)/.test-installed browser models

models: $(VENV)/.installed
	$(BIN)/qkv models get minilm smollm2

$(VENV)/.python:
	$(PYTHON) -c 'import sys; sys.exit("qkv needs Python 3.10 or newer; this is " + sys.version.split()[0] + ". Name another one: make PYTHON=python3.11 ..." if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet "pip>=25.1"
	touch $@

# The build runs in this environment and keeps its object files, so that a second build compiles only what changed.
$(VENV)/.build-tools: $(VENV)/.python pyproject.toml constraints.txt build_backend/qkv_build.py
	$(PIP) install --quiet -c constraints.txt "scikit-build-core>=0.10" "nanobind>=2.9" cmake ninja
	$(PIP) install --quiet -c constraints.txt $$($(BIN)/python build_backend/qkv_build.py requirements)
	touch $@

$(VENV)/.installed: $(VENV)/.build-tools $(SOURCES) $(MODEL_FILES)
	$(PIP) install --quiet -c constraints.txt --no-build-isolation ".[all]"
	@for model in $(dir $(MODELS)); do $(PIP) install --quiet --no-deps --no-build-isolation "$$model"; done
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed pyproject.toml constraints.txt
	$(PIP) install --quiet -c constraints.txt --group test
	touch $@

# Chromium and fonts for Chinese come through apt where it may; elsewhere the browser tests say what is missing.
browser:
	@if ! command -v chromium >/dev/null || ! fc-list | grep -qi "noto.*cjk"; then \
		if command -v apt-get >/dev/null && { [ "$$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then \
			as_root() { if [ "$$(id -u)" = 0 ]; then "$$@"; else sudo -n "$$@"; fi; }; \
			as_root apt-get update -qq; \
			DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -qq --no-install-recommends \
				chromium fontconfig fonts-noto-core fonts-noto-cjk >/dev/null; \
		fi; \
	fi

clean:
	rm -rf $(VENV) build dist web/node_modules src/qkv/explorer/page
