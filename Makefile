# Everything you can do here. `make` alone lists it; `make -C <folder>` works from anywhere.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# With ROS 2 sourced, its own python; else the one that requirements/dev.txt was made for.
PYTHON ?= $(shell [ -n "$${ROS_DISTRO:-}" ] && echo python3 || command -v python3.11 || echo python3)
ENV := . tools/env.sh

.PHONY: help setup train-setup demo test gate gate-accept lint types imports check docs-gen bench lock clean distclean

help: ## list what you can do (this)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## make .venv: ROS 2 (sourced, or from pip), vision_msgs, all requirements
	@$(PYTHON) tools/bootstrap.py

train-setup: ## the same, and PyTorch with MMDetection: what `robollm train` and the tests need
	@$(PYTHON) tools/bootstrap.py train

demo: setup ## see it work, on made-up totes
	@$(ENV); python tools/demo.py $(DEMO_ARGS)

test: train-setup ## run all tests (PYTEST_ARGS="-k house -x" narrows)
	@$(ENV); ROS_PYTHON_CHECK_FIELDS=1 python -m pytest --durations=10 $(PYTEST_ARGS)

gate: setup ## is the shipped bundle as good as when it was accepted? (docs/gate.md)
	@$(ENV); python tools/gate.py $(GATE_ARGS)

gate-accept: setup ## make what it does now the gate's baseline (GATE_ARGS=--new-floors: even if worse)
	@$(ENV); python tools/gate.py --accept $(GATE_ARGS)

lint: setup ## ruff, formatting and spelling
	@$(ENV); ruff check && ruff format --check && codespell

types: train-setup ## mypy --strict over robollm and bench
	@$(ENV); mypy --strict robollm bench

imports: train-setup ## which room may import which (import-linter)
	@$(ENV); lint-imports

check: lint types imports ## lint, types and imports

docs-gen: setup ## write what is generated from the code: config and docs
	@$(ENV); robollm generate

bench: train-setup ## measure on this machine, side by side, into results/*.json and the README
	@$(ENV); for one in backbone end_to_end instances startup cameras memory ros_overhead sim_rate; \
	  do python bench/$$one.py; done; python tools/results_table.py

lock: train-setup ## pin in requirements/ what .venv holds now
	@$(ENV); python tools/lock.py

clean: ## remove what builds and tools leave behind
	@rm -rf build install log demo_out *.egg-info .hypothesis .import_linter_cache .mypy_cache \
	  .pytest_cache .ruff_cache .cache/ros_log
	@find robollm bench test tools launch -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## remove .venv and .cache too
	@rm -rf .venv .cache
