"""What several rooms' tests share: where the evaluation kit is, and skipping without it."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kit() -> Path:
    """The folder of the evaluation kit (real weights, photos, vectors), named by MLZSL_KIT."""
    folder = os.environ.get("MLZSL_KIT")
    if not folder:
        pytest.skip("needs the evaluation kit: set MLZSL_KIT to its folder")
    if not (Path(folder) / "README.md").is_file():
        pytest.fail(f"MLZSL_KIT={folder}: no kit there (README.md is missing)")
    return Path(folder)
