# setup, demo and test need Python >= 3.11 with venv, and make; no root, no conda.

SHELL := /bin/bash
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers
ENTRIES := benchmarks/entries.tsv
# About half of the tests by time: tests/cluster mostly waits.
BESIDE := tests/cluster tests/dataset tests/training
# Not the venv's own, should it be active.
PYTHON := $(shell PATH="$(subst $(BIN):,,$(PATH))" command -v python3 || echo python3)

# Jobs of Snakemake start "python" by name: the venv has to come first.
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help setup demo test format clean peers table speed system-packages pytest pytest-beside
.DEFAULT_GOAL := help

help:
	@echo "make setup            make .venv with everything the workflow needs"
	@echo "make demo             enhance the embedded map EMD-3488 and evaluate it"
	@echo "make test             all tests and checks"
	@echo "make format           format the code"
	@echo "make peers            make $(PEERS) with the programs that the metrics are compared with"
	@echo "make table            enhance the test entries and score them with these programs (needs data/)"
	@echo "make speed            measure time and memory of the enhancement against the published way"
	@echo "make system-packages  install what the tests need from the system (root and apt only)"
	@echo "make clean            remove .venv and caches; results, downloads and maps stay"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "cryoready: error: Python >= 3.11 is needed, $(PYTHON) is not; name another: make PYTHON=python3.13 setup"; exit 1; }
	@$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || \
		{ echo "cryoready: error: $(PYTHON) has no venv; on Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	@$(VENV)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV): some minutes, once"
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: setup
	snakemake results/EMD-3488_emready.mrc results/EMD-3488_emready.png results/EMD-3488_evaluation.html
	@echo
	@echo "enhanced map:     $(CURDIR)/results/EMD-3488_emready.mrc"
	@echo "before and after: $(CURDIR)/results/EMD-3488_emready.png"
	@echo "is it better?     $(CURDIR)/results/EMD-3488_evaluation.html"

test: setup
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow
	mypy
	lint-imports
	snakemake --lint
	@echo "pytest: $(BESIDE) beside the others; shown when they end"
	@$(MAKE) --no-print-directory --jobs 2 pytest pytest-beside

pytest:
	@pytest $(BESIDE:%=--ignore=%)

pytest-beside:
	@log=$$(mktemp); pytest $(BESIDE) > $$log 2>&1; code=$$?; cat $$log; rm $$log; exit $$code

format: setup
	ruff check --fix .
	ruff format .
	snakefmt Snakefile workflow

# Each package is asked for only where what it brings is missing.
system-packages:
	@missing=""; \
	$(PYTHON) -c "import ensurepip, venv" 2>/dev/null || missing="$$missing python3-venv"; \
	command -v git >/dev/null || missing="$$missing git"; \
	command -v chromium >/dev/null || missing="$$missing chromium fonts-dejavu-core"; \
	command -v mmseqs >/dev/null || missing="$$missing mmseqs2"; \
	for program in slurmctld slurmd slurmdbd; do \
		command -v $$program >/dev/null || missing="$$missing $$program"; \
	done; \
	command -v sbatch >/dev/null || missing="$$missing slurm-client"; \
	command -v munged >/dev/null || missing="$$missing munge"; \
	command -v mariadbd >/dev/null || missing="$$missing mariadb-server"; \
	if [ -z "$$missing" ]; then \
		echo "system packages: nothing is missing"; \
	elif [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "system packages: not root, or no apt; please install by other means:$$missing"; \
	else \
		apt-get update -qq && apt-get install -qq --yes --no-install-recommends $$missing; \
	fi

# Apart from .venv: the peers must not decide which versions the workflow gets.
peers: $(PEERS)/.installed

$(PEERS)/.installed:
	$(PYTHON) -m venv --clear $(PEERS)
	@echo "*" > $(PEERS)/.gitignore
	$(PEERS)/bin/python -m pip install --quiet cctbx-base==2025.11 pandas jqscore==0.2.0 gemmi mrcfile
	@touch $@

# Each test entry of the sheet (id, map, model, resolution, split): one target and one --entry.
table: setup peers
	snakemake $$(awk -F'\t' '$$5 == "test" { print "results/" $$1 "_emready.mrc" }' $(ENTRIES)) \
		--config entries=$(ENTRIES)
	$(PEERS)/bin/python benchmarks/score_with_peers.py $$(awk -F'\t' '$$5 == "test" \
		{ print "--entry", $$1, $$3, $$4, $$2, "results/" $$1 "_emready.mrc" }' $(ENTRIES))

# About an hour on two cores; on a machine with a GPU also its figures.
speed: setup
	python benchmarks/inference.py

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
