# make demo: set up and run the main job. make test: set up and pass all tests.
# Needs Python 3.12 or newer and make; everything else is installed into .venv from the lock file.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.12 python3.13 python3.14 python3; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 12))' >/dev/null 2>&1 && { echo $$p; break; }; done)
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1

# tests run in two processes, a file whole in one of them: fixtures of a file are made once
SPREAD := -n 2 --dist loadfile

.PHONY: demo test quick lint clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.ready
	$(BIN)/vvuq-twin run studies/virtual_glioma/study.yaml --out runs/virtual_glioma

test: lint
	$(BIN)/python -m pytest -q $(SPREAD)

quick: lint
	$(BIN)/python -m pytest -q $(SPREAD) -m "not slow"

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "vvuq_twin needs Python 3.12 or newer; name one with 'make PYTHON=/path/to/python3.12'"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
