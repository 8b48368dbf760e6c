"""JSON that anybody may have written is a value of the declared type, or one sentence about what is wrong."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlzsl.cli.errors import UsageError
from mlzsl.cli.json_decoding import Count, Finite, Fraction, Line, Sha256, decode_json, read_json

DIGEST = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Label:
    name: Line
    seen: bool
    threshold: Fraction | None = None


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    labels: Annotated[tuple[Label, ...], msgspec.Meta(min_length=1)]
    sources: dict[str, Sha256]
    precision: Literal["fp32", "int8"]
    photos: Count
    ranges: dict[str, tuple[Finite, Finite]] = {}
    extra: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if len({label.name for label in self.labels}) < len(self.labels):
            raise ValueError("two labels have the same name")


GOOD: dict[str, Any] = {
    "labels": [{"name": "猫", "seen": True, "threshold": 1}, {"name": "dog", "seen": False}],
    "sources": {"a": DIGEST},
    "precision": "int8",
    "photos": 3,
    "ranges": {"x": [-1, 2.5]},
}


def decode(text: str | bytes) -> Record:
    return decode_json(text, Record, "model.onnx", "export it again")


def problem(text: str | bytes) -> str:
    with pytest.raises(UsageError) as caught:
        decode(text)
    sentence = str(caught.value)
    assert sentence.isprintable()
    assert sentence.startswith("model.onnx: ")
    assert sentence.endswith("; export it again.")
    return sentence.removeprefix("model.onnx: ").removesuffix("; export it again.")


def test_a_record_is_decoded_into_its_type() -> None:
    record = decode(json.dumps(GOOD))
    assert record.labels == (Label("猫", True, 1.0), Label("dog", False))
    assert record.ranges == {"x": (-1.0, 2.5)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"labels": [{"seen": True}]}, "labels[0] lacks name"),
        ({"future": 1}, "it has the unknown field future"),
        ({"a\n": 1}, "it has the unknown field a\\n"),
        ({"a" * 5000: 1}, f"it has the unknown field {'a' * 149}…{'a' * 149}"),
        ({"\ud800": 1}, 'the text "\\ud800" is not Unicode'),
        ({"ranges": {"x" * 5000: 1}}, f'ranges["{"x" * 38}…] is 1, not a list'),
        ({"labels": []}, "labels is [], not a list of length >= 1"),
        ({"labels": "dog"}, 'labels is "dog", not a list'),
        ({"labels": [{"name": "a\tb", "seen": True}]}, 'labels[0].name is "a\\tb", not a line of text of at most 4096'),
        ({"labels": [{"name": " ", "seen": True}]}, 'labels[0].name is " ", not a line of text of at most 4096'),
        ({"labels": [{"name": "\udcff", "seen": True}]}, 'labels[0].name is "\\udcff", not a line of text'),
        ({"labels": [{"name": "a" * 5000, "seen": True}]}, f'labels[0].name is "{"a" * 38}…, not a line of text'),
        ({"labels": [{"name": "a", "seen": 1}]}, "labels[0].seen is 1, not true or false"),
        (
            {"labels": [{"name": "a", "seen": True, "threshold": 2}]},
            "labels[0].threshold is 2, not a number from 0 to 1 or null",
        ),
        (
            {"labels": [{"name": "a", "seen": True, "threshold": True}]},
            "labels[0].threshold is true, not a number from 0 to 1 or null",
        ),
        ({"labels": [{"name": "a", "seen": True}] * 2}, "two labels have the same name"),
        (
            {"sources": {"a": DIGEST.upper()}},
            f'sources["a"] is {json.dumps(DIGEST.upper())[:39]}…, not a SHA-256 in 64 hexadecimal digits',
        ),
        (
            {"sources": {"a": DIGEST + "\n"}},
            f'sources["a"] is {json.dumps(DIGEST)[:39]}…, not a SHA-256 in 64 hexadecimal digits',
        ),
        ({"precision": "fp64"}, 'precision is "fp64", not one of fp32, int8'),
        ({"photos": -1}, "photos is -1, not a whole number from 0 up"),
        ({"photos": 1.5}, "photos is 1.5, not a whole number from 0 up"),
        ({"photos": True}, "photos is true, not a whole number from 0 up"),
        ({"ranges": {"x": [1]}}, 'ranges["x"] is [1], not a list of length 2'),
        ({"ranges": {"x": [0, "1"]}}, 'ranges["x"][1] is "1", not a finite number'),
        ({"ranges": {"x": [0, 10**400]}}, f'ranges["x"][1] is 1{"0" * 38}…, not a finite number'),
        ({"extra": None}, "extra is null, not an object"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_found_and_expected(
    change: dict[str, Any], sentence: str
) -> None:
    assert problem(json.dumps(GOOD | change)).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON (Expecting value: line 1 column 1 (char 0))"),
        (b"\xff\xfe\xfd", "is not JSON ("),
        ("[" * 100_000, "is not JSON ("),
        ('{"photos": NaN}', "is not JSON (NaN is not a number in JSON)"),
        (json.dumps(GOOD).replace("2.5", "1e999"), 'ranges["x"][1] is Infinity, not a finite number'),
        ("[]", "it is [], not an object"),
        ("1" * 5000, "is not JSON ("),
    ],
)
def test_text_that_is_not_a_record_is_one_sentence(text: str | bytes, sentence: str) -> None:
    assert problem(text).startswith(sentence)


@given(st.binary() | st.text())
def test_any_text_is_a_record_or_a_sentence(text: str | bytes) -> None:
    problem(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["name", "seen"]), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "extra", "a`b", "\n"]), VALUES))
def test_any_object_is_a_record_or_a_sentence(change: dict[str, Any]) -> None:
    text = json.dumps(GOOD | change)
    try:
        assert isinstance(decode(text), Record)
    except UsageError:
        problem(text)


def test_an_earlier_version_is_upgraded_first() -> None:
    def upgrade(record: dict[str, Any]) -> dict[str, Any]:
        return {"a": record.pop("system")} | record

    decoded = decode_json('{"system": 1}', dict[str, int], "x", "y", upgrade)
    assert decoded == {"a": 1}
    with pytest.raises(UsageError, match=r"x: it is \[\], not an object; y\."):
        decode_json("[]", dict[str, int], "x", "y", upgrade)


def test_a_repeated_key_is_an_error_where_keys_are_unique() -> None:
    assert decode_json('{"a": 1, "a": 2}', dict[str, int], "x", "y") == {"a": 2}
    with pytest.raises(UsageError, match=r'x: is not JSON \(the key "a" is repeated\); y\.'):
        decode_json('[{"a": 1, "a": 2}]', dict[str, int], "x", "y", unique_keys=True)


def test_a_file_is_read_up_to_its_largest_size(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    path.write_text('{"a": 1}')
    assert read_json(path, dict[str, int], "write it again", 8) == {"a": 1}
    for size, text in ((7, "is larger than "), (8, "")):
        path = path if size == 7 else tmp_path / "gone.json"
        with pytest.raises(UsageError, match=text or r"cannot be read \(No such file or directory\); write it again\."):
            read_json(path, dict[str, int], "write it again", size)
