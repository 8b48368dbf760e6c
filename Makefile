# make demo: set up and run the main job.   make test: lint, types, layers, tests.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := cli graph imaging metrics train export calibration engines runtime

.PHONY: demo test lint types layers unit format clean

# The main job, each step taking what the one before has just written. It needs no download after the install.
demo: .venv/installed
	$(BIN)/mlzsl-train
	$(BIN)/mlzsl-export --labels coco80
	$(BIN)/mlzsl-scenes demo --count 60 --seed 7
	$(BIN)/mlzsl-infer demo/images --picture demo/tagged.png
	$(BIN)/mlzsl-verify model.onnx --against checkpoint.safetensors --photos demo/images
	@echo
	@echo "The demo is done. Its results:"
	@echo "  checkpoint.safetensors  the trained system (mlzsl-train)"
	@echo "  model.onnx              its graph frozen for the 80 labels of COCO (mlzsl-export)"
	@echo "  tags.jsonl              the tags of the pictures in demo/images (mlzsl-infer)"
	@echo "  demo/tagged.png         the tagged pictures to look at"
	@echo "Try: source .venv/bin/activate; mlzsl-export --labels voc20; mlzsl-infer your/photos --engine model.onnx"

test: lint types layers unit

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed
	$(BIN)/mypy $(foreach package,$(PACKAGES),-p mlzsl.$(package))

layers: .venv/installed
	$(BIN)/lint-imports

unit: .venv/installed
	$(BIN)/python -m pytest

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,calibrate,cpu,rtx,dev]'
	@touch $@

clean:
	rm -rf build mlzsl-cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
