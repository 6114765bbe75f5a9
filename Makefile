# Everything from a fresh clone: `make demo` and `make test` set up what they need.
SHELL := /bin/bash
.SHELLFLAGS := -e -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: setup demo test bench lint format clean help

# Arguments for the command behind demo, test and bench, e.g. make test ARGS='-k kinematics'
ARGS ?=
# Processes that run tests, each with files of its own.
WORKERS ?= 2
ENV := . scripts/env.sh

setup:  ## Make .venv with all requirements and build the messages (does nothing when current)
	@scripts/setup_env.sh

demo: setup  ## Simulator and policy as ROS nodes: six tasks, dense beside an accelerated policy
	@$(ENV); efficientvla demo $(ARGS)

test: setup  ## Run the test suite
	@$(ENV); python test/ros/interface_build.py
	@$(ENV); OMP_NUM_THREADS=1 scripts/isolated.sh python -m pytest -n $(WORKERS) --dist loadfile $(ARGS)

bench: setup  ## Time the embedded policy, stage by stage
	@$(ENV); efficientvla benchmark --model tabletop-small $(ARGS)

lint: setup  ## Check style, the import rule, package.xml and the comments of the messages
	@$(ENV); ruff check .
	@$(ENV); ruff format --check .
	@$(ENV); python scripts/check_package.py; python scripts/check_imports.py

format: setup  ## Format the Python files
	@$(ENV); ruff check --fix --quiet . || true
	@$(ENV); ruff format .

clean:  ## Remove what setup, build and tests made; the next call makes it anew
	rm -rf .venv build install log *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help:  ## Show this list
	@grep -hE '^[a-z]+:.*## ' $(firstword $(MAKEFILE_LIST)) \
	  | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16
