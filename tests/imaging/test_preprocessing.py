"""The preprocessing of a model file is read back exactly, or refused."""

from typing import Any

import pytest

from mlzsl.cli.errors import UsageError
from mlzsl.imaging.preprocessing import Preprocessing


@pytest.mark.parametrize("size", [1, 64, 224, 4096])
def test_json_round_trip(size: int) -> None:
    assert Preprocessing.from_json(Preprocessing(size=size).to_json()) == Preprocessing(size=size)


@pytest.mark.parametrize("size", [0, -1, 4097, 2.5, "224", None, True])
def test_invalid_sizes_are_refused(size: Any) -> None:
    with pytest.raises(UsageError, match="image size"):
        Preprocessing(size=size)


@pytest.mark.parametrize(
    "fields", [{}, {"size": 64}, {"size": 64, "fit": "crop"}, [], None, {"size": 64, "fit": "squash", "x": 1}]
)
def test_unsupported_preprocessing_is_refused(fields: Any) -> None:
    with pytest.raises(UsageError, match="not supported"):
        Preprocessing.from_json(fields)
