# make demo    fresh machine to finished demo
# make test    fresh machine to test verdict
# make ui      the Dagster UI on the same instance
# make lint    style checks
# make lock    resolve the dependencies again (needs uv)
#
# Everything happens in .venv; needed are Python 3.11 to 3.13, pip and make. PYTHON=... picks an interpreter.

VENV := .venv
READY := $(VENV)/.ready
export DAGSTER_HOME ?= $(CURDIR)/dagster_home
export PIP_DISABLE_PIP_VERSION_CHECK := 1

IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
CANDIDATES := $(PYTHON) python3 python3.13 python3.12 python3.11 python

.PHONY: demo test ui lint lock setup clean

demo: $(READY)
	@$(VENV)/bin/astrid demo

test: $(READY)
	@$(VENV)/bin/python -m pytest -n 2

ui: $(READY)
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" dg dev

lint: $(READY)
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	    --only-binary :all: --no-strip-extras --extra test --upgrade --quiet pyproject.toml -o requirements.lock

setup: $(READY)

# The environment is made without pip (a venv may lack ensurepip) and filled by a pip from outside
# (which may belong to the system and be externally managed: it only ever writes into .venv).
# Wheels only, each checked against its hash; then the checkout itself, without touching the network.
$(READY): requirements.lock pyproject.toml
	@set -e; \
	for python in $(CANDIDATES); do \
	    if "$$python" -c '$(IN_RANGE)' 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then echo "no Python 3.11 to 3.13 found; name one: make PYTHON=/path/to/python" >&2; exit 1; fi; \
	for pip in "$$found -m pip" "python3 -m pip" pip3 pip; do \
	    if $$pip --version >/dev/null 2>&1; then installer="$$pip"; break; fi; \
	done; \
	if [ -z "$$installer" ]; then echo "no pip found; install it (python3-pip)" >&2; exit 1; fi; \
	$(VENV)/bin/python -c '$(IN_RANGE)' 2>/dev/null || "$$found" -m venv --clear --without-pip $(VENV); \
	echo "installing into $(VENV) ..."; \
	$$installer --python $(VENV)/bin/python install --quiet --require-hashes --only-binary :all: -r requirements.lock; \
	$$installer --python $(VENV)/bin/python install --quiet --no-index --no-deps --no-build-isolation -e .; \
	touch $@

clean:
	rm -rf $(VENV)
