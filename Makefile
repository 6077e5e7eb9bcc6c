# Every target makes what it needs: the environment follows the lock, `.venv` is rebuilt when the lock changes.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow check format lock golden docs bench clean
.DEFAULT_GOAL := test

# Many processes start in the tests; each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.venv/.stamp: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Potstill needs Python 3.11 or newer; call make with PYTHON=/path/to/it.")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/.stamp  ## the main job on the embedded digits, ending in a report
	$(BIN)/potstill run digits:quickstart
	$(BIN)/potstill analyze runs/digits-quickstart.sweep.json --quiet
	$(BIN)/potstill report runs/digits-quickstart.sweep.json --out report

test: .venv/.stamp  ## the tests that take under five minutes together
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: .venv/.stamp  ## the long ones too
	$(BIN)/python -m pytest -n auto --dist loadfile -m "slow or not slow"

check: .venv/.stamp  ## what CI runs before the demo
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright
	$(MAKE) test

format: .venv/.stamp
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: .venv/.stamp  ## newest versions within the ranges of pyproject.toml, hashes for every platform
	$(BIN)/uv pip compile pyproject.toml --group dev --extra timm --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --upgrade --output-file requirements.lock

golden: .venv/.stamp  ## write the snapshots of the public surface anew
	$(BIN)/python -m tests.golden

docs: .venv/.stamp  ## the documentation as a site, into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: .venv/.stamp  ## what starting and training cost on this machine, into benchmarks/results/
	$(BIN)/python -m benchmarks

clean:
	rm -rf .venv runs report site
