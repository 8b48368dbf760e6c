"""Files of tags are read back as they were written, whatever the names."""

import csv
import tempfile
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlzsl.cli.errors import UsageError
from mlzsl.engines.artifact.manifest import Label
from mlzsl.runtime.io.tag_files import line_of, read_tags, write_output
from mlzsl.runtime.tags import Tag, Tagged

LABELS = [Label(name, "dog.n.01", seen) for name, seen in (("dog", True), ('café, "au lait"', False), ("\u2028", True))]
# Names as the operating system gives them: bytes that are not UTF-8 as halves of surrogate pairs.
NAMES = st.binary(min_size=1, max_size=12).map(lambda name: name.decode(errors="surrogateescape"))
SCORES = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
TAGS = st.lists(st.tuples(st.sampled_from(LABELS), SCORES), max_size=3).map(
    lambda tags: tuple(Tag(label.name, score, label.seen) for label, score in tags)
)
PHOTOS = st.one_of(
    st.builds(lambda name, tags, note: Tagged(name, tags, note=note), NAMES, TAGS, st.none() | st.text(min_size=1)),
    st.builds(
        lambda name, why: Tagged(name, error=why),
        NAMES,
        st.text(min_size=1),
    ),
)


def written(target: Path, photos: list[Tagged]) -> Path:
    """A file of tags, as `mlzsl-infer` writes it."""
    records = target.with_name("records")
    records.write_bytes(b"".join(map(line_of, photos)))
    write_output(records, str(target))
    return target


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@given(photos=st.lists(PHOTOS, max_size=5))
def test_tags_are_read_back_as_written(suffix, photos):
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder) / f"tags{suffix}", photos)
        read = list(read_tags(path, [label.name for label in LABELS if not label.seen]))
    assert [(photo.path, photo.error, photo.note) for photo in read] == [
        (photo.path, photo.error, photo.note) for photo in photos
    ]
    for found, photo in zip(read, photos, strict=True):
        assert [(tag.label, tag.seen) for tag in found.tags] == [(tag.label, tag.seen) for tag in photo.tags]
        assert [tag.score for tag in found.tags] == pytest.approx([tag.score for tag in photo.tags], abs=1e-7)


def test_csv_of_mlzsl_0_1_has_no_notes(tmp_path):
    (tmp_path / "tags.csv").write_text("path,tags,scores,error\na.jpg,dog,0.500000,\nb.jpg,,,the file is empty\n")
    dog = Tag("dog", 0.5, True)
    assert list(read_tags(tmp_path / "tags.csv", [])) == [
        Tagged("a.jpg", (dog,)),
        Tagged("b.jpg", error="the file is empty"),
    ]


def test_a_photo_may_have_thousands_of_tags(tmp_path):
    limit = csv.field_size_limit()
    photo = Tagged("a.jpg", tuple(Tag(f"a rather long label number {n}", 0.5, True) for n in range(10_000)))
    for name in ("tags.csv", "tags.jsonl", "tags.parquet"):
        assert list(read_tags(written(tmp_path / name, [photo]), [])) == [photo]
    assert csv.field_size_limit() == limit


def test_parquet_of_another_kind_is_refused(tmp_path):
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UsageError, match=r"torn\.parquet: is not a file of tags "):
        list(read_tags(tmp_path / "torn.parquet", []))
    pyarrow.parquet.write_table(pyarrow.table({"path": ["a.jpg"]}), tmp_path / "list.parquet")
    with pytest.raises(UsageError, match=r"list\.parquet: is not a file of tags \(it lacks the column error"):
        list(read_tags(tmp_path / "list.parquet", []))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "line 1: its columns are not path, tags, scores, error"),
        ("a,b\n", "line 1: its columns are not"),
        ("path,tags,scores,error\na.jpg,dog\n", "line 2: it has 2 columns, not 4"),
        ("path,tags,scores,error\na.jpg,dog;cat,0.5,\n", "line 2: it has 2 tags and 1 scores"),
        ("path,tags,scores,error\na.jpg,dog,high,\n", "line 2: could not convert string to float: 'high'"),
        ("path,tags,scores,error\na.jpg,dog,nan,\n", "line 2: tags[0].score is NaN, not a number from 0 to 1"),
    ],
)  # fmt: skip
def test_invalid_csv_is_refused_with_its_line(tmp_path, text, what):
    (tmp_path / "tags.csv").write_text(text)
    with pytest.raises(UsageError) as refused:
        list(read_tags(tmp_path / "tags.csv", []))
    assert what in str(refused.value)


@pytest.mark.parametrize(
    ("name", "what"), [("gone.jsonl", "cannot be read: No such file"), ("tags.txt", "unknown suffix '.txt' for tags")]
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, what):
    with pytest.raises(UsageError, match=what):
        list(read_tags(tmp_path / name, []))


@pytest.mark.parametrize(
    ("column", "values", "what"),
    [
        ("path_bytes", [1, 2], "its column path_bytes does not hold bytes"),
        ("path", [b"a", b"b"], "row 1: path is \"b'a'\", not text"),
        ("error", [b"a", b"b"], "error is \"b'a'\", not text or null"),
    ],
)
def test_parquet_of_other_types_is_refused(tmp_path, column, values, what):
    path = written(tmp_path / "tags.parquet", [Tagged("a.jpg"), Tagged("b.jpg")])
    table = pyarrow.parquet.read_table(path)
    table = table.set_column(table.column_names.index(column), column, pyarrow.array(values))
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(UsageError) as refused:
        list(read_tags(path, []))
    assert what in str(refused.value)
