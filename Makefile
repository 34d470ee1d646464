# make run    everything on this machine: console, workers, engine, PostgreSQL, Redis (data in var/)
# make demo   the same, with a demonstration organisation
# make test   every check and test
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: run demo test lint conformance help
.DEFAULT_GOAL := help

help:
	@sed -n '1,3s/^# //p' Makefile

run: $(VENV)/run.installed
	@exec $(PY) -m impadmin.supervise

demo: $(VENV)/run.installed
	@exec $(PY) -m impadmin.supervise --demo

test: $(VENV)/test.installed
	@bash tests/run.sh

lint: $(VENV)/test.installed
	@bash tests/run.sh lint

conformance: $(VENV)/test.installed
	@$(PY) -m tests.conformance

$(PY):
	@bash .ci/venv "$(PYTHON)" $(VENV)

$(VENV)/run.installed: requirements.txt $(PY)
	@echo "Installing the pinned requirements into $(VENV) ..."
	@$(PY) -m pip install --disable-pip-version-check --no-input -r requirements.txt
	@touch $@

$(VENV)/test.installed: requirements-test.txt $(VENV)/run.installed
	@echo "Installing the test requirements into $(VENV) ..."
	@$(PY) -m pip install --disable-pip-version-check --no-input -r requirements-test.txt
	@touch $@
