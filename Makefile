# Two commands on a fresh machine that has Python 3.11 and make: `make demo` and `make test`. README.md says what they do.
VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
OUT := chaosd-out

.PHONY: demo test e2e lint cluster cluster-down conformance figures schema docs site lock clean

demo: $(VENV)/runtime ## the main job on the embedded sandbox, with a report
	$(BIN)/chaosd run experiments/soak.yaml --cluster sandbox --out $(OUT)

test: $(VENV)/dev lint ## everything that needs only Python
	$(BIN)/pytest -m "not e2e" --numprocesses=4 --dist=worksteal

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: $(VENV)/dev ## the tests on a real cluster: KUBECONFIG's, or the one of tests/testbed
	tests/e2e/run $(BIN)

cluster: ## start the real cluster of tests/testbed, to play with
	$(PYTHON) tests/testbed/cluster.py up

cluster-down: ## take it down; nothing is left
	$(PYTHON) tests/testbed/cluster.py down

figures: $(VENV)/dev ## the measurements of docs/figures.md; takes long
	$(BIN)/python -m benchmarks

schema: $(VENV)/runtime ## write the experiments' JSON Schema anew
	$(BIN)/chaosd schema experiment > experiments/experiment.schema.json
	$(BIN)/chaosd schema verdict > docs/verdict.schema.json
	$(BIN)/chaosd schema report > docs/report.schema.json
	$(BIN)/chaosd schema gate > docs/gate.schema.json
	$(BIN)/chaosd schema api > docs/openapi.json

docs: $(VENV)/runtime ## write the documents that are made from the code anew
	$(BIN)/chaosd disruptions --markdown > docs/disruptions.md
	$(BIN)/chaosd disruptions --rules > charts/chaosd/files/rights.yaml
	$(BIN)/python charts/values_table.py charts/chaosd
	$(BIN)/python -c 'from chaosd.report import metrics; print(metrics.markdown(), end="")' > docs/metrics.md
	$(BIN)/python -m dashboards
	$(BIN)/python -m website

site: $(VENV)/dev ## the documentation as a site, in build/site; fails where a link leads nowhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lock: ## pin the dependencies anew
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml requirements/build.in -o requirements/runtime.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml --extra postgres --constraint requirements/runtime.txt -o requirements/image.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  requirements/build.in --constraint requirements/runtime.txt -o requirements/build.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml requirements/build.in --extra dev -o requirements/dev.txt

clean:
	rm -rf $(VENV) $(OUT)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("chaosd needs Python 3.11 or later: set PYTHON") if sys.version_info < (3, 11) else 0'
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime: $(VENV)/bin/python requirements/runtime.txt pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	touch $@

$(VENV)/dev: $(VENV)/runtime requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	touch $@
