# Two commands for a newcomer: `make demo` and `make test`.
#   make demo ARGS="--seconds 20 --json"
#   make test PYTHON=python3.8 VENV=.venv-3.8
#   make test ARGS="-k mqtt -x"

SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?=
ARGS ?=
# Tests at once: most wait for a process or a clock.
JOBS ?= 3

# The build tools' own warnings say nothing to who installs.
PIP := PYTHONWARNINGS=ignore $(VENV)/bin/python -m pip --disable-pip-version-check --quiet
CONSTRAIN := $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))

.PHONY: demo test soak lint types check clean system gstreamer systemd-analyze node-red broker

demo: $(VENV)/.installed | broker
	@$(VENV)/bin/edge demo $(ARGS)

test: $(VENV)/.installed-test | system
	@$(VENV)/bin/python -m pytest -n $(JOBS) $(ARGS)

soak: $(VENV)/.installed-test | system
	@$(VENV)/bin/python -m pytest -m soak --timeout 7200 $(ARGS)

lint: $(VENV)/.installed-lint
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .

types: $(VENV)/.installed-lint
	@$(VENV)/bin/mypy

check: lint types test

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

# What no Python package brings: the broker and its clients, and ffmpeg, which makes the tests'
# videos. Nothing is asked where everything is there already.
system:
	@missing=; \
	PATH="$$PATH:/usr/sbin:/usr/local/sbin"; \
	command -v mosquitto >/dev/null || missing="$$missing mosquitto"; \
	command -v mosquitto_sub >/dev/null || missing="$$missing mosquitto-clients"; \
	command -v ffmpeg >/dev/null || missing="$$missing ffmpeg"; \
	$(call apt_install,$$missing)

# What only some of the camera tests need, which are skipped without it: an OpenCV with GStreamer,
# that of the system's own Python, and GStreamer's RTSP server.
gstreamer:
	@missing=; \
	/usr/bin/python3 -c 'import cv2' 2>/dev/null || missing="$$missing python3-opencv"; \
	for package in $(addprefix gstreamer1.0-,plugins-base plugins-good plugins-bad libav) \
	    python3-gi gir1.2-gst-rtsp-server-1.0; do \
	  dpkg -s $$package >/dev/null 2>&1 || missing="$$missing $$package"; \
	done; \
	$(call apt_install,$$missing)

# What only the tests of the units need, which are skipped without it.
systemd-analyze:
	@missing=; command -v systemd-analyze >/dev/null || missing=systemd; \
	$(call apt_install,$$missing)

# What only the test of the Node-RED example needs, which is skipped without it.
node-red:
	@npm install --prefix .node-red --no-audit --no-fund --silent node-red@4

# The demo also runs on a broker in Python where mosquitto cannot be installed.
broker: $(VENV)/.installed
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin"; \
	command -v mosquitto >/dev/null || $(VENV)/bin/python -c 'import amqtt' 2>/dev/null || \
	$(MAKE) --no-print-directory system || \
	{ echo "going on without it: installing amqtt, a broker in Python"; $(PIP) install 'amqtt>=0.11'; }

$(VENV)/bin/python:
	@missing=; $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing=python3-venv; \
	$(call apt_install,$$missing)
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@# Ubuntu 20.04's own pip (20.0) does not know the wheels of today.
	@$(PIP) install --upgrade 'pip>=23'

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "installing edge and what it needs (once, about a minute)"
	@$(PIP) install $(CONSTRAIN) --editable '.[laptop]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	@echo "installing edge and what its tests need (once, about a minute)"
	@$(PIP) install $(CONSTRAIN) --editable '.[laptop,test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-lint: pyproject.toml | $(VENV)/bin/python
	@$(PIP) install $(CONSTRAIN) --editable '.[laptop,test,lint]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-test

# $(call apt_install,packages): as root or through sudo; else one line that says what to do.
define apt_install
packages="$(strip $(1))"; \
if [ -n "$$packages" ]; then \
  if [ "$$(id -u)" = 0 ]; then sudo=; \
  elif command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then sudo=sudo; \
  else echo "please install first, as root: apt-get install -y$$packages" >&2; exit 1; fi; \
  command -v apt-get >/dev/null || { \
    echo "please install with your package manager:$$packages" >&2; exit 1; }; \
  echo "installing$$packages"; \
  $$sudo apt-get update -qq && \
  DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$packages >/dev/null; \
fi
endef
