# Everything a newcomer needs. `make demo` and `make test` set up their own environments.
PYTHON ?= python3
VENV := .venv
TEST_VENV := .venv-test
DEMO := build/demo

.DEFAULT_GOAL := help
.PHONY: help demo demo-schedule vllm test quick check bench clean

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
	@$(TEST_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,embed,export-check]'
	@touch $@

demo:  ## install, then curate the sample data: about two minutes, no key, no model
	@started=$$(date +%s); $(MAKE) --no-print-directory $(VENV)/ready; \
	echo "installed in $$(( $$(date +%s) - started )) s"
	@$(VENV)/bin/curate demo $(DEMO)

demo-schedule: $(VENV)/ready  ## the second act: a schedule, a worker, a closed gate, a refresh: about a minute
	@$(VENV)/bin/curate demo --schedule $(DEMO)-schedule

vllm: $(TEST_VENV)/ready  ## build vLLM's own environment: minutes and 3.5 GB the first time
	@$(TEST_VENV)/bin/curate vllm install

test: $(TEST_VENV)/ready vllm check  ## lint, types and every test
	@bash tests/system_packages.sh
	$(TEST_VENV)/bin/python -m pytest -n auto --dist loadfile

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
	$(TEST_VENV)/bin/python -m tests.benchmarks.vllm
	$(TEST_VENV)/bin/python -m tests.benchmarks.embeddings

clean:  ## remove environments and everything built
	rm -rf $(VENV) $(TEST_VENV) .venv-vllm build dist
