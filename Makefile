# `make run` shows what chaos does; `make test` runs every check. Both set everything up first.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OLDEST := .venv-oldest

.DEFAULT_GOAL := help
.PHONY: help run setup test test-oldest lint gate experiments bench lock clean toxiproxy

help: ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 13

run: setup ## set up, then take the OCAs of one ISP away from a playback backend under load, and judge
	@$(BIN)/chaos run experiments/oca_outage.yaml

setup: $(STAMP) toxiproxy ## make .venv from the lock file, and build the real Toxiproxy when Go is there

$(STAMP): requirements.lock pyproject.toml
	@python=$$(sh scripts/find-python.sh) || exit 1; \
	  echo "setup: $$($$python --version) -> $(VENV)"; \
	  $$python -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Cached in the user's cache folder: built once for all checkouts. Without Go, the embedded proxy does the work.
toxiproxy: $(STAMP)
	@$(BIN)/chaos toxiproxy install --if-possible

test: setup ## set up, then lint, types and every test, end to end with the real Toxiproxy and Locust included
	@$(MAKE) --no-print-directory -j2 lint $(OLDEST)/.installed
	@$(BIN)/python -m pytest -n logical --ignore tests/e2e
	@$(BIN)/python -m pytest -n logical --dist worksteal -m "not alone" tests/e2e
	@$(BIN)/python -m pytest -m alone tests/e2e
	@$(MAKE) --no-print-directory test-oldest

test-oldest: $(OLDEST)/.installed ## the tests of the isolation layer once more, on the oldest Python >= 3.11 of this machine
	@if [ -x $(OLDEST)/bin/python ]; then \
	  echo "chaos.resilience on $$($(OLDEST)/bin/python --version)"; $(OLDEST)/bin/python -m pytest -p no:cacheprovider -q tests/unit/resilience; \
	else \
	  echo "chaos.resilience: there is no older Python here than the one tested already"; \
	fi

# An environment is made only where that is another version than the one everything else runs on.
$(OLDEST)/.installed: $(STAMP)
	@rm -rf $(OLDEST); mkdir $(OLDEST); python=$$(sh scripts/find-python.sh oldest) || exit 1; \
	  if [ "$$($$python --version)" != "$$($(BIN)/python --version)" ]; then \
	    echo "setup: $$($$python --version) -> $(OLDEST)"; \
	    $$python -m venv $(OLDEST) && \
	    $(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	  fi
	@touch $@

lint: $(STAMP) ## style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

gate: setup ## run the quick suite over all experiments (some five minutes), with reports in build/
	@mkdir -p build
	@$(BIN)/chaos gate experiments/ --quick --junit build/gate.xml --json build/gate.json --markdown build/gate.md --journal build/journals

experiments: setup ## run every shipped experiment with its control (about an hour), and write README's table; the worst exit code
	@mkdir -p build
	@code=0; $(BIN)/chaos run experiments/ --control --json build/experiments.json || code=$$?; \
	  $(BIN)/chaos table build/experiments.json --metric playback_availability --into README.md && exit $$code

bench: setup ## measure, and print the tables of docs/benchmarks.md (installs the libraries that are compared with)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@$(BIN)/python -m benchmarks

lock: $(STAMP) ## make the lock files anew from pyproject.toml (for every supported Python)
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra dev \
	  --no-header --no-emit-index-url --no-annotate --upgrade pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --extra bench --constraint requirements.lock \
	  --no-header --no-emit-index-url --no-annotate --upgrade pyproject.toml -o requirements-bench.lock

clean: ## remove what the other targets made here
	@rm -rf $(VENV) $(OLDEST) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
