"""The calibration record: kept, read back, and refused where it does not fit or was tampered with."""

import dataclasses
import json
from pathlib import Path

import pytest
from tinymodel import SIZE, manifest

from mlzsl.calibration.record import Record, check_record, read_record, write_record
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


def test_a_record_comes_back_as_it_was(path):
    assert read_record(path) == RECORD


def test_a_record_that_fits_is_taken():
    check(asked={"method": "mse", "photos": 40, "data_sha256": "b" * 64})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"model": manifest(network_sha256="c" * 64)}, r"r\.json: is of another model .*aaaaaaaaaaaa….*cccccccccccc…"),
        (
            {"model": dataclasses.replace(MODEL, preprocessing=Preprocessing(size=64).to_json())},
            "its preprocessing is .*32.* and now it would be .*64",
        ),
        ({"asked": {"method": "minmax"}}, "its method is mse, and now it would be minmax"),
        ({"asked": {"photos": 41}}, "its number of photos is 40, and now it would be 41"),
        (
            {"asked": {"data_sha256": "d" * 64}},
            "its photos' SHA-256 is bbbb.*, and now it would be dddd",
        ),
    ],
)
def test_a_stale_record_is_refused_with_what_changed(arguments, expected):
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
    "fields",
    [
        {"ranges": {"planes": [1, 0]}},
        {"ranges": {"planes": [0]}},
        {"ranges": {"planes": [0, "1"]}},
        {"ranges": {"planes": [0, float("inf")]}},
        {"ranges": []},
        {"model_sha256": "a"},
        {"data_sha256": 7},
        {"method": "guess"},
        {"photos": 1.5},
        {"seed": True},
        {"preprocessing": []},
        {"seed": ...},
        {"more": 1},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused(path, fields):
    change(path, **fields)
    with pytest.raises(UsageError, match="a field is missing, unknown or of the wrong kind; calibrate again"):
        read_record(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "its format is None"),
        (b'{"format": "mlzsl calibration 99"}', "its format is 'mlzsl calibration 99', expected 'mlzsl calibration 1'"),
    ],
)
def test_what_is_no_record_is_refused(path, content, expected):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=expected):
        read_record(path)


def test_a_missing_record_is_said_to_be_missing(tmp_path):
    with pytest.raises(UsageError, match=r"--record .*none\.json: no such file"):
        read_record(tmp_path / "none.json")
