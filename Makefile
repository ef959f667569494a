# `make demo` and `make test` are all that a fresh machine needs: Python 3.11+ with pip, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The images that Kaggle's sessions run in, today's and the coming one: an environment and a constraints file each.
IMAGES := kaggle kaggle-next
KERNEL_TESTS := tests/data tests/evaluation tests/hub tests/kernels tests/models tests/runs tests/training \
	tests/dispatch/test_entry.py tests/dispatch/test_mounts.py tests/dispatch/test_token.py tests/shards/test_resume.py

.PHONY: help install demo test test-kaggle $(IMAGES:%=test-%-image) lint format clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(READY)  ## install into .venv

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(1)/bin/uv pip install --quiet --compile-bytecode --python $(1)/bin/python --constraint $(2) --editable '.[train,dev]'
	@touch $(1)/.ready
endef

$(READY): pyproject.toml constraints.txt
	$(call make_venv,$(VENV),constraints.txt)

$(IMAGES:%=.venv-%/.ready): .venv-%/.ready: pyproject.toml constraints-%.txt
	$(call make_venv,.venv-$*,constraints-$*.txt)

demo: $(READY)  ## synthesize a dataset, train on it as a kernel would, leave a model in demo/model
	rm -rf demo
	$(BIN)/chexvision shards synthesize --out demo/shards --images 1600 --size 128 --seed 7
	$(BIN)/chexvision dispatch --model densenet --on local --preset smoke --set data.image_size=96 --data ./demo/shards --to ./demo/model --run-dir demo/run

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest -n 2

test-kaggle: $(IMAGES:%=test-%-image)  ## run the kernel's tests with the versions of Kaggle's image, and of the next

$(IMAGES:%=test-%-image): test-%-image: .venv-%/.ready
	.venv-$*/bin/python -m pytest -n 2 $(KERNEL_TESTS)

lint: $(READY)  ## ruff and mypy --strict
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY)  ## let ruff fix what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:  ## remove what the targets above made
	rm -rf demo runs $(VENV) $(IMAGES:%=.venv-%)
