"""Photos in tar shards and tables: in order, none lost, and no archive exhausts memory."""

import gzip
import io
import os
import struct
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from tinymodel import random_images

from mlzsl.cli.errors import UsageError
from mlzsl.runtime import Photo, Tagger, find_photos
from mlzsl.runtime.io.members import MemberReader


def png(seed: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(random_images(1, seed=seed)[0]).save(stream, "PNG")
    return stream.getvalue()


def shard(members: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=tarfile.PAX_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


MEMBERS = {
    "a/0001.jpg": b"one",
    "a/0001.json": b"{}",
    "a/0001.left.png": b"two",
    "a/0002.cls": b"7",
    os.fsdecode(b"b/caf\xe9 \n.jpg"): b"three",
    "b/" + "long" * 60 + ".jpg": b"four",
    "._0003.jpg": b"resource fork",
    "empty.jpg": b"",
}
FOUND = [
    ("a/0001.jpg", b"one"),
    ("a/0001.left.png", b"two"),
    (os.fsdecode(b"b/caf\xe9 \n.jpg"), b"three"),
    ("b/" + "long" * 60 + ".jpg", b"four"),
    ("empty.jpg", b""),
]


@pytest.mark.parametrize(("name", "mode"), [("s.tar", "w"), ("s.TAR", "w"), ("s.tar.gz", "w:gz"), ("s.tgz", "w:gz")])
def test_a_shard_gives_its_images_in_order(tmp_path, name, mode):
    (tmp_path / name).write_bytes(shard(MEMBERS, mode))
    others = Counter()
    found = list(find_photos([tmp_path / name], skipped=others))
    assert found == [Photo(f"{tmp_path / name}/{member}", content) for member, content in FOUND]
    assert others == {".json": 1, ".cls": 1, ".jpg": 1}


def test_shards_by_pattern_and_among_files(tmp_path):
    for index in range(3):
        (tmp_path / f"{index}.tar").write_bytes(shard({f"{index}.jpg": b"x"}))
    (tmp_path / "z.jpg").write_bytes(b"z")
    found = find_photos([tmp_path / "z.jpg", str(tmp_path / "*.tar")])
    assert [os.path.relpath(photo.path, tmp_path) for photo in found] == [
        "z.jpg",
        "0.tar/0.jpg",
        "1.tar/1.jpg",
        "2.tar/2.jpg",
    ]


def test_members_that_are_not_files_have_a_problem(tmp_path):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind in {
            "link.jpg": tarfile.SYMTYPE,
            "hard.jpg": tarfile.LNKTYPE,
            "pipe.jpg": tarfile.FIFOTYPE,
        }.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    (tmp_path / "s.tar").write_bytes(stream.getvalue())
    found = list(find_photos([tmp_path / "s.tar"]))
    assert [os.path.basename(photo.path) for photo in found] == ["link.jpg", "hard.jpg", "pipe.jpg"]
    assert all("not a regular file" in photo.problem for photo in found)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 0.7, 0.95])
def test_a_truncated_shard_has_a_problem(tmp_path, mode, share):
    whole = shard({f"{index}.jpg": bytes([index]) * 700 for index in range(20)}, "w")
    whole = whole[: 20 * 1536]  # no end mark
    cut = whole[: int(len(whole) * share)]
    (tmp_path / "s.tar").write_bytes(cut) if mode == "w" else (tmp_path / "s.tar.gz").write_bytes(gzip.compress(cut))
    path = tmp_path / ("s.tar" if mode == "w" else "s.tar.gz")
    *images, last = find_photos([path])
    assert last.path == str(path)
    assert "the archive cannot be read beyond its first" in last.problem
    assert [image.content for image in images] == [bytes([index]) * 700 for index in range(len(images))]
    assert len(images) >= int(20 * share) - 1


def test_a_shard_without_its_end_mark_has_a_problem(tmp_path):
    (tmp_path / "s.tar").write_bytes(shard({"a.jpg": b"x" * 512})[:1024])
    *images, last = find_photos([tmp_path / "s.tar"])
    assert [image.content for image in images] == [b"x" * 512]
    assert "ends without an end mark" in last.problem


def test_a_damaged_header_is_reported(tmp_path):
    content = bytearray(shard({f"{index}.jpg": b"x" * 512 for index in range(4)}))
    content[2 * 1024 + 100] ^= 0xFF
    (tmp_path / "s.tar").write_bytes(content)
    found = list(find_photos([tmp_path / "s.tar"]))
    assert len(found) == 3
    assert "first 2 images: a damaged header" in found[2].problem


def test_a_file_that_is_not_a_shard_has_a_problem(tmp_path):
    for name, content in {
        "a.tar": b"",
        "b.tar": b"no archive" * 100,
        "c.tgz": b"no gzip",
        "d.tar.gz": gzip.compress(b""),
    }.items():
        (tmp_path / name).write_bytes(content)
        (photo,) = find_photos([tmp_path / name])
        assert (photo.path, photo.content) == (str(tmp_path / name), None)
        assert "cannot be read" in photo.problem


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.csv", "s.parquet"])
def test_a_pipe_or_a_missing_file_in_a_list_does_not_block(tmp_path, tiny_model, name):
    os.mkfifo(tmp_path / name)
    listed = io.BytesIO(os.fsencode(tmp_path / name) + b"\nmissing-" + name.encode())
    with Tagger.open(tiny_model.path, threads=1) as tagger:
        errors = [photo.error for photo in tagger.tag(find_photos(["-"], listed=listed))]
    assert errors == ["not a regular file", "No such file or directory"]


def header(name: bytes, size: int, kind: bytes) -> bytes:
    """A ustar header with any size, in base 256 if it has too many octal digits."""
    digits = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    owner = (b"644\0", b"0\0", b"0\0")
    rest = (b"0\0", b" " * 8, kind, b"", b"ustar\0", b"00")
    block = bytearray(struct.pack("100s8s8s8s12s12s8sc100s6s2s235x", name, *owner, digits, *rest))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path, kind):
    """A gzip file of a few hundred kilobytes whose extended header unpacks to hundreds of megabytes."""
    path = tmp_path / "s.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(header(b"pax", 300 * 2**20, kind))
        for _ in range(300):
            file.write(bytes(2**20))
    tracemalloc.start()
    (photo,) = find_photos([path])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "larger than any that makes sense" in photo.problem
    assert peak < 5 * 2**20


def test_a_member_beyond_the_limit_is_refused_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("mlzsl.runtime.io.shards.MAX_BYTES", 1000)
    (tmp_path / "s.tar").write_bytes(shard({"large.jpg": bytes(1001), "small.jpg": b"x"}))
    large, small = find_photos([tmp_path / "s.tar"])
    assert "larger than" in large.problem
    assert small.content == b"x"
    (tmp_path / "t.tar").write_bytes(header(b"a.jpg", 2**60, b"0") + bytes(2048))
    first, last = find_photos([tmp_path / "t.tar"])
    assert "larger than" in first.problem
    assert "cannot be read beyond" in last.problem


def test_memory_does_not_grow_with_the_members(tmp_path):
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for index in range(12_000):
            archive.addfile(tarfile.TarInfo(f"{index:06}.jpg"))
    tracemalloc.start()
    found = find_photos([tmp_path / "s.tar"])
    for _ in range(2000):
        next(found)
    early, _ = tracemalloc.get_traced_memory()
    assert sum(1 for _ in found) == 10_000
    late, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert late < early + 200_000


def test_every_mutation_of_a_shard_gives_complete_members_or_a_problem(tmp_path):
    whole = shard({f"{index}.jpg": bytes([65 + index]) * 600 for index in range(3)})
    contents = {bytes([65 + index]) * 600 for index in range(3)}
    path = tmp_path / "s.tar"
    for index in range(0, 3 * 1536, 7):
        if index % 1536 >= 512:  # within a photo's bytes
            continue
        damaged = bytearray(whole)
        damaged[index] ^= 0x55
        path.write_bytes(damaged)
        found = list(find_photos([path]))
        assert sum(photo.content in contents for photo in found) == 3 or found[-1].problem


def test_photos_of_a_shard_are_tagged_like_files(tmp_path, tiny_model):
    images = {f"{index}.png": png(index) for index in range(5)}
    for name, content in images.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "s.tar").write_bytes(shard(images | {"5.jpg": b"not an image"}))
    with Tagger.open(tiny_model.path, threads=1) as tagger:
        files = list(tagger.tag(sorted(tmp_path.glob("*.png"))))
        *members, broken = tagger.tag(tmp_path / "s.tar")
    assert [photo.tags for photo in members] == [photo.tags for photo in files]
    assert [os.path.relpath(photo.path, tmp_path) for photo in members] == [f"s.tar/{name}" for name in images]
    assert "not an image" in broken.error
    reader = MemberReader()
    assert [reader.read(photo.path) for photo in members] == list(images.values())
    assert reader.read(files[0].path) is None
    assert reader.read(str(tmp_path / "s.tar/9.png")) is None


NAMES = ["a.jpg", "b c.jpg", "d\n.jpg", os.fsdecode(b"caf\xe9.jpg")]


def write_table(path: Path, column: str = "path") -> None:
    if path.suffix == ".parquet":
        values = [os.fsencode(name) for name in NAMES]
        parquet.write_table(pyarrow.table({"id": [1, 2, 3, 4], column: pyarrow.array(values, pyarrow.binary())}), path)
        return
    between = "," if path.suffix == ".csv" else "\t"
    rows = [f'{index}{between}"{name}"\n' for index, name in enumerate(NAMES)]
    text = f"id{between}{column}\n" + "".join(rows)
    path.write_bytes(b"\xef\xbb\xbf" + os.fsencode(text))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
@pytest.mark.parametrize("column", ["path", "photo file"])
def test_a_table_gives_the_files_in_its_column(tmp_path, suffix, column):
    path = tmp_path / f"photos{suffix}"
    write_table(path, column)
    assert list(find_photos([path], path_column=column)) == [Photo(name) for name in NAMES]
    with pytest.raises(
        UsageError, match=rf"--path-column file: .*photos{suffix} has no such column; its columns are id, "
    ):
        find_photos([path], path_column="file")


def test_images_in_a_parquet_table_are_tagged(tmp_path, tiny_model):
    images = [png(seed) for seed in range(3)]
    path = tmp_path / "t.parquet"
    structs = [{"bytes": images[0], "path": "a.png"}, {"bytes": images[1], "path": None}, {"bytes": None, "path": "c"}]
    parquet.write_table(pyarrow.table({"jpg": images, "image": structs}), path)
    assert list(find_photos([path], path_column="jpg")) == [
        Photo(f"{path}/row {row}", content) for row, content in enumerate(images, start=1)
    ]
    assert list(find_photos([path], path_column="image")) == [
        Photo(f"{path}/a.png", images[0]), Photo(f"{path}/row 2", images[1]), Photo("c"),
    ]  # fmt: skip
    with Tagger.open(tiny_model.path, threads=1) as tagger:
        assert all(photo.error is None for photo in tagger.tag(find_photos([path], path_column="jpg")))


@pytest.mark.parametrize("suffix", ["tar.bz2", "tbz2", "tar.xz", "txz"])
def test_compressed_shards_give_the_same_photos(tmp_path, suffix):
    path = tmp_path / f"s.{suffix}"
    path.write_bytes(shard({"1.jpg": b"one", "2.jpg": b"two"}, "w:bz2" if "b" in suffix else "w:xz"))
    assert list(find_photos([path])) == [Photo(f"{path}/1.jpg", b"one"), Photo(f"{path}/2.jpg", b"two")]


def test_nothing_behind_an_archives_end_is_left_out_in_silence(tmp_path):
    path = tmp_path / "s.tar"
    path.write_bytes(shard({"1.jpg": b"one"}) + shard({"2.jpg": b"two"}))
    first, last = find_photos([path])
    assert first == Photo(f"{path}/1.jpg", b"one")
    assert "another archive follows its end mark" in last.problem


def test_archives_that_are_not_read_are_called_archives(tmp_path):
    (tmp_path / "photos.ZIP").write_bytes(b"PK")
    (photo,) = find_photos([tmp_path / "photos.ZIP"])
    assert photo.problem.startswith("an archive of a kind that is not read")


def test_a_row_without_a_path_is_reported(tmp_path):
    (tmp_path / "a.csv").write_text("path,size\na.jpg,1\n,2\n\nb.jpg,3\n")
    found = list(find_photos([tmp_path / "a.csv"]))
    assert [photo.problem for photo in found] == [None, "row 2 names no photo", None]
    parquet.write_table(pyarrow.table({"path": ["a.jpg", None]}), tmp_path / "b.parquet")
    assert [photo.problem for photo in find_photos([tmp_path / "b.parquet"])] == [None, "row 2 names no photo"]


def test_tables_that_cannot_be_read_are_refused_at_once(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    (tmp_path / "b.csv").write_bytes(b"")
    with pytest.raises(UsageError, match=r"a.parquet: cannot be read as a table"):
        find_photos([tmp_path / "a.parquet"])
    with pytest.raises(UsageError, match=r"its columns are none"):
        find_photos([tmp_path / "b.csv"])


def test_a_table_in_another_encoding_is_refused_by_its_byte_order_mark(tmp_path):
    (tmp_path / "a.csv").write_bytes("path\na.jpg\n".encode("utf-16"))
    with pytest.raises(UsageError, match=r"a.csv: cannot be read as a table: it is in UTF-16 by its byte-order mark"):
        find_photos([tmp_path / "a.csv"])


def test_a_table_damaged_further_down_has_a_problem(tmp_path):
    (tmp_path / "a.csv").write_text("path\na.jpg\n" + "x" * 200_000 + "\n")
    first, last = find_photos([tmp_path / "a.csv"])
    assert first == Photo("a.jpg")
    assert "cannot be read beyond row 1: field larger than" in last.problem


def test_a_column_of_numbers_is_refused(tmp_path):
    parquet.write_table(pyarrow.table({"path": [1, 2]}), tmp_path / "a.parquet")
    (photo,) = find_photos([tmp_path / "a.parquet"])
    assert "the column path holds int, not paths or images" in photo.problem


def test_a_damaged_parquet_table_loses_no_row_in_silence(tmp_path):
    """pyarrow ends early, without an error, where a page states fewer values."""
    path = tmp_path / "a.parquet"
    parquet.write_table(
        pyarrow.table({"path": ["a.jpg", "b.jpg", "c.jpg"]}), path, compression="none", use_dictionary=False
    )
    content = path.read_bytes()
    fewer = 0
    for position in range(4, len(content) - 8 - int.from_bytes(content[-8:-4], "little")):
        for bit in range(8):
            changed = bytearray(content)
            changed[position] ^= 1 << bit
            path.write_bytes(changed)
            photos = list(find_photos([path]))
            assert len(photos) == 3 or photos[-1].problem.startswith("the table cannot be read beyond row")
            fewer += photos[-1].problem is not None and "of the 3 rows that its footer states" in photos[-1].problem
    assert fewer > 0


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ([{"bytes": b"x", "path": 1}], "holds structs of other types than text and bytes"),
        ([{"bytes": "x", "path": "a.jpg"}], "holds structs of other types than text and bytes"),
    ],
)
def test_a_struct_of_other_types_is_refused(tmp_path, values, what):
    parquet.write_table(pyarrow.table({"path": values}), tmp_path / "a.parquet")
    (photo,) = find_photos([tmp_path / "a.parquet"])
    assert what in photo.problem


def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path):
    table = pyarrow.Table.from_arrays([pyarrow.array(["a.jpg"]), pyarrow.array(["b.jpg"])], ["path", "path"])
    parquet.write_table(table, tmp_path / "a.parquet")
    (photo,) = find_photos([tmp_path / "a.parquet"])
    assert "it has 2 columns path, expected one" in photo.problem


def test_column_names_in_an_error_are_short_and_printable(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"x" * 5000 + b",\xff,\x1b[2J\n")
    with pytest.raises(UsageError) as refused:
        find_photos([tmp_path / "a.csv"])
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600
