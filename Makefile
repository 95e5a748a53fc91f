# Everything runs in .venv; `make demo` and `make test` are all a newcomer needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lint bench

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/recdistill demo

test: install
	$(BIN)/python -m pytest

lint: install
	$(BIN)/ruff check recdistill tests benchmarks
	$(BIN)/mypy

bench: install
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done
