"""Fixtures that tests of several packages share: the evaluation kit, and a small model file."""

import os
from pathlib import Path

import pytest
from hypothesis import settings
from tinymodel import TinyModel, write_tiny_model

from mlzsl.imaging import transient

settings.register_profile("the same cases in every run", derandomize=True, deadline=None)
settings.load_profile("the same cases in every run")


transient.RETRY_DELAYS = (0.0, 0.0)  # seconds: no test waits before a read is tried again


@pytest.fixture(scope="session")
def kit() -> Path:
    """The folder of the evaluation kit (real weights, photos, vectors), named by MLZSL_KIT."""
    folder = os.environ.get("MLZSL_KIT")
    if not folder:
        pytest.skip("needs the evaluation kit: set MLZSL_KIT to its folder")
    if not (Path(folder) / "README.md").is_file():
        pytest.fail(f"MLZSL_KIT={folder}: no kit there (README.md is missing)")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A model file of a small real network, and its scores by the formulas; read it only."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model.onnx")
