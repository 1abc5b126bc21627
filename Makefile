# Each target makes .venv and installs what it needs: nothing but Python 3.11+, make and pip must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SNAKEMAKE := $(BIN)/snakemake
WORKERS ?= $(shell nproc 2>/dev/null || echo 2)

# Versions that passed all tests; `make test CONSTRAINTS=` takes the newest of everything instead.
CONSTRAINTS ?= constraints.txt
# The tests of a file share what they make. Files that take long come first.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: help demo theory cluster-demo test check soak bench bench-quick conformance lint numbers measures docs constraints clean
help:
	@echo "make demo    run the demo experiment, with its pages"
	@echo "make theory  run the theory experiment: when temperature scaling fails like log k"
	@echo "make cluster-demo  run a tiny grid on a SLURM cluster of two nodes that it starts on this host, and stops"
	@echo "make test    the unit tests and a tiny grid, with ruff and import-linter (4 minutes on two cores, installation included)"
	@echo "make check   all other linters and tests: reruns, kills, SLURM, browser, packages; of long trials a sample (20 minutes)"
	@echo "make soak    all tests, with every long trial: kills, edits, SLURM, benchmarks, published cells (two hours)"
	@echo "make bench   how fast it is, compared with others: fills in benchmarks/README.md (most of an hour, on an idle machine)"
	@echo "make bench-quick  the same with small sizes, which shows that the benchmarks run (a few minutes)"
	@echo "make conformance  which public implementations find the best temperature (half an hour; resumes)"
	@echo "make lint    ruff, import-linter, mypy, hadolint, snakefmt, check-jsonschema, snakemake --lint, make numbers, the measures"
	@echo "make numbers check that every number on the pages is the one in results/published"
	@echo "make measures  how short the ways in the code are: files to read, lines, strings that climb floors"
	@echo "make docs    build the documentation as a site, in site/index.html"
	@echo "make constraints  test with the newest of every dependency, and write constraints.txt"
	@echo "make clean   remove the environment and caches (results stay)"

# What an extra of pyproject.toml needs, e.g. .venv/.installed-check.
$(VENV)/.installed-%: pyproject.toml constraints.txt .ci/install.py
	@$(PYTHON) .ci/install.py $(VENV) $* $(CONSTRAINTS)
	@touch $@

demo: $(VENV)/.installed-workflow
	$(BIN)/halobench run --config 'run=[demo]'
	@echo "Open results/index.html. For the tests of growth: make theory"

theory: $(VENV)/.installed-workflow
	$(BIN)/halobench run --config 'run=[theory]'
	@echo "Open results/index.html."

cluster-demo: $(VENV)/.installed-slurm
	$(BIN)/python tests/cluster/one_host.py -- $(BIN)/halobench run --workflow-profile profiles/slurm \
		--resources gpu=3 --halobench-slurm-init-seconds-before-status-checks 2 \
		--configfile workflow/experiments/tiny.yaml
	@echo "Look at results/figures/tiny/summary.png; \`$(BIN)/halobench show noisy/mlp/mixup2/seed0\` shows a cell and its logs."

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Look at site/index.html (\`$(BIN)/mkdocs serve\` shows it in a browser, with its search)."

numbers: $(VENV)/.installed-workflow
	$(BIN)/python docs/published.py

measures:
	$(PYTHON) benchmarks/measures.py

lint: $(VENV)/.installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python docs/published.py
	$(BIN)/python benchmarks/measures.py --check
	$(BIN)/mypy
	$(BIN)/hadolint Containerfile
	$(BIN)/snakefmt --check --compact-diff Snakefile workflow
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@# One complaint is expected: rules name no conda environment, since jobs run the halobench of the main process.
	$(SNAKEMAKE) --lint 2>&1 | awk '{said = said $$0 "\n"} /^Lints for|^Congratulations/ {ran = 1} \
		/^    \* / && !/Specify a conda environment or container/ {bad = 1} END {if (bad || !ran) {printf "%s", said; exit 1}}'

test: $(VENV)/.installed-test
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	$(BIN)/lint-imports
	$(PYTEST) tests/smoke tests/unit -m "not process"

check: lint
	$(PYTEST) tests/workflow tests/cluster tests/cuda tests/browser tests/project tests/others tests/unit -m "process or not unit"

soak: $(VENV)/.installed-check
	HALOBENCH_SOAK=1 $(PYTEST) -rA --durations=20

# Benchmarks that time the workflow start `snakemake`: it must be the one of .venv.
bench: $(VENV)/.installed-bench
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/bench.py $(TOPICS)

bench-quick: $(VENV)/.installed-bench
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/bench.py --quick $(TOPICS)

# Each implementation is installed into an environment of its own, in build/conformance.
conformance: $(VENV)/.installed-workflow
	$(BIN)/python benchmarks/conformance/run.py $(NAMES)

# Local builds, such as torch's for processors, have versions of their own: their minor release is the bound.
constraints:
	$(MAKE) VENV=build/newest CONSTRAINTS= test check
	build/newest/bin/python -m pip freeze --all --exclude-editable --exclude pip \
		| sed -E 's/==([0-9]+\.[0-9]+)\..*\+.*/==\1.*/' > constraints.new
	mv constraints.new constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build dist src/*.egg-info
