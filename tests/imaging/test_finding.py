"""Finding photos: every named photo is found once, and names keep their bytes."""

import io
import os
from collections import Counter
from itertools import islice

import pytest

from mlzsl.cli.errors import UsageError
from mlzsl.imaging.finding import find_images


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """b.jpg, a.PNG, notes.txt, .hidden.jpg; inner/c.jpeg; inner/deeper/d.webp; empty/."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.PNG", "notes.txt", ".hidden.jpg", "inner/c.jpeg", "inner/deeper/d.webp", ".cache/e.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (tmp_path / "photos/empty").mkdir()
    return tmp_path / "photos"


def test_a_folder_gives_its_sorted_images_then_those_of_its_subfolders(folder):
    found = ["photos/a.PNG", "photos/b.jpg", "photos/inner/c.jpeg", "photos/inner/deeper/d.webp"]
    assert list(find_images(["photos"])) == found
    assert list(find_images([folder])) == [str(folder.parent / name) for name in found]


def test_a_named_file_is_a_photo_whatever_its_suffix(folder):
    assert list(find_images(["photos/notes.txt", "photos/.hidden.jpg"])) == ["photos/notes.txt", "photos/.hidden.jpg"]


def test_a_pattern_gives_its_matches(folder):
    assert list(find_images(["photos/**/*.jp*g"])) == ["photos/b.jpg", "photos/inner/c.jpeg"]
    assert list(find_images(["photos/i*"])) == ["photos/inner/c.jpeg", "photos/inner/deeper/d.webp"]


def test_an_existing_file_is_not_a_pattern(folder):
    (folder / "[1].jpg").touch()
    assert list(find_images(["photos/[1].jpg"])) == ["photos/[1].jpg"]


def test_photos_are_in_the_order_of_the_inputs(folder):
    assert list(find_images(["photos/inner/deeper", "photos/b.jpg"])) == ["photos/inner/deeper/d.webp", "photos/b.jpg"]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], "no photos were named"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["photos/b.jpg", "nowhere/x.jpg"], "nowhere/x.jpg: no such file or folder"),
        (["photos/*.gif"], r"photos/\*.gif: the pattern matches nothing"),
        (["photos/empty"], "no image found in photos/empty"),
        (["-", "-"], "only once"),
    ],
)
def test_missing_inputs_are_reported_at_once(folder, inputs, expected):
    with pytest.raises(UsageError, match=expected):
        find_images(inputs)


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        (b"a.jpg\nb c.jpg\n", ["a.jpg", "b c.jpg"]),
        (b"a.jpg\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"a.jpg\r\n\r\nb.jpg\r\n", ["a.jpg", "b.jpg"]),
        (b"a.jpg\0b\nc.jpg\0", ["a.jpg", "b\nc.jpg"]),
        (b"a.jpg\0\0b.jpg", ["a.jpg", "b.jpg"]),
        (b"caf\xe9.jpg\n", [os.fsdecode(b"caf\xe9.jpg")]),
    ],
)
def test_a_list_on_standard_input(listed, expected):
    assert list(find_images(["-"], io.BytesIO(listed))) == expected


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_names_across_blocks_of_a_long_list_stay_whole(separator):
    names = [f"{'folder/' * (i % 40)}{i}.jpg" for i in range(20_000)]
    listed = io.BytesIO(separator.join(name.encode() for name in names))
    assert list(find_images(["-"], listed)) == names


def test_an_empty_list_is_an_error():
    with pytest.raises(UsageError, match="no image found in standard input"):
        find_images(["-"], io.BytesIO(b"\n\n"))


def test_a_list_is_read_lazily():
    class Endless(io.RawIOBase):
        served = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            line = b"photo.jpg\n"
            buffer[: len(line)] = line
            Endless.served += 1
            return len(line)

    found = find_images(["-"], io.BufferedReader(Endless()))
    assert list(islice(found, 1000)) == ["photo.jpg"] * 1000
    assert Endless.served < 5000


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_names_keep_their_bytes(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9 \n.jpg")
    with open(name, "wb"):
        pass
    (found,) = find_images([tmp_path])
    assert os.fsencode(found) == name


def test_links_to_folders_are_followed_without_cycles(folder):
    (folder / "inner/back").symlink_to(folder, target_is_directory=True)
    (folder / "empty/other").symlink_to(folder / "inner/deeper", target_is_directory=True)
    assert list(find_images(["photos"])) == [
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/empty/other/d.webp",
        "photos/inner/c.jpeg",
        "photos/inner/deeper/d.webp",
    ]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_yielded(folder):
    (folder / "inner").chmod(0)
    try:
        assert "photos/inner" in list(find_images(["photos"]))
    finally:
        (folder / "inner").chmod(0o755)


def test_skipped_files_are_counted_by_suffix(folder):
    for name in ("x.HEIC", "inner/y.heic", "README", "clip.mp4", "odd.\x1b[31m"):
        (folder / name).touch()
    others = Counter()
    assert len(list(find_images(["photos"], skipped=others))) == 4
    assert others == {".heic": 2, "without suffix": 1, ".mp4": 1, ".txt": 1, ".\\x1b[31m": 1}


def test_a_folder_without_images_is_an_error_that_names_the_suffixes(folder):
    (folder / "empty/a.heic").touch()
    with pytest.raises(
        UsageError, match=r"skipped 1 file that is not an image by its suffix: 1 \.heic; convert HEIF to JPEG"
    ):
        find_images(["photos/empty"])
