# Each target makes .venv and installs what it needs: nothing but Python 3.11+, make and pip must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: help demo test soak lint report clean
help:
	@echo "make demo    run the demo experiment and build its report"
	@echo "make test    lint, then run the tests"
	@echo "make soak    the tests of reruns and faults with as many trials as it takes (half an hour)"
	@echo "make lint    ruff, snakefmt, snakemake --lint"
	@echo "make report  rebuild results/report.html"
	@echo "make clean   remove the environment and caches (results stay)"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "halobench needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/halobench run --quiet rules host --config 'run=[demo]'
	@$(MAKE) --no-print-directory report
	@echo "Look at results/figures/demo/summary.png and results/report.html; tables are in results/tables/demo."

report: $(VENV)/.installed
	$(SNAKEMAKE) --report results/report.html --report-stylesheet workflow/report/style.css

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	$(SNAKEMAKE) --lint

test: lint
	$(BIN)/python -m pytest -n $(WORKERS)

soak: $(VENV)/.installed-test
	HALOBENCH_SOAK=1 $(BIN)/python -m pytest -n $(WORKERS) -m 'faults or rerun' -rA --durations=20

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache build dist src/*.egg-info
