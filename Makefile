# Restock: each target sets up what it needs. `make` alone lists them.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test check format bench lock clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo: $(READY) ## the main job on real data, then the service; ARGS="--fast --no-serve --json" are passed on
	@$(BIN)/restock demo $(ARGS)

# In their own order, which begins with the long files: those of the most tests first would leave the long ones to the end.
test: $(READY) ## all tests, two files at a time
	@$(BIN)/pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(READY) ## format, lint, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY) ## rewrite the code in the house format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(READY) ## the quick form of every benchmark
	@$(BIN)/python -m benchmarks --run

lock: $(READY) ## write the installed versions to requirements.txt
	@$(BIN)/pip freeze --exclude-editable | sed -E 's/\+cpu$$//' | grep -vE '^(pip|setuptools)==' > requirements.txt

clean: ## remove the environment, caches and everything that runs have written
	rm -rf $(VENV) .restock .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One resolution: torch is pinned in the same command as what depends on it, so that no second build is fetched.
$(READY): requirements.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
