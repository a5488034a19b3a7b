# Two commands on a fresh machine: `make demo` and `make test`. Each makes the virtual environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTO_VENV := .venv-proto
# Generated code refuses a protobuf runtime older than its generator: generate with the oldest supported one.
GRPC_TOOLS := grpcio-tools==1.80.0
PROTOS := $(shell find proto -name '*.proto' | sort)
GEN := hamlet_core/wire/_gen
# More than the cores of a small machine: most tests wait for what others do in their own time.
WORKERS ?= 4

.PHONY: help install demo backends test unit pythons lint types imports check proto proto-check docs docs-check site bench clean
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

$(STAMP): pyproject.toml requirements-dev.txt $(wildcard plugins/*/pyproject.toml) examples/hamlet-audit/pyproject.toml
	@echo 'installing into $(VENV), once: a minute or two'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

install: $(STAMP) ## make .venv with the agent, its plugins and the development tools

demo: $(STAMP) ## two meshes of two organisations exchange services
	$(BIN)/hamlet demo $(ARGS)

backends: $(STAMP) ## find or make the real Consul, etcd, kube-apiserver and their tools (once; minutes) that tests run against
	-$(BIN)/python tests/backends/install.py all

test: backends ## every test under this Python; what a missing backend keeps from running is said at the end
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --ignore tests/packaging/test_pythons.py $(ARGS)

unit: $(STAMP) ## the tests that need no process of their own
	$(BIN)/python -m pytest -n $(WORKERS) tests/unit $(ARGS)

pythons: $(STAMP) ## the wheels under every other Python that they claim and this machine has
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup tests/packaging/test_pythons.py $(ARGS)

lint: $(STAMP) ## ruff, formatting included
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## mypy --strict
	$(BIN)/mypy hamlet_core $(wildcard plugins/*/src/*) examples/hamlet-audit/src/hamlet_audit bench docs/generate
	cd examples/hamlet-etcd && MYPYPATH=src:../.. ../../$(BIN)/mypy

imports: $(STAMP) ## the import contracts of pyproject.toml
	$(BIN)/lint-imports

check: lint types imports proto-check docs-check site ## everything that needs no test run

$(PROTO_VENV)/.installed: Makefile
	$(PYTHON) -m venv $(PROTO_VENV)
	$(PROTO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check '$(GRPC_TOOLS)' googleapis-common-protos
	@touch $@

# $(1): the folder that receives the generated modules
define generate
	rm -rf $(1) && mkdir -p $(1)
	$(PROTO_VENV)/bin/python -m grpc_tools.protoc -Iproto \
	  -I$$($(PROTO_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
	  --python_out=$(1) --pyi_out=$(1) $(PROTOS)
	find $(1) -type d -exec touch {}/__init__.py ';'
endef

proto: $(PROTO_VENV)/.installed ## regenerate hamlet_core/wire/_gen from proto/
	$(call generate,$(GEN))

proto-check: $(PROTO_VENV)/.installed ## fail when the generated code is not what proto/ says
	@$(call generate,$(PROTO_VENV)/gen)
	diff -r -x __pycache__ $(PROTO_VENV)/gen $(GEN)

docs: $(STAMP) ## regenerate the reference pages of docs/ from the code
	$(BIN)/python -m docs.generate

docs-check: $(STAMP) ## fail when a reference page is not what the code says
	@rm -rf build/reference && $(BIN)/python -m docs.generate build/reference
	@cd build/reference && for page in *; do diff "../../docs/$$page" "$$page" || stale=1; done; \
	  test -z "$$stale" || { echo 'docs/ is out of date: run `make docs`'; exit 1; }

# The variable keeps the theme from printing its opinion of another release of mkdocs.
site: $(STAMP) ## build the documentation site into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict

bench: $(STAMP) ## measurements, each beside a bare reference in the same run
	$(BIN)/python -m bench $(ARGS)

clean: ## remove what make made
	rm -rf $(VENV) $(PROTO_VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
