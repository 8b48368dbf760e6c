"""What stands in the output: readable by others, every name recoverable, the old file kept when writing fails."""

import csv
import json
import os

import pytest
from tinymodel import manifest

from mlzsl.engines.manifest import Label
from mlzsl.runtime.tags import Tag, Tagged
from mlzsl.runtime.writers import open_writer
from mlzsl.shell.errors import FailureError, UsageError

PHOTOS = [
    Tagged("a.jpg", (Tag("dog", 0.9312, True), Tag("zebra", 0.25, False))),
    Tagged("b, c;\n.jpg", ()),
    Tagged(os.fsdecode(b"caf\xe9.jpg"), (Tag("café", 1.0, True),)),
    Tagged("ü.jpg", error="the file is empty"),
]


def write(target, photos=PHOTOS) -> None:
    with open_writer(str(target), manifest()) as writer:
        for photo in photos:
            writer.write(photo)


def test_jsonl_is_a_record_a_line(tmp_path):
    write(tmp_path / "tags.jsonl")
    lines = (tmp_path / "tags.jsonl").read_bytes().decode().splitlines()
    records = [json.loads(line) for line in lines]
    assert records == [
        {
            "path": "a.jpg",
            "tags": [{"label": "dog", "score": 0.9312, "seen": True}, {"label": "zebra", "score": 0.25, "seen": False}],
        },
        {"path": "b, c;\n.jpg", "tags": []},
        {"path": os.fsdecode(b"caf\xe9.jpg"), "tags": [{"label": "café", "score": 1.0, "seen": True}]},
        {"path": "ü.jpg", "error": "the file is empty"},
    ]
    assert os.fsencode(records[2]["path"]) == b"caf\xe9.jpg"
    assert "ü.jpg" in lines[3]


def test_csv_is_a_row_a_photo(tmp_path):
    write(tmp_path / "tags.csv")
    with open(tmp_path / "tags.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["path", "tags", "scores", "error"],
        ["a.jpg", "dog;zebra", "0.931200;0.250000", ""],
        ["b, c;\n.jpg", "", "", ""],
        [os.fsdecode(b"caf\xe9.jpg"), "café", "1.000000", ""],
        ["ü.jpg", "", "", "the file is empty"],
    ]
    assert b"\ncaf\xe9.jpg," in (tmp_path / "tags.csv").read_bytes()


def test_standard_output_takes_jsonl(capsysbinary):
    write("-")
    assert [json.loads(line)["path"] for line in capsysbinary.readouterr().out.splitlines()] == [
        photo.path for photo in PHOTOS
    ]


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("tags.txt", r"unknown suffix '.txt'; use .jsonl or .csv, or - for standard output"),
        ("tags", "unknown suffix ''"),
        (".", "is a folder; name a file in it"),
    ],
)
def test_an_output_that_cannot_be_is_refused(output, expected):
    with pytest.raises(UsageError, match=expected):
        write(output)


def test_a_label_that_csv_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    odd = manifest(labels=(Label("salt; pepper", "salt.n.02", True),))
    with (
        pytest.raises(UsageError, match="'salt; pepper' holds the ; that separates"),
        open_writer(str(tmp_path / "tags.csv"), odd),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_file_appears_only_when_it_is_whole(tmp_path, suffix):
    target = tmp_path / f"tags{suffix}"
    target.write_text("old")

    def photos():
        yield PHOTOS[0]
        assert target.read_text() == "old"
        raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        write(target, photos())
    assert [path.name for path in tmp_path.iterdir()] == [target.name]
    assert target.read_text() == "old"


def test_a_full_disk_is_one_sentence_and_the_old_file_survives(tmp_path, monkeypatch):
    target = tmp_path / "tags.jsonl"
    target.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FailureError, match=r"No space left on device.*unchanged"):
        write(target)
    assert target.read_text() == "old"
