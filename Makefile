# make demo: install, then train, export, tag and verify on generated photos.
# make test: lint, types, import layers, documentation site, tests.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := $(sort $(notdir $(wildcard src/mlzsl/*)))

.PHONY: demo test lint types layers docs unit format clean

# Each step reads what the one before wrote. After the installation nothing is downloaded.
demo: .venv/installed
	$(BIN)/mlzsl-train
	$(BIN)/mlzsl-export --labels coco80
	$(BIN)/mlzsl-scenes demo --count 60 --seed 7
	$(BIN)/mlzsl-infer demo/images --picture demo/tagged.png
	$(BIN)/mlzsl-verify model.onnx --against checkpoint.safetensors --photos demo/images
	@echo
	@echo "The demo is done. It wrote:"
	@echo "  checkpoint.safetensors  the trained model (mlzsl-train)"
	@echo "  model.onnx              the model for the 80 labels of COCO, its class graph folded (mlzsl-export)"
	@echo "  tags.jsonl              the tags of the photos in demo/images (mlzsl-infer)"
	@echo "  demo/tagged.png         a contact sheet of tagged photos (mlzsl-infer --picture)"
	@echo "Next: source .venv/bin/activate; mlzsl-export --labels voc20; mlzsl-infer path/to/photos"

test: lint types layers docs unit

lint: .venv/installed
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .

types: .venv/installed
	$(BIN)/mypy --no-error-summary $(foreach package,$(PACKAGES),-p mlzsl.$(package))

layers: .venv/installed
	$(BIN)/lint-imports

# Fails on a dead link, a dead anchor, and a page that is not in the navigation.
docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

unit: .venv/installed
	$(BIN)/python -m pytest

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,starter,calibrate,cpu,rtx,dev]'
	@touch $@

# What can be made again; neither .venv nor results.
clean:
	rm -rf build mlzsl-cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
