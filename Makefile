# Each target makes .venv and installs what it needs: nothing but Python 3.11+, make and pip must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: help demo theory cluster-demo test soak bench bench-quick conformance lint numbers docs clean
help:
	@echo "make demo    run the demo experiment, with its pages"
	@echo "make theory  run the theory experiment: when temperature scaling fails like log k"
	@echo "make cluster-demo  run a tiny grid on a SLURM cluster of two nodes that it starts on this host, and stops"
	@echo "make test    lint, then run the tests, of long trials a sample"
	@echo "make soak    all tests, with every long trial: kills, edits, SLURM, benchmarks, published cells (two hours)"
	@echo "make bench   how fast it is, compared with others: fills in benchmarks/README.md (most of an hour, on an idle machine)"
	@echo "make bench-quick  the same with small sizes, which shows that the benchmarks run (a few minutes)"
	@echo "make conformance  which public implementations find the best temperature (half an hour; resumes)"
	@echo "make lint    ruff, import-linter, mypy, hadolint, snakefmt, check-jsonschema, snakemake --lint, make numbers"
	@echo "make numbers check that every number on the pages is the one in results/published"
	@echo "make docs    build the documentation as a site, in site/index.html"
	@echo "make clean   remove the environment and caches (results stay)"

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "halobench needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[workflow]'
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	touch $@

$(VENV)/.installed-slurm: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[slurm]'
	touch $@

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/halobench run --config 'run=[demo]'
	@echo "Open results/index.html. For the tests of growth: make theory"

theory: $(VENV)/.installed
	$(BIN)/halobench run --config 'run=[theory]'
	@echo "Open results/index.html."

cluster-demo: $(VENV)/.installed-slurm
	$(BIN)/python tests/cluster/one_host.py -- $(BIN)/halobench run --workflow-profile profiles/slurm \
		--resources gpu=3 --halobench-slurm-init-seconds-before-status-checks 2 \
		--configfile workflow/experiments/tiny.yaml
	@echo "Look at results/figures/tiny/summary.png; \`$(BIN)/halobench show noisy/mlp/mixup2/seed0\` shows a cell and its logs."

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	touch $@

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Look at site/index.html (\`$(BIN)/mkdocs serve\` shows it in a browser, with its search)."

numbers: $(VENV)/.installed
	$(BIN)/python docs/published.py

lint: $(VENV)/.installed-test numbers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python docs/words.py
	$(BIN)/mypy
	$(BIN)/hadolint Containerfile
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@# One complaint is expected: rules name no conda environment, since jobs run the halobench of the main process.
	$(SNAKEMAKE) --lint 2>&1 | awk '{said = said $$0 "\n"} /^Lints for|^Congratulations/ {ran = 1} \
		/^    \* / && !/Specify a conda environment or container/ {bad = 1} END {if (bad || !ran) {printf "%s", said; exit 1}}'

test: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

soak: $(VENV)/.installed-test
	HALOBENCH_SOAK=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -rA --durations=20

# Benchmarks that time the workflow start `snakemake`: it must be the one of .venv.
bench: $(VENV)/.installed-bench
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/bench.py $(TOPICS)

bench-quick: $(VENV)/.installed-bench
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/bench.py --quick $(TOPICS)

# Each implementation is installed into an environment of its own, in build/conformance.
conformance: $(VENV)/.installed
	$(BIN)/python benchmarks/conformance/run.py $(NAMES)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build dist src/*.egg-info
