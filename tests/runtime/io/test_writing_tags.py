"""Files of tags: readable by other tools, every name recoverable, the old file kept if writing fails."""

import csv
import json
import os
import sys

import pytest
from pyarrow import parquet
from tinymodel import manifest

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.engines.artifact.manifest import Label
from mlzsl.runtime.io.tag_files import check_output, line_of, photo_of, write_line, write_output
from mlzsl.runtime.tags import Tag, Tagged

PHOTOS = [
    Tagged("a.jpg", (Tag("dog", 0.9312, True), Tag("zebra", 0.25, False))),
    Tagged("b, c;\n.jpg", (), note="the file is cut"),
    Tagged(os.fsdecode(b"caf\xe9.jpg"), (Tag("café", 1.0, True),)),
    Tagged("ü.jpg", error="the file is empty"),
]


def write(target) -> None:
    """Write all photos, from their records."""
    check_output(str(target), manifest())
    records = target.parent / "records"
    records.write_bytes(b"".join(map(line_of, PHOTOS)))
    write_output(records, str(target))
    records.unlink()


def test_jsonl_is_a_record_a_line(tmp_path):
    write(tmp_path / "tags.jsonl")
    lines = (tmp_path / "tags.jsonl").read_bytes().decode().splitlines()
    records = [json.loads(line) for line in lines]
    assert records == [
        {
            "path": "a.jpg",
            "tags": [{"label": "dog", "score": 0.9312, "seen": True}, {"label": "zebra", "score": 0.25, "seen": False}],
        },
        {"path": "b, c;\n.jpg", "tags": [], "note": "the file is cut"},
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
        ["path", "tags", "scores", "error", "note"],
        ["a.jpg", "dog;zebra", "0.931200;0.250000", "", ""],
        ["b, c;\n.jpg", "", "", "", "the file is cut"],
        [os.fsdecode(b"caf\xe9.jpg"), "café", "1.000000", "", ""],
        ["ü.jpg", "", "", "the file is empty", ""],
    ]
    assert b"\ncaf\xe9.jpg," in (tmp_path / "tags.csv").read_bytes()


def test_parquet_is_a_row_a_photo(tmp_path):
    write(tmp_path / "tags.parquet")
    rows = parquet.read_table(tmp_path / "tags.parquet").to_pylist()
    assert [row["path"] for row in rows] == ["a.jpg", "b, c;\n.jpg", "caf\\xe9.jpg", "ü.jpg"]
    assert [row["path_bytes"] for row in rows] == [None, None, b"caf\xe9.jpg", None]
    assert [row["error"] for row in rows] == [None, None, None, "the file is empty"]
    assert [row["tags"] and [(tag["label"], tag["seen"]) for tag in row["tags"]] for row in rows] == [
        [("dog", True), ("zebra", False)],
        [],
        [("café", True)],
        None,
    ]
    assert [tag["score"] for tag in rows[0]["tags"]] == pytest.approx([0.9312, 0.25])


def test_without_pyarrow_parquet_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"tags.parquet: Parquet needs pyarrow; run `pip install 'mlzsl\[parquet\]'`"):
        check_output("tags.parquet", manifest())


def test_standard_output_takes_jsonl(capsysbinary):
    for photo in PHOTOS:
        write_line(photo)
    assert [json.loads(line)["path"] for line in capsysbinary.readouterr().out.splitlines()] == [
        photo.path for photo in PHOTOS
    ]


def test_lines_are_read_back_as_they_were_written():
    assert [photo_of(line_of(photo), "it") for photo in PHOTOS] == PHOTOS


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"[]\n", b"1\n", b'{"path": "a"}\n', line_of(PHOTOS[0])[:-9], b"\xff\n", b"[" * 99_999 + b"\n"]
)
def test_a_line_that_is_not_a_record_is_refused(line):
    with pytest.raises(UsageError, match=r"^records: line 1: "):
        photo_of(line, "records: line 1")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("tags.txt", r"unknown suffix '.txt'; use .jsonl, .csv or .parquet, or - for standard output"),
        ("tags", "unknown suffix ''"),
        (".", "is a folder; name a file in it"),
    ],
)
def test_an_output_that_cannot_be_written_is_refused(output, expected):
    with pytest.raises(UsageError, match=expected):
        check_output(output, manifest())


def test_a_label_that_csv_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    odd = manifest(labels=(Label("salt; pepper", "salt.n.02", True),))
    with pytest.raises(UsageError, match="'salt; pepper' holds the ; that separates"):
        check_output(str(tmp_path / "tags.csv"), odd)


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_full_disk_is_one_sentence_and_the_old_file_survives(tmp_path, monkeypatch, suffix):
    target = tmp_path / f"tags{suffix}"
    target.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FailureError, match=r"No space left on device.*unchanged"):
        write(target)
    assert target.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {target.name, "records"}


def test_without_hard_links_the_records_are_copied(tmp_path, monkeypatch):
    def refused(*names):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    write(tmp_path / "tags.jsonl")
    assert (tmp_path / "tags.jsonl").read_bytes() == b"".join(map(line_of, PHOTOS))
