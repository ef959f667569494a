# A fresh machine needs Python 3.11 or later with pip, and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
COMMA := ,
# The images of Kaggle's sessions, the current and the next one. Each has a virtual environment and a constraints file.
IMAGES := kaggle kaggle-next
KERNEL_TESTS := tests/artifact tests/data tests/evaluation tests/hub tests/inference tests/kernels tests/metrics \
	tests/models tests/runs tests/training tests/dispatch/test_entry.py tests/dispatch/test_mounts.py \
	tests/shards/test_resume.py

# The static page; Node is in .venv.
PAGE := app/web
NPM := PATH="$(abspath $(BIN)):$$PATH" npm --prefix $(PAGE)

.PHONY: help install app check-app demo test test-kaggle $(IMAGES:%=test-%-image) lint format docs clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

install: $(READY)  ## install into .venv

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is older than 3.11; choose another with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(1)/bin/uv pip install --quiet --compile-bytecode --python $(1)/bin/python --constraint $(2) --editable '.[$(3)]'
	@touch $(1)/.ready
endef

$(READY): pyproject.toml constraints.txt
	$(call make_venv,$(VENV),constraints.txt,train$(COMMA)dev)

$(DOCS_READY): $(READY)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[train,dev,docs]'
	@touch $@

$(IMAGES:%=.venv-%/.ready): .venv-%/.ready: pyproject.toml constraints-%.txt
	$(call make_venv,.venv-$*,constraints-$*.txt,train$(COMMA)test)

demo: $(READY)  ## synthesize a dataset and train on it as a kernel does; writes demo/model
	rm -rf demo
	$(BIN)/chexvision shards synthesize --out demo/shards --images 1600 --size 128 --seed 7
	$(BIN)/chexvision dispatch --model densenet --on local --preset smoke --set data.image_size=96 --set 'training.phases=[{epochs: 4, lr: 1e-3, min_lr: 1e-5, warmup_epochs: 0.5, freeze: none}]' --data ./demo/shards --to ./demo/model --run-dir demo/run

app: $(READY)  ## build the static page from its locked packages into app/web/dist
	$(NPM) ci
	$(NPM) run build

check-app: app  ## fail unless the committed build of the page is the one of its source
	@test -z "$$(git status --porcelain -- $(PAGE)/dist)" \
		|| { git status --short -- $(PAGE)/dist; echo "error: $(PAGE)/dist is not the build of its source; commit it"; exit 1; }

test: $(READY)  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-kaggle: $(IMAGES:%=test-%-image)  ## run the kernel's tests with the versions of Kaggle's current and next image

$(IMAGES:%=test-%-image): test-%-image: .venv-%/.ready
	.venv-$*/bin/python -m pytest -n 2 --dist worksteal $(KERNEL_TESTS)

lint: $(READY)  ## ruff, mypy --strict, the layers of the packages, the size of the modules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.check_tree

format: $(READY)  ## let ruff fix and format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(DOCS_READY)  ## build the documentation into site/
	$(BIN)/mkdocs build --strict

clean:  ## remove the outputs of the other targets
	rm -rf demo runs site $(PAGE)/node_modules $(VENV) $(IMAGES:%=.venv-%)
