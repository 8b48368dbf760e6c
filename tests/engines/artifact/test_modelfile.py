"""A model file is complete and unchanged, or refused in one sentence with its name and the remedy."""

import base64
import contextlib
import hashlib

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from safetensors.numpy import save
from tinymodel import manifest, network, random_images, reference_scores, write_tiny_model

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.engines.artifact import modelfile
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest, write_model_file

NETWORK = network()
IMAGES = random_images(2)
SCORES = reference_scores(IMAGES).astype(np.float32)


def with_metadata(serialized: bytes, **entries: str) -> bytes:
    """The model with `metadata_props` as the onnx package writes them; `_` stands for `.` in the keys."""
    model = onnx.load_from_string(serialized)
    for key, value in entries.items():
        model.metadata_props.add(key=key.replace("_", "."), value=value)
    return model.SerializeToString()


def entries_of(path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def refused(path) -> str:
    """The error of reading a file."""
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_a_model_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "model.onnx"
    written = write_model_file(path, NETWORK, manifest(), IMAGES, SCORES)
    assert read_manifest(path) == written == read_manifest(str(path))
    images, scores = read_golden(path)
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(scores, SCORES)


def test_the_onnx_package_loads_the_file(tmp_path):
    path = tmp_path / "model.onnx"
    written = write_model_file(path, NETWORK, manifest(), IMAGES, SCORES)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert Manifest.from_json(entries_of(path)["mlzsl.manifest"], "") == written
    del model.metadata_props[:]
    assert model.SerializeToString() == NETWORK


def test_the_network_hash_is_of_the_bytes_without_our_metadata(tmp_path):
    written = write_model_file(tmp_path / "model.onnx", NETWORK, manifest(), IMAGES, SCORES)
    assert written.network_sha256 == hashlib.sha256(NETWORK).hexdigest()


def test_writing_again_replaces_our_metadata_and_keeps_that_of_others(tmp_path):
    path = tmp_path / "model.onnx"
    serialized = with_metadata(NETWORK, author="somebody")
    first = write_model_file(path, serialized, manifest(), IMAGES, SCORES)
    second = write_model_file(path, path.read_bytes(), replace(first, model="another"), IMAGES[:1], SCORES[:1])
    assert read_manifest(path) == second == replace(first, model="another", golden_sha256=second.golden_sha256)
    assert entries_of(path).keys() == {"author", "mlzsl.manifest", "mlzsl.checksum", "mlzsl.golden"}


def test_metadata_in_the_middle_of_the_file_is_found(tmp_path):
    model = tmp_path / "model.onnx"
    write_model_file(model, NETWORK, manifest(), IMAGES, SCORES)
    appended = model.read_bytes()[len(NETWORK) :]
    model.write_bytes(appended + NETWORK)
    assert read_manifest(model).model == "RGCN-PosVAE"


def test_a_missing_file_a_folder_and_an_empty_file_are_refused(tmp_path):
    assert "no such model file; make one with mlzsl-export" in refused(tmp_path / "model.onnx")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "empty.onnx").touch()
    assert "is empty; re-export it with mlzsl-export" in refused(tmp_path / "empty.onnx")


def test_an_onnx_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(with_metadata(NETWORK, author="somebody"))
    assert "has no manifest (an ONNX file of another program?); re-export it with mlzsl-export" in refused(path)


def test_a_manifest_of_another_network_is_refused(tmp_path, tiny_model):
    path = tmp_path / "model.onnx"
    path.write_bytes(with_metadata(network(labels=5), **_as_keywords(entries_of(tiny_model.path))))
    assert "belongs to another network" in refused(path)


def test_an_edited_manifest_is_refused(tmp_path, tiny_model):
    path = tmp_path / "model.onnx"
    entries = entries_of(tiny_model.path)
    entries["mlzsl.manifest"] = entries["mlzsl.manifest"].replace("zebra", "horse")
    path.write_bytes(with_metadata(NETWORK, **_as_keywords(entries)))
    assert "was changed after it was written" in refused(path)


def test_two_manifests_are_refused(tmp_path, tiny_model):
    path = tmp_path / "model.onnx"
    appended = tiny_model.path.read_bytes()[len(NETWORK) :]
    path.write_bytes(NETWORK + appended + appended)
    assert "has 2 entries for its manifest instead of one" in refused(path)


@pytest.mark.parametrize(
    ("golden", "expected"),
    [
        (None, "has no golden sample"),
        ("?" * 8, "is not base64"),
        (
            base64.b64encode(save({"images": IMAGES, "scores": SCORES})).decode(),
            "is not the one that its manifest names",
        ),
    ],
)
def test_a_missing_or_wrong_golden_sample_is_refused(tmp_path, tiny_model, golden, expected):
    path = tmp_path / "model.onnx"
    entries = entries_of(tiny_model.path) | {"mlzsl.golden": golden}
    path.write_bytes(with_metadata(NETWORK, **_as_keywords({k: v for k, v in entries.items() if v is not None})))
    assert expected in refused(path)


@pytest.mark.parametrize(
    ("images", "scores"),
    [
        (IMAGES[:1], SCORES),
        (IMAGES[:, :16], SCORES),
        (IMAGES[:0], SCORES[:0]),
        (IMAGES, SCORES[:, :3]),
        (IMAGES, SCORES.astype(np.float64)),
        (IMAGES, SCORES + 1),
        (IMAGES, SCORES * np.nan),
    ],
)
def test_a_golden_sample_that_does_not_match_is_never_written(tmp_path, images, scores):
    with pytest.raises(UsageError, match="its golden sample holds"):
        write_model_file(tmp_path / "model.onnx", NETWORK, manifest(), images, scores)
    assert list(tmp_path.iterdir()) == []


def test_a_model_of_more_than_two_gigabytes_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "huge.onnx"
    with open(path, "wb") as file:
        file.truncate(2**31)  # sparse: takes no space
    assert "ONNX files at most 2 GiB" in refused(path)
    monkeypatch.setattr(modelfile, "LARGEST_FILE", 1000)
    with pytest.raises(FailureError, match="ONNX files at most 2 GiB"):
        write_model_file(tmp_path / "model.onnx", NETWORK, manifest(), IMAGES, SCORES)


def test_a_huge_length_allocates_nothing(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a\x3a" + b"\xff" * 8 + b"\x7f" + bytes(100))
    assert "is not an ONNX file, or an incomplete one" in refused(path)


def test_the_number_of_fields_is_bounded(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x0a" * 200_000)
    assert "more than 100,000 fields" in refused(path)


def test_every_truncation_is_refused(tmp_path, tiny_model):
    whole = tiny_model.path.read_bytes()
    path = tmp_path / "model.onnx"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        refused(path)


def test_a_changed_byte_is_refused_or_has_no_effect(tmp_path, tiny_model):
    whole = tiny_model.path.read_bytes()
    path = tmp_path / "model.onnx"
    golden = read_golden(tiny_model.path)
    for place in range(0, len(whole), 5):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place // 5 % 8)
        path.write_bytes(changed)
        try:
            assert read_manifest(path) == tiny_model.manifest
        except UsageError:
            continue
        assert place > len(NETWORK)  # never a byte of the network
        np.testing.assert_array_equal(read_golden(path).images, golden.images)
        np.testing.assert_array_equal(read_golden(path).scores, golden.scores)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.binary(max_size=400))
def test_random_bytes_are_refused(tmp_path, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    refused(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(place=st.floats(0, 1), removed=st.integers(0, 200), inserted=st.binary(max_size=40))
def test_spliced_files_are_refused_or_unchanged(tmp_path, tiny_model, place, removed, inserted):
    whole = tiny_model.path.read_bytes()
    start = int(place * len(whole))
    path = tmp_path / "model.onnx"
    path.write_bytes(whole[:start] + inserted + whole[start + removed :])
    with contextlib.suppress(UsageError):
        assert read_manifest(path) == tiny_model.manifest


def _as_keywords(entries: dict[str, str]) -> dict[str, str]:
    return {key.replace(".", "_"): value for key, value in entries.items()}


def test_the_tiny_model_of_these_tests_is_valid(tmp_path):
    assert read_manifest(write_tiny_model(tmp_path / "model.onnx").path).labels[3].seen is False
