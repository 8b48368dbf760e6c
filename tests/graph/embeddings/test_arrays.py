"""Vectors in `.npy` and `.safetensors` files are looked up by their list of names."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mlzsl.cli.errors import UsageError
from mlzsl.graph.embeddings.opening import open_embeddings
from mlzsl.graph.labels.sets import LabelSet

NAMES = ("cat", "Traffic Light", "hot_dog", "water")
VECTORS = np.arange(16, dtype=np.float64).reshape(4, 4)
LABELS = LabelSet("mine", ("hot dog", "traffic_light"), ("hot_dog.n.02", "traffic_light.n.01"))


def write_npy(folder: Path, vectors: np.ndarray = VECTORS, names: tuple[str, ...] = NAMES) -> str:
    np.save(folder / "vectors.npy", vectors)
    (folder / "vectors.txt").write_text("\n".join(names) + "\n")
    return str(folder / "vectors.npy")


def write_safetensors(folder: Path, names: object = NAMES) -> str:
    metadata = {"names": json.dumps(names)}
    save_file({"embeddings": VECTORS.astype(np.float16)}, folder / "vectors.safetensors", metadata=metadata)
    return str(folder / "vectors.safetensors")


@pytest.mark.parametrize("write", [write_npy, write_safetensors])
def test_labels_get_the_vectors_of_their_names(tmp_path: Path, write: object) -> None:
    embedded = open_embeddings(write(tmp_path)).embed(LABELS, "target")
    np.testing.assert_array_equal(embedded.vectors, VECTORS[[2, 1]].astype(np.float32))
    assert [origin.how for origin in embedded.origins] == ["name", "name"]


def test_safetensors_may_have_their_names_beside_them(tmp_path: Path) -> None:
    save_file({"vectors": VECTORS}, tmp_path / "mine.safetensors")
    (tmp_path / "mine.txt").write_text("\n".join(NAMES))
    embedded = open_embeddings(str(tmp_path / "mine.safetensors")).embed(LABELS, "target")
    np.testing.assert_array_equal(embedded.vectors, VECTORS[[2, 1]])


def test_other_names_or_vectors_are_another_source(tmp_path: Path) -> None:
    first = open_embeddings(write_npy(tmp_path)).source
    renamed = open_embeddings(write_npy(tmp_path, names=("dog", *NAMES[1:]))).source
    changed = open_embeddings(write_npy(tmp_path, VECTORS + 1)).source
    assert (first.name, first.dimension, first.path) == ("vectors.npy", 4, str(tmp_path / "vectors.npy"))
    assert len({first.sha256, renamed.sha256, changed.sha256}) == 3


def test_a_label_without_a_vector_is_named_with_similar_names(tmp_path: Path) -> None:
    labels = LabelSet("mine", ("wate",), (None,))
    with pytest.raises(UsageError, match=r"no vector for the target label\(s\) wate, .*similar to the first are water"):
        open_embeddings(write_npy(tmp_path)).embed(labels, "target")


def with_nan() -> np.ndarray:
    vectors = VECTORS.copy()
    vectors[1, 2] = np.nan
    return vectors


@pytest.mark.parametrize(
    ("vectors", "names", "sentence"),
    [
        (VECTORS, NAMES[:3], "vectors.txt: has 3 names for the 4 vectors of "),
        (VECTORS, ("cat", "CAT", "dog", "water"), "has the name 'cat' twice"),
        (with_nan(), NAMES, "the vector of 'Traffic Light' has a value that is not a finite number"),
        (VECTORS[0], NAMES, r"has an array of float64 \[4\]; expected float vectors \[names, dimension\]"),
        (VECTORS.astype(np.int64), NAMES, "has an array of int64"),
        (np.array([["a", "b"]], dtype=object), NAMES, "is not a readable .npy file of numbers"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    tmp_path: Path, vectors: np.ndarray, names: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        open_embeddings(write_npy(tmp_path, vectors, names)).embed(LABELS, "target")


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x80\x04\x95", b"\x93NUMPY\x01\x00\xff\xff", b"\xff" * 64])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"vectors{suffix}").write_bytes(content)
    with pytest.raises(UsageError, match=f"vectors{suffix}: is not a readable"):
        open_embeddings(str(tmp_path / f"vectors{suffix}")).embed(LABELS, "target")


def test_missing_or_malformed_names_are_one_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "alone.npy", VECTORS)
    with pytest.raises(UsageError, match=r"alone.npy: has no names; write them into .*alone.txt, one a line"):
        open_embeddings(str(tmp_path / "alone.npy")).embed(LABELS, "target")
    with pytest.raises(UsageError, match=r"names in its metadata: .*write a JSON list of names"):
        open_embeddings(write_safetensors(tmp_path, {"a": 1})).embed(LABELS, "target")
    save_file({"a": VECTORS, "b": VECTORS}, tmp_path / "two.safetensors")
    with pytest.raises(UsageError, match="has 2 tensors; expected one"):
        open_embeddings(str(tmp_path / "two.safetensors")).embed(LABELS, "target")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("shape", "dtype"), [("(4, 4", "'<f8'"), (f"({2**62}, 4)", "'<f8'"), ("(0, 4)", "'<f8'"), ("(4, -4)", "'<f8'")]
)
def test_a_header_that_makes_no_sense_is_one_sentence(tmp_path: Path, shape: str, dtype: str) -> None:
    path = Path(write_npy(tmp_path))
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + path.read_bytes()[128:])
    with pytest.raises(UsageError, match=r"is not a readable \.npy file|0 vectors"):
        _ = open_embeddings(str(path)).source


@pytest.mark.filterwarnings("error")
def test_a_number_beyond_float32_is_not_finite(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'water' has a value that is not a finite number"):
        _ = open_embeddings(write_npy(tmp_path, np.where(VECTORS == 15, 1e300, VECTORS))).source


def test_a_name_that_is_no_unicode_has_a_vector_like_others(tmp_path: Path) -> None:
    assert open_embeddings(write_safetensors(tmp_path, ("\udcff", *NAMES[1:]))).source.dimension == 4
