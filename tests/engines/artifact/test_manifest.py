"""A manifest is read back equal, or refused in one sentence that names the field."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tinymodel import LABELS, manifest

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.manifest import Label, Manifest

SHA = "ab" * 32
WHOLE = manifest(network_sha256=SHA, golden_sha256=SHA, sources={"checkpoint": SHA})


def test_it_is_read_back_equal():
    assert Manifest.from_json(WHOLE.to_json(), "model.onnx") == WHOLE
    with_thresholds = manifest(
        network_sha256=SHA, golden_sha256=SHA, labels=tuple(Label(x.name, x.synset, x.seen, 0.25) for x in LABELS)
    )
    assert Manifest.from_json(with_thresholds.to_json(), "model.onnx") == with_thresholds


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("schema_version", 3, "schema version 3, and this mlzsl reads version 2; upgrade"),
        ("schema_version", True, "schema_version is true"),
        ("labels", [], "labels is [], not a list of length >= 1"),
        ("labels", "dog", "not a list"),
        ("labels", [{"name": "dog"}], "labels[0] lacks synset"),
        ("labels", [{"name": "", "synset": "d", "seen": True, "threshold": None}], "labels[0].name"),
        ("labels", [{"name": "a\nb", "synset": "d", "seen": True, "threshold": None}], "labels[0].name"),
        ("labels", [{"name": "a\ud800", "synset": "d", "seen": True, "threshold": None}], "labels[0].name"),
        ("labels", [{"name": "dog", "synset": "d", "seen": 1, "threshold": None}], "labels[0].seen is 1"),
        ("labels", [{"name": "dog", "synset": "d", "seen": True, "threshold": 1.5}], "threshold is 1.5"),
        ("labels", [{"name": "dog", "synset": "d", "seen": True, "threshold": None}] * 2, 'label "dog" occurs 2 times'),
        ("preprocessing", WHOLE.preprocessing | {"size": 0}, "preprocessing: the image size is 0"),
        ("preprocessing", {}, "preprocessing"),
        ("preprocessing", WHOLE.preprocessing | {"stretch": "much"}, "preprocessing"),
        ("preprocessing", [32], "preprocessing is [32], not an object"),
        ("precision", "fp64", 'precision is "fp64", not one of fp32, fp16, bf16, int8, fp8'),
        ("precision", ["fp32"], "precision is"),
        ("network_sha256", SHA.upper(), "network_sha256"),
        ("sources", {"checkpoint": "1234"}, 'sources["checkpoint"] is "1234", not a SHA-256'),
        ("graph", None, "graph is null, not an object"),
        ("colour", "blue", "unknown field colour"),
    ],
)
def test_a_wrong_field_is_named(field, value, expected):
    record = json.loads(WHOLE.to_json()) | {field: value}
    with pytest.raises(UsageError) as caught:
        Manifest.from_json(json.dumps(record), "model.onnx")
    assert expected in str(caught.value)
    assert str(caught.value).startswith("model.onnx: ")


def test_a_missing_field_is_named():
    record = json.loads(WHOLE.to_json())
    del record["precision"]
    with pytest.raises(UsageError, match="lacks precision; re-export it with mlzsl-export"):
        Manifest.from_json(json.dumps(record), "model.onnx")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"schema_version": NaN}', "9" * 5000, b"\xff\xfe\x00"])
def test_text_that_is_not_json_is_refused(text):
    with pytest.raises(UsageError, match=r"its manifest: is not JSON \(.*re-export it"):
        Manifest.from_json(text, "model.onnx")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.dictionaries(st.sampled_from([*json.loads(WHOLE.to_json()), "other"]), json_values, max_size=3))
def test_any_json_is_read_or_refused_in_one_sentence(changes):
    record = json.loads(WHOLE.to_json()) | changes
    sentence = ""
    try:
        Manifest.from_json(json.dumps(record), "model.onnx")
    except UsageError as error:
        sentence = str(error)
    assert "\n" not in sentence
