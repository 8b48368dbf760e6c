"""A cache gives back what was stored under a key; a damaged file is as good as none."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from mlzsl.train.extraction.cache import HEADER, load_cached, save_cached

ARRAYS = {"features": np.arange(12, dtype=np.float32).reshape(3, 4)}


def test_arrays_are_read_back_under_their_key_only(tmp_path: Path) -> None:
    save_cached(tmp_path / "a.safetensors", "key", ARRAYS, {"photos": 3})
    found = load_cached(tmp_path / "a.safetensors", "key")
    assert found is not None
    np.testing.assert_array_equal(found[0]["features"], ARRAYS["features"])
    assert found[1] == {"photos": 3}
    assert load_cached(tmp_path / "a.safetensors", "other") is None
    assert load_cached(tmp_path / "none.safetensors", "key") is None


@pytest.mark.parametrize("header", ["[" * 100_000, "[]", "{}", "null", json.dumps({"key": "key", "sha256": "0"})])
def test_a_damaged_header_is_no_cache(tmp_path: Path, header: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(save(ARRAYS, metadata={HEADER: header}))
    assert load_cached(tmp_path / "a.safetensors", "key") is None
