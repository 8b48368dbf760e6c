"""A cache gives back what was stored under a key; a damaged file is as good as none."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_gives_nothing_or_what_was_saved(tmp_path: Path, place: float, value: int, cut: bool) -> None:
    path, record = tmp_path / "a.safetensors", {"classes": ["dog", "cat"], "accuracy": 0.1}
    save_cached(path, "key", ARRAYS, record)
    content = bytearray(path.read_bytes())
    index = int(place * len(content))
    content[index] ^= value
    path.write_bytes(content[:index] if cut else content)
    if (found := load_cached(path, "key")) is not None:
        assert found[1] == record
        np.testing.assert_array_equal(found[0]["features"], ARRAYS["features"])
