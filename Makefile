# Everything a newcomer needs. `make demo` and `make test` set up their own environments.
PYTHON ?= python3
VENV := .venv
TEST_VENV := .venv-test
DEMO := build/demo

.DEFAULT_GOAL := help
.PHONY: help demo test quick check bench clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

$(VENV)/ready: pyproject.toml
	@$(PYTHON) -m venv $(VENV)
	@$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

# torch first and pinned: left to a resolver it may bring gigabytes of GPU libraries to a machine without one
$(TEST_VENV)/ready: pyproject.toml
	@$(PYTHON) -m venv $(TEST_VENV)
	@$(TEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(TEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,export-check]'
	@touch $@

demo:  ## install, then curate the sample data: about two minutes, no key, no model
	@started=$$(date +%s); $(MAKE) --no-print-directory $(VENV)/ready; \
	echo "installed in $$(( $$(date +%s) - started )) s"
	@$(VENV)/bin/curate demo $(DEMO)

test: $(TEST_VENV)/ready check  ## lint, types and every test
	$(TEST_VENV)/bin/python -m pytest

quick: $(TEST_VENV)/ready  ## the tests that take seconds
	$(TEST_VENV)/bin/python -m pytest -m "not slow" -q

check: $(TEST_VENV)/ready  ## ruff and mypy --strict
	$(TEST_VENV)/bin/ruff check .
	$(TEST_VENV)/bin/ruff format --check .
	$(TEST_VENV)/bin/mypy

bench: $(TEST_VENV)/ready  ## measure speed and memory; prints ratios side by side
	$(TEST_VENV)/bin/python -m tests.benchmarks.scale
	$(TEST_VENV)/bin/python -m tests.benchmarks.transport
	$(TEST_VENV)/bin/python -m tests.benchmarks.orchestration

clean:  ## remove environments and everything built
	rm -rf $(VENV) $(TEST_VENV) build dist
