"""What a model file says of its input is read back exactly, or refused."""

from typing import Any

import pytest

from mlzsl.cli.errors import UsageError
from mlzsl.imaging.preprocessing import Preprocessing


@pytest.mark.parametrize("size", [1, 64, 224, 4096])
def test_reads_back_what_it_wrote(size: int) -> None:
    assert Preprocessing.from_json(Preprocessing(size=size).to_json()) == Preprocessing(size=size)


@pytest.mark.parametrize("size", [0, -1, 4097, 2.5, "224", None, True])
def test_refuses_sizes_that_are_none(size: Any) -> None:
    with pytest.raises(UsageError, match="image size"):
        Preprocessing(size=size)


@pytest.mark.parametrize(
    "fields", [{}, {"size": 64}, {"size": 64, "fit": "crop"}, [], None, {"size": 64, "fit": "squash", "x": 1}]
)
def test_refuses_what_it_does_not_know(fields: Any) -> None:
    with pytest.raises(UsageError, match="not supported"):
        Preprocessing.from_json(fields)
