# Commands for developers. Each target first creates or updates the virtual environment .venv as far
# as it needs it. Every target can be repeated.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
SOURCES := setup.py $(shell find csrc -type f)
FORMATTED := $(shell find csrc tests examples -name '*.cpp' -o -name '*.h' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh')

# Compiles the extension in place. Prints the compiler's output if it fails, otherwise the line of
# setup.py that says for which devices it was built.
COMPILE = mkdir -p build && echo "compiling, a few minutes the first time ..." && \
	{ $(BIN)/python setup.py build_ext --inplace > build/log 2>&1 || { cat build/log; exit 1; }; } && \
	grep "^sparsetrain: " build/log

.PHONY: build test demo docs fuzz bench lint tidy sanitize matrix cuda-archs test-gpu bench-gpu clean

# Creates .venv, compiles the extension in place and installs the package in editable mode.
build: $(VENV)/.built $(VENV)/.installed

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What setup.py needs to compile.
$(VENV)/.requirements: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check "setuptools>=77" ninja "torch>=2.11,<2.16"
	touch $@

$(VENV)/.built: $(VENV)/.requirements $(SOURCES)
	@$(COMPILE)
	touch $@

# Installs again when the dependencies or the version change. Compiles first, because pip would
# compile without a word.
$(VENV)/.installed: pyproject.toml sparsetrain/version.py | $(VENV)/.built
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable .
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[test]"
	touch $@

$(VENV)/.docs-installed: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[docs]"
	touch $@

demo: build
	$(BIN)/sparsetrain train
	@echo "A page with these results: $(BIN)/sparsetrain train --report report.html" \
		"(after pip install plotly jinja2 scipy)"

# The test suite, in two processes.
test: build $(VENV)/.test-installed
	$(BIN)/python -m pytest -n 2

# The documentation in build/docs, with an API reference from the docstrings. Warnings are errors.
docs: build $(VENV)/.docs-installed
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --nitpicky --fresh-env --quiet docs build/docs
	@echo "Open build/docs/index.html"

# 100,000 random convolution and pruning calls against the oracles.
fuzz: build $(VENV)/.test-installed
	$(BIN)/python tests/fuzz/fuzz.py --cases 100000 --jobs 2

# Benchmarks of the CPU kernels and of a training step.
bench: build $(VENV)/.test-installed
	$(BIN)/python benchmarks/conv.py
	$(BIN)/python benchmarks/prune.py
	$(BIN)/python benchmarks/train_step.py

# Formatting, linters, types, stubs against the compiled module, and rules of imports.
lint: build $(VENV)/.test-installed
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest sparsetrain._C sparsetrain.accel.core
	$(BIN)/lint-imports

# clang-tidy on the C++ files without torch, in minutes. csrc/torch is left out, because its headers
# alone take longer than all other files together.
tidy: $(VENV)/.test-installed
	ls csrc/kernels/cpu/*.cpp csrc/choice/*.cpp csrc/accel/*.cpp | xargs -n 4 -P 2 sh -c \
		'$(BIN)/clang-tidy --quiet "$$@" -- -std=c++20' sh

# C++ tests under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, and under
# valgrind if it is installed.
sanitize: build $(VENV)/.test-installed
	$(BIN)/python -m pytest -v tests/cpp/test_core.py

# Builds and tests all supported combinations of torch, compiler, build and CUDA. The results are in
# build/matrix.
matrix: $(VENV)/.test-installed
	$(BIN)/python tests/project/matrix.py

# Compiles for all NVIDIA GPUs since Turing, with PTX for later ones. Needs no GPU.
cuda-archs: $(VENV)/.requirements
	@TORCH_CUDA_ARCH_LIST="7.5;8.0;8.6;9.0;10.0;12.0+PTX" && export TORCH_CUDA_ARCH_LIST && $(COMPILE)

# The next two targets need a GPU, nvcc and a PYTHON with torch and the dependencies of the extra
# "test". They install nothing.
# Tests on the GPU, then compute-sanitizer.
test-gpu:
	$(PYTHON) tests/gpu/on_gpu.py test

# Fits the costs of backend="auto" to the GPU, then benchmarks on it.
bench-gpu:
	$(PYTHON) tests/gpu/on_gpu.py bench

# Removes .venv and everything that was built.
clean:
	rm -rf build $(VENV) sparsetrain/*.so *.egg-info
