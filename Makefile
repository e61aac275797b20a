# Each target sets up what it needs in .venv and is safe to repeat.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
SOURCES := setup.py $(shell find csrc -type f)
FORMATTED := $(shell find csrc tests examples -name '*.cpp' -o -name '*.h' -o -name '*.inl' -o -name '*.cu' -o -name '*.cuh')

# Shows the compiler's output only when it fails, else the one line that says what is built.
COMPILE = mkdir -p build && echo "compiling, a few minutes the first time ..." && \
	{ $(BIN)/python setup.py build_ext --inplace > build/log 2>&1 || { cat build/log; exit 1; }; } && \
	grep "^sparsetrain: " build/log

.PHONY: build test demo fuzz bench lint tidy sanitize matrix cuda-archs test-gpu bench-gpu clean

build: $(VENV)/.built

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Dependencies change when pyproject.toml does; sources only need the compiler.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --disable-pip-version-check "setuptools>=77" ninja "torch>=2.11,<2.16"
	@$(COMPILE)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable .
	touch $@ $(VENV)/.built

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	@$(COMPILE)
	touch $@

$(VENV)/.test-installed: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[test]"
	touch $@

demo: build
	$(BIN)/python examples/train.py
	@echo "A page with these results: $(BIN)/python examples/train.py --report report.html" \
		"(after pip install plotly jinja2 scipy)"

test: build $(VENV)/.test-installed
	$(BIN)/python -m pytest -n 2

fuzz: build $(VENV)/.test-installed
	$(BIN)/python tests/fuzz/fuzz.py --cases 100000 --jobs 2

bench: build $(VENV)/.test-installed
	$(BIN)/python benchmarks/conv.py
	$(BIN)/python benchmarks/prune.py
	$(BIN)/python benchmarks/train_step.py

lint: build $(VENV)/.test-installed
	$(BIN)/clang-format --dry-run --Werror $(FORMATTED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Minutes: every file anew. The seam is left out, as torch's headers take longer than all of these.
tidy: $(VENV)/.test-installed
	ls csrc/kernels/cpu/*.cpp csrc/choice/*.cpp csrc/accel/*.cpp | xargs -n 4 -P 2 sh -c \
		'$(BIN)/clang-tidy --quiet "$$@" -- -std=c++20' sh

# The core under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer, odd shapes under
# valgrind where it is installed.
sanitize: build $(VENV)/.test-installed
	$(BIN)/python -m pytest -v tests/cpp/test_core.py

matrix: $(VENV)/.test-installed
	$(BIN)/python tests/project/matrix.py --log docs/matrix.txt

# For every GPU since Turing, and those to come.
cuda-archs: $(VENV)/.installed
	@TORCH_CUDA_ARCH_LIST="7.5;8.0;8.6;9.0;10.0;12.0+PTX" && export TORCH_CUDA_ARCH_LIST && $(COMPILE)

# Both need a GPU, nvcc and a Python with torch and the test extra; nothing is downloaded.
test-gpu:
	$(PYTHON) tests/gpu/on_gpu.py test

bench-gpu:
	$(PYTHON) tests/gpu/on_gpu.py bench

clean:
	rm -rf build $(VENV) sparsetrain/*.so *.egg-info
