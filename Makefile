# bainite_fast: `make demo` and `make test` do everything on a fresh machine; the other targets are for development.
#
# Variables: PYTHON (3.11 or newer), VENV, TORCH (what pip installs first), PYTEST_FLAGS, TEST_PROCESSES, CUDA (OFF, AUTO
# or ON), GPU_PYTHON (of gpu-test and gpu-bench: a Python with torch for CUDA).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch
PYTEST_FLAGS ?= -q
CUDA ?= OFF
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
TEST_PROCESSES ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
BUILD := build
comma := ,
SOURCES := $(shell find CMakeLists.txt README.md cpp python -type f -not -name '*.pyc' -not -name '*.so' 2>/dev/null)
CPP_SOURCES := $(shell find cpp -type f \( -name '*.cpp' -o -name '*.hpp' -o -name '*.cu' -o -name '*.cuh' \) 2>/dev/null)
PYTHON_FOLDERS := $(wildcard python tests tools benchmarks)
# From the venv where it has one: a machine without cmake gets the wheel.
CMAKE = $(if $(wildcard $(BIN)/cmake),$(BIN)/cmake,cmake)
CTEST = $(if $(wildcard $(BIN)/ctest),$(BIN)/ctest,ctest)

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

.PHONY: check-tools
check-tools:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is missing or older than 3.11; install python3.11 or newer, or: make PYTHON=/path/to/python" >&2; exit 1; }
	@missing=""; \
	command -v "$${CXX:-g++}" >/dev/null || missing="$$missing g++"; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' \
	  || missing="$$missing python3-dev"; \
	if [ -n "$$missing" ]; then \
	  echo "error: needed to build, and not found:$$missing" >&2; \
	  echo "       on Debian or Ubuntu: sudo apt-get install$$missing" >&2; exit 1; fi

# torch comes first and pinned, so that nothing else chooses a build of it.
$(VENV)/.dependencies: pyproject.toml constraints.txt | check-tools
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install -q --upgrade pip
	$(PIP) install -q -c constraints.txt $(TORCH)
	command -v cmake >/dev/null || $(PIP) install -q cmake
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  > $(VENV)/build-requires.txt
	$(PIP) install -q -c constraints.txt ninja -r $(VENV)/build-requires.txt
	@touch $@

# Without build isolation CMake keeps its build folder, and a change costs seconds.
$(VENV)/.package: $(VENV)/.dependencies $(SOURCES)
	$(PIP) install -q -c constraints.txt --no-build-isolation -C cmake.define.BAINITE_CUDA=$(CUDA) \
	  $(if $(CUDA_ARCHITECTURES),-C cmake.define.CMAKE_CUDA_ARCHITECTURES=$(CUDA_ARCHITECTURES)) ".[all,dev]"
	@touch $@

.PHONY: venv
venv: $(VENV)/.dependencies ## Create .venv with torch and the build tools

.PHONY: build
build: $(VENV)/.package ## Build the package and install it, with every extra, into .venv

.PHONY: demo
demo: build ## Draw a mosaic, segment it, score it, and leave a picture in demo-output/
	$(BIN)/bainite-fast demo --out demo-output --overwrite

.PHONY: test
test: build ## Run the Python tests on the installed package, in TEST_PROCESSES (2) processes
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest tests -n $(TEST_PROCESSES) --dist loadfile \
	  --no-loadscope-reorder $(PYTEST_FLAGS)

.PHONY: lint
lint: build ## ruff, mypy --strict, clang-format
	$(BIN)/ruff check $(PYTHON_FOLDERS)
	$(BIN)/ruff format --check $(PYTHON_FOLDERS)
	$(BIN)/mypy --strict
	$(BIN)/clang-format --dry-run -Werror $(CPP_SOURCES)

.PHONY: format
format: build ## Let ruff and clang-format rewrite what lint complains about
	$(BIN)/ruff check --fix $(PYTHON_FOLDERS)
	$(BIN)/ruff format $(PYTHON_FOLDERS)
	$(BIN)/clang-format -i $(CPP_SOURCES)

.PHONY: check-doctest
check-doctest:
	@echo '#include <doctest/doctest.h>' | "$${CXX:-g++}" -E -x c++ - >/dev/null 2>&1 || { \
	  echo "error: the C++ tests need doctest; on Debian or Ubuntu: sudo apt-get install doctest-dev" >&2; exit 1; }

# $(1): folder, $(2): further CMake options
define run_cpp_tests
	$(CMAKE) -S . -B $(1) -DBAINITE_CUDA=OFF -DBAINITE_BUILD_PYTHON=OFF -DBAINITE_BUILD_TESTS=ON -DBAINITE_WERROR=ON $(2) >/dev/null
	$(CMAKE) --build $(1) -j $(JOBS)
	$(CTEST) --test-dir $(1) --output-on-failure --timeout 600
endef

.PHONY: cpp-test
cpp-test: check-doctest venv ## Run the C++ tests
	$(call run_cpp_tests,$(BUILD)/cpp,-DCMAKE_BUILD_TYPE=Release)

.PHONY: cpp-sanitize
cpp-sanitize: check-doctest venv ## Run the C++ tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call run_cpp_tests,$(BUILD)/cpp-sanitize,-DCMAKE_BUILD_TYPE=RelWithDebInfo -DBAINITE_SANITIZE=address$(comma)undefined)

FUZZ_CASES ?= 1000000
FUZZ_FILES ?= 50000
.PHONY: fuzz
fuzz: check-doctest build ## Damage EBSD files at random: the parser in C++ under the sanitizers, then whole files
	$(CMAKE) -S . -B $(BUILD)/cpp-sanitize -DBAINITE_BUILD_PYTHON=OFF -DBAINITE_BUILD_TESTS=ON -DBAINITE_WERROR=ON \
	  -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBAINITE_SANITIZE=address$(comma)undefined >/dev/null
	$(CMAKE) --build $(BUILD)/cpp-sanitize -j $(JOBS) --target fuzz_text_table
	$(BUILD)/cpp-sanitize/cpp/tests/fuzz_text_table $(FUZZ_CASES) 1
	$(BIN)/python tests/fuzz_ebsd.py $(FUZZ_FILES) 1

.PHONY: cuda-compile
cuda-compile: venv ## Compile the CUDA kernels for every architecture of a release (needs nvcc, no GPU)
	$(CMAKE) -S . -B $(BUILD)/cuda -DBAINITE_CUDA=ON -DBAINITE_BUILD_PYTHON=OFF -DBAINITE_WERROR=ON -DCMAKE_BUILD_TYPE=Release
	$(CMAKE) --build $(BUILD)/cuda -j $(JOBS) --target bainite_cuda

.PHONY: cuda-wheel
cuda-wheel: build ## Build a wheel with the CUDA kernels for every architecture, and test it without a GPU (needs nvcc)
	rm -rf $(BUILD)/cuda-wheel
	$(PIP) wheel -q . --no-build-isolation --no-deps -w $(BUILD)/cuda-wheel -C build-dir=$(BUILD)/cuda-wheel-build \
	  -C cmake.define.BAINITE_CUDA=ON
	BAINITE_FAST_CUDA_WHEEL="$$(echo $(CURDIR)/$(BUILD)/cuda-wheel/*.whl)" $(BIN)/python -m pytest tests/test_cuda_wheel.py \
	  $(PYTEST_FLAGS)

# With any Python that has torch with CUDA and what the package needs: nothing is installed, the kernels for the GPU of this
# machine are built into python/, and what runs is the source tree.
GPU_PYTHON ?= $(BIN)/python
# Not all of tests/: others import what a Python for the GPU need not have.
GPU_TESTS := $(shell grep -l 'mark\.gpu' tests/test_*.py)
GPU_RUN = PYTHONPATH="$(CURDIR)/python:$(CURDIR)/benchmarks$${PYTHONPATH:+:$$PYTHONPATH}" $(GPU_PYTHON)

.PHONY: gpu-build
gpu-build: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(VENV)/.dependencies)
	$(CMAKE) -S . -B $(BUILD)/gpu -DBAINITE_CUDA=ON -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES=native \
	  -DPython_EXECUTABLE="$$(command -v $(GPU_PYTHON))" -Dpybind11_DIR="$$($(GPU_PYTHON) -m pybind11 --cmakedir)"
	$(CMAKE) --build $(BUILD)/gpu -j $(JOBS)
	cp $(BUILD)/gpu/_core*.so python/bainite_fast/

.PHONY: gpu-test
gpu-test: gpu-build ## Build the CUDA kernels here and run the tests marked gpu (needs nvcc and an NVIDIA GPU; GPU_PYTHON=python3)
	$(GPU_RUN) -m pytest $(GPU_TESTS) -m gpu -rs $(PYTEST_FLAGS)

.PHONY: gpu-bench
gpu-bench: gpu-build ## Build the CUDA kernels here and write the tables of the GPU to benchmarks/results (some minutes)
	$(GPU_RUN) -m pytest benchmarks/bench_cuda.py -rs $(PYTEST_FLAGS)

$(VENV)/.peers: $(VENV)/.package
	$(PIP) install -q -c constraints.txt "monai>=1.4" "torchio>=0.20" "pyebsdindex>=0.3.9"
	@touch $@

.PHONY: bench
bench: $(VENV)/.peers ## Run the benchmarks against peers and floors (half an hour; wants a quiet machine)
	$(BIN)/python -m pytest benchmarks --benchmark-only

.PHONY: memory-table
memory-table: build ## Measure the peak memory from 64 Mpx to 10 Gpx
	$(BIN)/python benchmarks/memory_table.py

.PHONY: soak
soak: build ## Kill a run at 20 random moments and resume it; try every property on 10 times as many examples (half an hour)
	BAINITE_FAST_KILLS=20 $(BIN)/python -m pytest tests/test_segment_survives.py $(PYTEST_FLAGS) -k killed
	BAINITE_FAST_EXAMPLES=10 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest tests -m hypothesis -n $(TEST_PROCESSES) \
	  $(PYTEST_FLAGS)

.PHONY: clean
clean: ## Remove what was built, but for .venv
	rm -rf $(BUILD) dist demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	rm -f $(VENV)/.package

.PHONY: distclean
distclean: clean ## Remove .venv too
	rm -rf $(VENV)
