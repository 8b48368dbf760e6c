"""The certificate in the manifest: read back equal, one per engine, bound to its network."""

import hashlib
import json

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tinymodel import manifest, network, random_images, reference_scores, write_tiny_model

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.engines.artifact.certificate import Certificate, Check, Measurement
from mlzsl.engines.artifact.engine_file import certify
from mlzsl.engines.artifact.manifest import Manifest
from mlzsl.engines.artifact.modelfile import read_golden, read_manifest, write_model_file

SHA, OTHER = "ab" * 32, "cd" * 32


def certificate(network_sha256=SHA, **changes):
    made = Certificate(
        network_sha256=network_sha256,
        backend="onnxruntime",
        version="1.32.0",
        provider="CPUExecutionProvider",
        device="cpu",
        precision="fp32",
        reference="golden sample",
        reference_sha256=OTHER,
        checks=(
            Check(
                "golden sample",
                3,
                OTHER,
                (Measurement("largest difference", 1e-7, at_most=1e-5), Measurement("tags that flip", 0.0)),
            ),
            Check("photos", 544, SHA, (Measurement("top agreement", 0.99, at_least=0.97),)),
        ),
        mlzsl="0.1.0",
        machine="Linux x86_64, 2 cores",
        made="2026-11-24T05:00:00+00:00",
    )
    return replace(made, **changes)


WHOLE = manifest(network_sha256=SHA, golden_sha256=OTHER, certificates=(certificate(),))


def test_it_is_read_back_equal():
    assert Manifest.from_json(WHOLE.to_json(), "model.onnx") == WHOLE
    assert WHOLE.certificate_for("onnxruntime", "CPUExecutionProvider", "fp32") == certificate()
    assert WHOLE.certificates[0].photos == 544


def test_a_manifest_from_before_certificates_is_read():
    record = json.loads(WHOLE.to_json())
    del record["certificates"]
    assert Manifest.from_json(json.dumps(record), "model.onnx").certificates == ()


def test_there_is_one_certificate_for_each_engine_and_precision():
    bf16 = certificate(precision="bf16")
    newer = certificate(version="1.33.0")
    certified = WHOLE.certified(bf16).certified(newer)
    assert set(certified.certificates) == {bf16, newer}
    assert certified.certificate_for("onnxruntime", "CPUExecutionProvider", "fp32") == newer
    assert certified.certificate_for("onnxruntime", "CUDAExecutionProvider", "fp32") is None


def test_a_certificate_of_another_network_is_ignored():
    derived = replace(WHOLE, network_sha256=OTHER)
    assert derived.certificate_for("onnxruntime", "CPUExecutionProvider", "fp32") is None
    bf16 = certificate(OTHER, precision="bf16")
    assert derived.certified(bf16).certificates == (bf16,)


def test_certifying_changes_neither_network_nor_golden_sample(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx")
    before = onnx.load(model.path)
    pictures, scores = read_golden(model.path)
    made = certificate(model.manifest.network_sha256)
    certify(model.path, made)
    assert read_manifest(model.path) == replace(model.manifest, certificates=(made,))
    assert (read_golden(model.path).images == pictures).all()
    assert (read_golden(model.path).scores == scores).all()
    assert onnx.load(model.path).graph == before.graph
    size = model.path.stat().st_size
    certify(model.path, made)
    assert model.path.stat().st_size == size


def test_a_file_that_was_replaced_during_verification_is_not_certified(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx")
    before = model.path.read_bytes()
    with pytest.raises(FailureError, match="replaced by another network while it was verified"):
        certify(model.path, certificate(OTHER))
    assert model.path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_made_from_a_certified_one_is_not_certified(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx")
    certify(model.path, certificate(model.manifest.network_sha256))
    images = random_images(3, seed=5)
    other = onnx.load_model_from_string(network())
    other.graph.name = "another"
    derived = write_model_file(
        tmp_path / "other.onnx",
        other.SerializeToString(),
        read_manifest(model.path),
        images,
        reference_scores(images).astype("f4"),
    )
    assert derived.certificates == ()


def test_a_certificate_that_was_changed_is_refused(tmp_path):
    model = write_tiny_model(tmp_path / "model.onnx")
    certify(model.path, certificate(model.manifest.network_sha256))
    changed = model.path.read_bytes().replace(b'"value": 1e-07', b'"value": 1e-08')
    assert hashlib.sha256(changed) != hashlib.sha256(model.path.read_bytes())
    model.path.write_bytes(changed)
    with pytest.raises(UsageError, match="its manifest was changed after it was written"):
        read_manifest(model.path)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (["certificates"], "all", 'certificates is "all", not a list'),
        (["certificates"], [certificate().to_json()] * 2, "certificates has two for one engine"),
        (["certificates"], [certificate().to_json()] * 65, "not a list of length <= 64"),
        (["certificates", 0], None, "certificates[0] is null, not an object"),
        (["certificates", 0, "made"], "", "certificates[0].made"),
        (["certificates", 0, "colour"], 1, "certificates[0] has the unknown field colour"),
        (["certificates", 0, "network_sha256"], "1", "certificates[0].network_sha256"),
        (["certificates", 0, "checks", 0, "photos"], -1, "certificates[0].checks[0].photos is -1"),
        (["certificates", 0, "checks", 0, "measurements", 0, "value"], "0", "measurements[0].value"),
        (["certificates", 0, "checks", 0, "measurements", 0, "value"], 10**400, "measurements[0].value"),
        (["certificates", 0, "checks", 0, "measurements", 0, "value"], True, "measurements[0].value is true"),
        (
            ["certificates", 0, "checks", 0, "measurements", 0, "value"],
            0.1,
            "its largest difference is 0.1, outside its tolerance",
        ),
        (
            ["certificates", 0, "checks", 1, "measurements", 0, "value"],
            0.9,
            "its top agreement is 0.9, outside its tolerance",
        ),
        (["certificates", 0, "checks", 0, "measurements", 0, "at_most"], "low", "measurements[0].at_most"),
    ],
)
def test_a_wrong_field_is_named(path, value, expected):
    record = json.loads(WHOLE.to_json())
    inner = record
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(UsageError) as caught:
        Manifest.from_json(json.dumps(record), "model.onnx")
    assert expected in str(caught.value)


def test_nan_is_within_no_tolerance():
    assert not Measurement("largest difference", float("nan"), at_most=1.0).passed
    assert not Measurement("top agreement", float("nan"), at_least=0.0).passed
    assert Measurement("only reported", float("nan")).passed


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.dictionaries(st.sampled_from([*certificate().to_json(), "other"]), json_values, max_size=3))
def test_any_json_in_a_certificate_is_read_or_refused_in_one_sentence(changes):
    record = json.loads(WHOLE.to_json()) | {"certificates": [certificate().to_json() | changes]}
    sentence = ""
    try:
        Manifest.from_json(json.dumps(record), "model.onnx")
    except UsageError as error:
        sentence = str(error)
    assert "\n" not in sentence
