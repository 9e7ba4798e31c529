# `make demo` and `make test` are each all that a fresh machine needs: they make the environment first.
# Another Python: make PYTHON=python3.12 test

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.9
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	--constraint requirements/constraints.in --custom-compile-command "make lock"

.DELETE_ON_ERROR:
.PHONY: help demo demo-bundle test boot-test lint types format lock docs phone clean

help:
	@echo "make demo         learn, package, run and show findings on generated images"
	@echo "make test         lint, types and all tests; says what it skips and why"
	@echo "make boot-test    flash a card, boot it in an emulated board, cut its power, update it"
	@echo "make lint types   the checks alone;  make format  applies the formatter"
	@echo "make docs         write the generated reference again"
	@echo "make demo-bundle  train the small bundle that ships with the package again"
	@echo "make phone        build the phone app's scripts again; only this needs Node"
	@echo "make lock         resolve the requirements again"
	@echo "make clean        remove what these made"

demo: $(VENV)/.project
	$(BIN)/scanwright demo

demo-bundle: $(VENV)/.project
	$(BIN)/python -m trainer.demo.build

test: lint types $(VENV)-tflite-runtime/.requirements
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# Needs root, qemu-system-arm, qemu-user-static, binfmt-support, arch-test, mmdebstrap, systemd-container, buildah, mtools,
# mosquitto and dcmtk; the first time it makes Debian systems, which takes minutes and is kept in ~/.cache/scanwright.
boot-test: $(VENV)/.project
	$(BIN)/python -m pytest -m boot -s tests/integration

lint: $(VENV)/.project
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/hadolint Dockerfile.arm64

types: $(VENV)/.project
	$(BIN)/mypy

format: $(VENV)/.project
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.project
	$(BIN)/python docs/reference/generate.py

phone:
	cd edge/phone && npm ci --ignore-scripts && node build.mjs

# Pins stay as they are where they still fit; delete a file of requirements/ first to have all of it renewed.
lock: $(BIN)/pip
	$(BIN)/pip install --quiet uv==$(UV_VERSION)
	$(COMPILE) --group build -o requirements/build.txt
	$(COMPILE) pyproject.toml -o requirements/edge.txt
	$(COMPILE) pyproject.toml --extra tflite-runtime -o requirements/tflite-runtime.txt
	$(COMPILE) pyproject.toml --extra trainer --extra onnx --extra monitor --extra flash --extra dev -o requirements/dev.txt

clean:
	rm -rf $(VENV) $(VENV)-tflite-runtime build dist scanwright-demo .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/.project: $(VENV)/.requirements pyproject.toml
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.requirements: requirements/dev.txt | $(BIN)/pip
	$(BIN)/pip install --require-hashes --requirement $<
	touch $@

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "make: $(PYTHON) is missing or not Python 3.11 to 3.13; give one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "make: $(PYTHON) cannot make environments: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The interpreter under its older name needs numpy 1 and Python 3.11 at most, so it has a place of its own.
$(VENV)-tflite-runtime/.requirements: requirements/tflite-runtime.txt | $(BIN)/pip
	$(PYTHON) -m venv $(VENV)-tflite-runtime
	if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; \
		then $(VENV)-tflite-runtime/bin/pip install --require-hashes --requirement $<; fi
	touch $@
