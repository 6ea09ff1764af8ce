# Targets set up what they need in .venv, in this folder, and leave the rest of the machine alone.
#   make run ARGS="--bits 8"      make test ARGS="-k codecs"      make PYTHON=python3.12 test

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
RUN_PYTHON := $(BIN)/python

# A Python that somebody asked for must be the one in .venv; the default one only makes it.
ASKED := $(if $(filter file,$(origin PYTHON)),,$(PYTHON))
READY = $(VENV)/.ready-$(1)$(if $(ASKED),-$(notdir $(ASKED)))

.DEFAULT_GOAL := help
.PHONY: help run test lint format bench matrix clean
.NOTPARALLEL:

help:
	@echo "make run      simulate a real ResNet-50 on two designs, live    (ARGS: options of dpred-sim run)"
	@echo "make test     run the tests                                     (ARGS: options of pytest)"
	@echo "make lint     check format, style and types"
	@echo "make format   format the code"
	@echo "make matrix   run every workload on every topology"
	@echo "make bench    run the benchmarks"
	@echo "make clean    remove .venv and everything else that was made; results stay"
	@echo "make PYTHON=/path/to/python3.11 ... to choose the Python (3.11 or newer)"

run: $(call READY,onnx)
	@$(RUN_PYTHON) -m dpred_sim run workloads/resnet50_thin.py \
		--topology dpred_stripes_ddr4 --baseline dadiannao_ddr4 --live $(ARGS)

test: $(call READY,test)
	@$(RUN_PYTHON) -m pytest -n 2 $(ARGS)

matrix: $(call READY,test)
	@$(RUN_PYTHON) -m pytest -n 2 -m matrix $(ARGS)

lint: $(call READY,dev)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(RUN_PYTHON) -m mypy

format: $(call READY,dev)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(call READY,onnx)
	@for file in benchmarks/*.py; do echo "== $$file"; $(RUN_PYTHON) "$$file" $(ARGS) || exit 1; done

clean:
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find dpred_sim tests workloads benchmarks -name __pycache__ -prune -exec rm -rf {} +

# The extras of each kind of use. The stamp is written last: what was interrupted is done again.
$(call READY,onnx): EXTRAS := onnx
$(call READY,test): EXTRAS := onnx,plots,tflite,trace,tables,test
$(call READY,dev): EXTRAS := dev

$(foreach use,onnx test dev,$(call READY,$(use))): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { [ -z "$(ASKED)" ] && [ -x $(RUN_PYTHON) ]; } || { \
		echo "no $(PYTHON) here: choose a Python with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@if ! $(RUN_PYTHON) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || { [ -n "$(ASKED)" ] && \
			[ "$$($(PYTHON) -V 2>&1)" != "$$($(RUN_PYTHON) -V 2>&1)" ]; }; then \
		$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
			echo "dpred_sim needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1):" \
				"choose one with make PYTHON=/path/to/python3.11" >&2; exit 1; }; \
		$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
			echo "$(PYTHON) comes without venv or pip: install them (Debian, Ubuntu: apt install python3-venv)" >&2; \
			exit 1; }; \
		echo "making $(VENV) with $$($(PYTHON) -V 2>&1)" >&2; \
		$(PYTHON) -m venv --clear $(VENV) >&2 || exit 1; \
	fi
	@echo "installing dpred-sim[$(EXTRAS)] into $(VENV)" >&2
	@$(RUN_PYTHON) -m pip install -qq --disable-pip-version-check --editable '.[$(EXTRAS)]' >&2
	@touch $@
