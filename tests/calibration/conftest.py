"""A small network and photos for the tests of calibration."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from residualmodel import residual_network, write_residual_model
from tinymodel import LABELS, TinyModel, random_images

from mlzsl.calibration.network import Network

COUNT = 60


@pytest.fixture(scope="session")
def network() -> Network:
    return Network(residual_network())


@pytest.fixture
def model(tmp_path: Path) -> TinyModel:
    return write_residual_model(tmp_path / "model.onnx")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of COUNT random images."""
    folder = tmp_path_factory.mktemp("photos") / "photos"
    folder.mkdir()
    for place, image in enumerate(random_images(COUNT, seed=11)):
        Image.fromarray(image).save(folder / f"{place:02}.png")
    return folder


@pytest.fixture(scope="session")
def labelled(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same images with a labels.json: each has the label of its index, and the next."""
    folder = tmp_path_factory.mktemp("labelled")
    shutil.copytree(photos, folder / "images")
    names = [label.name for label in LABELS]
    labels = {f"{place:02}.png": [names[place % 6], names[(place + 1) % 6]] for place in range(COUNT)}
    (folder / "labels.json").write_text(json.dumps(labels))
    return folder
