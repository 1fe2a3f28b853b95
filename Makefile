# Every target makes what it needs first; see .ci/setup.
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo test lint molecule playbooks bench clean

help:
	@echo 'make demo    the whole story on a throw-away fleet (root, or a Docker engine you may use)'
	@echo 'make test    linters, type checks and all tests (root)'
	@echo 'make lint    linters and type checks only'
	@echo 'make molecule  the scenarios of the published playbooks (root)'
	@echo 'make playbooks  the one-file modules, put together from playbooks/parts'
	@echo 'make bench   the figures of the documentation, measured here (root)'
	@echo 'make clean   remove caches and build output'

demo:
	@.ci/setup demo
	@$(BIN)/guard demo

test: lint
	@.ci/tests
	$(scenarios)

# The fleet of the scenarios ends with this, also when it fails or is interrupted; see molecule/shared/fleet.py.
scenarios = ANSIBLE_HOME=$(CURDIR)/.ansible $(BIN)/molecule test --all --no-command-borders

molecule:
	@.ci/setup test
	$(scenarios)

lint:
	@.ci/setup test
	$(BIN)/python playbooks/assemble.py --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mypy --strict molecule/shared/fleet.py
	$(BIN)/ansible-lint -qq --offline --profile production playbooks molecule integrations/ansible

playbooks:
	$(BIN)/python playbooks/assemble.py

bench:
	@.ci/setup test
	$(BIN)/python -m bench

clean:
	rm -rf dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .ansible
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
