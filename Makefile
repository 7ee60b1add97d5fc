# Five commands, the same at home and in CI. Nothing here needs root; `make install` needs python >= 3.11 with venv.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore $(BIN)/python -m pip
QUICK := not training and not slow and not docker and not kubernetes
# Those that need an engine or a GPU, break off what they measure, or take minutes are run by hand; docs/ says how.
BY_HAND := $(addprefix benchmarks/,containers.py soak_kills.py gpu.py grpo_step.py training_rate.py \
  results.py results_tables.py ship_model.py fixed_names.py)
BENCHMARKS := $(filter-out $(BY_HAND),$(wildcard benchmarks/*.py))

.DEFAULT_GOAL := help
.PHONY: help install quickstart test lint style types imports docs gates bench clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

install: $(STAMP) ## Install chaosgym with everything it needs into .venv

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than Python 3.11; install it or name one, as in: make install PYTHON=python3.11" >&2; exit 3; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "error: no venv module; as root: apt-get install python3-venv" >&2; exit 3; }
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

quickstart: $(STAMP) ## Break services, train a small model on it, show that it got better (under 15 minutes)
	$(BIN)/chaosgym quickstart

test: $(STAMP) ## Run the fast tests and those on real sandboxes, a few minutes
	$(BIN)/python -m pytest -q -m '$(QUICK)'

lint: style types imports ## Check style, types and the one-way flow of imports

style: $(STAMP)
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/pyright --warnings

imports: $(STAMP)
	$(BIN)/lint-imports

docs: $(STAMP) ## Write the generated parts of docs/ anew
	$(BIN)/python -m chaosgym.cli.reference
	$(BIN)/python -m chaosgym.faults.docs
	$(BIN)/python -m chaosgym.scenarios.schema

gates: $(STAMP) ## Prove every shipped scenario, broken and whole, and write scenarios/README.md (up to an hour)
	$(BIN)/chaosgym scenario check --live --report scenarios/README.md

bench: $(STAMP) ## Measure; each benchmark prints its table
	@set -e; for file in $(BENCHMARKS); do echo "== $$file"; $(BIN)/python $$file; done

clean: ## Remove .venv, caches and builds; runs/ stays
	rm -rf .venv dist build .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
