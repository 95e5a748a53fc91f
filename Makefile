# Everything runs in .venv; `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin
# A process per core: most of the time goes to small trainings and to processes that start.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal --durations 20

.PHONY: install demo docs test test-all lint bench reliability clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# The package alone, without what its tests need: half the time until the first report.
.venv/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

demo: .venv/.demo
	$(BIN)/recdistill demo

# The site, into site/; links and anchors are checked.
docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/python docs/cli_reference.py > docs/reference/cli.md
	$(BIN)/python docs/gpu_table.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

test: install
	$(PYTEST) -m 'not long'

# With the long sweeps: every kill point, every number of ranks, the reliability benchmarks, Triton's kernels, the wheel.
test-all: install
	$(PYTEST)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Each benchmark prints its own table and exits non-zero when its budget is missed; one miss does not hide the others.
bench: install
	@status=0; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || status=1; done; exit $$status

# What happens when things go wrong: kills, failed writes, damage, disorder, brokers, bad teachers. Hours at the full numbers.
reliability: install
	@status=0; for file in benchmarks/reliability/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || status=1; done; exit $$status

clean:
	rm -rf .venv
