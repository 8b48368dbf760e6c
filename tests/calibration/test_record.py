"""The calibration record: written, read back, and refused where it is damaged or of another model or settings."""

import json
from pathlib import Path

import pytest
from msgspec.structs import replace
from tinymodel import SIZE, manifest

from mlzsl.calibration.ranges import Record, check_record, read_record, write_record
from mlzsl.cli.errors import UsageError
from mlzsl.imaging import Preprocessing

RECORD = Record(
    model_sha256="a" * 64,
    preprocessing=Preprocessing(size=SIZE).to_json(),
    method="mse",
    photos=40,
    seed=0,
    data_sha256="b" * 64,
    ranges={"planes": (-2.0, 2.0), "pooled": (0.0, 0.1 + 0.2)},
)
MODEL = manifest(network_sha256="a" * 64)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_record(tmp_path / "model.calibration.json", RECORD)
    return tmp_path / "model.calibration.json"


def check(record: Record = RECORD, model: object = MODEL, asked: dict[str, object] | None = None, *more: str) -> None:
    check_record(Path("r.json"), record, Path("model.onnx"), model, asked or {}, ["planes", "pooled", *more])


def test_a_record_is_read_back_equal(path):
    assert read_record(path) == RECORD


def test_a_matching_record_is_accepted():
    check(asked={"method": "mse", "photos": 40, "data_sha256": "b" * 64})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"model": manifest(network_sha256="c" * 64)}, r"r\.json: is of another model .*aaaaaaaaaaaa….*cccccccccccc…"),
        (
            {"model": replace(MODEL, preprocessing=Preprocessing(size=64).to_json())},
            "its preprocessing is .*32.* expected .*64",
        ),
        ({"asked": {"method": "minmax"}}, "its method is mse, expected minmax"),
        ({"asked": {"photos": 41}}, "its number of photos is 40, expected 41"),
        (
            {"asked": {"data_sha256": "d" * 64}},
            "its photos' SHA-256 is bbbb.*, expected dddd",
        ),
    ],
)
def test_a_stale_record_is_refused_with_the_difference(arguments, expected):
    with pytest.raises(UsageError, match=expected) as caught:
        check(**arguments)
    assert "calibrate again, without --record" in str(caught.value)


def test_a_record_without_a_tensor_that_is_needed_is_refused():
    with pytest.raises(UsageError, match="lacks the ranges of 1 tensors, such as sum_relu"):
        check(RECORD, MODEL, {}, "sum_relu")


def change(path: Path, **fields: object) -> None:
    record = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({name: value for name, value in record.items() if value is not ...}))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ranges": {"planes": [1, 0]}}, "the range of planes is 1 to 0, expected low ≤ high"),
        ({"ranges": {"planes": [0]}}, "ranges"),
        ({"ranges": {"planes": [0, "1"]}}, "ranges"),
        ({"ranges": {"planes": [0, float("inf")]}}, "is not JSON (Infinity is not a number in JSON)"),
        ({"ranges": {"planes": [0, 10**400]}}, "ranges"),
        ({"ranges": []}, "ranges is [], not an object"),
        ({"model_sha256": "a"}, 'model_sha256 is "a", not a SHA-256 in 64 hexadecimal digits'),
        ({"data_sha256": 7}, "data_sha256 is 7, not a SHA-256"),
        ({"method": "guess"}, 'method is "guess", not one of'),
        ({"photos": 1.5}, "photos is 1.5, not a whole number"),
        ({"seed": True}, "seed is true, not a whole number"),
        ({"preprocessing": []}, "preprocessing is [], not an object"),
        ({"seed": ...}, "lacks seed"),
        ({"more": 1}, "has the unknown field more"),
    ],
    ids=str,
)
def test_a_damaged_record_is_refused_with_the_field(path, fields, expected):
    change(path, **fields)
    with pytest.raises(UsageError) as caught:
        read_record(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)
    assert str(caught.value).endswith("; calibrate again, without --record.")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "is \\[\\], not an object"),
        (b'{"format": "mlzsl calibration 99"}', 'format is "mlzsl calibration 99", not one of mlzsl calibration 1'),
    ],
)
def test_a_file_that_is_not_a_record_is_refused(path, content, expected):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=expected):
        read_record(path)


def test_a_missing_record_is_an_error_that_names_it(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json: cannot be read \(No such file.*without --record"):
        read_record(tmp_path / "none.json")
