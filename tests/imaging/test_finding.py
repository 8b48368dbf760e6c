"""Finding photos: every named photo is found once, and names keep their bytes."""

import contextlib
import glob
import io
import os
from collections import Counter
from itertools import islice

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

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
        (b"\xef\xbb\xbfa.jpg\r\nb.jpg", ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\0b.jpg\0", ["a.jpg", "b.jpg"]),
    ],
)
def test_a_list_on_standard_input(listed, expected):
    assert list(find_images(["-"], io.BytesIO(listed))) == expected


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_names_across_blocks_of_a_long_list_stay_whole(separator):
    names = [f"{'folder/' * (i % 40)}{i}.jpg" for i in range(20_000)]
    listed = io.BytesIO(separator.join(name.encode() for name in names))
    assert list(find_images(["-"], listed)) == names


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_list_in_utf16_is_refused(encoding):
    with pytest.raises(UsageError, match="-: the list is in UTF-16; write it in UTF-8"):
        find_images(["-"], io.BytesIO("\ufeffa.jpg\n".encode(encoding)))


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
    (folder / "empty/more").symlink_to(folder.parent / "elsewhere", target_is_directory=True)
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere/e.jpg").touch()
    assert list(find_images(["photos"])) == [
        "photos/a.PNG",
        "photos/b.jpg",
        "photos/inner/c.jpeg",
        "photos/inner/deeper/d.webp",
        "photos/empty/more/e.jpg",
    ]


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["photos", "photos/inner"], ["a.PNG", "b.jpg", "inner/c.jpeg", "inner/deeper/d.webp"]),
        (["photos/inner", "photos"], ["inner/c.jpeg", "inner/deeper/d.webp", "a.PNG", "b.jpg"]),
        (
            ["photos/b.jpg", "photos/inner/../b.jpg", "photos"],
            ["b.jpg", "a.PNG", "inner/c.jpeg", "inner/deeper/d.webp"],
        ),
        (["photos/inner/", "photos/inner/c.jpeg", "photos/**/c.*"], ["inner/c.jpeg", "inner/deeper/d.webp"]),
        (["photos/*.jpg", "photos/b*"], ["b.jpg"]),
        (["photos/**"], ["a.PNG", "b.jpg", "inner/c.jpeg", "inner/deeper/d.webp"]),
        (["photos/**/"], ["a.PNG", "b.jpg", "inner/c.jpeg", "inner/deeper/d.webp"]),
        (["photos/**/*"], ["a.PNG", "b.jpg", "inner/c.jpeg", "inner/deeper/d.webp", "notes.txt"]),
        (["photos/**/**/deeper/*", "**/d.webp", "*/inner/**/d.*"], ["inner/deeper/d.webp"]),
        (["photos/notes.txt", "photos/notes.txt"], ["notes.txt"]),
    ],
)
def test_a_file_that_several_inputs_name_is_found_once(folder, inputs, expected):
    assert list(find_images(inputs)) == [f"photos/{name}" for name in expected]


def test_a_pattern_from_the_working_directory_names_its_matches_plainly(folder):
    assert list(find_images(["**/*.webp"])) == ["photos/inner/deeper/d.webp"]


def test_links_that_lead_nowhere_are_found_for_their_reason(folder):
    (folder / "broken.jpg").symlink_to("b.jpg.gone.jpg")
    (folder / "circle.jpg").symlink_to("circle.jpg")
    (folder / "same.jpg").symlink_to("b.jpg")
    assert list(find_images(["photos/b.jpg", "photos"]))[:4] == [
        f"photos/{name}" for name in ("b.jpg", "a.PNG", "broken.jpg", "circle.jpg")
    ]


def test_folders_are_found_at_any_depth(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for depth in range(1, 1501):  # os.makedirs recurses
        deep = "/".join("d" * depth)
        os.mkdir(deep)
    with open(f"{deep}/a.jpg", "w"):
        pass
    try:
        assert list(find_images(["."])) == [f"./{deep}/a.jpg"]
        assert list(find_images(["**/*.jpg"])) == [f"{deep}/a.jpg"]
    finally:  # shutil.rmtree recurses
        os.unlink(f"{deep}/a.jpg")
        os.removedirs(deep)


NAMES = st.sampled_from(["a", "b", "c.jpg", "d.jpg"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
INPUTS = st.one_of(PATHS, st.sampled_from([".", "**", "*", "**/*.jpg", "a/**", "*/**/*.jpg"]))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    files=st.lists(PATHS, max_size=6),
    links=st.lists(st.tuples(PATHS, PATHS, st.booleans()), max_size=8),
    inputs=st.lists(INPUTS, min_size=1, max_size=3),
)
def test_any_tree_of_links_gives_each_file_once(tmp_path_factory, files, links, inputs):
    root = tmp_path_factory.mktemp("tree")
    for name in files:
        with contextlib.suppress(OSError):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    for link, target, absolute in links:
        with contextlib.suppress(OSError):
            (root / link).parent.mkdir(parents=True, exist_ok=True)
            (root / link).symlink_to(root / target if absolute else os.path.relpath(target, os.path.dirname(link)))
    with contextlib.chdir(root):
        named = [name for name in inputs if glob.glob(name, recursive=False)]
        assume(named)
        try:
            found = list(find_images(named))
        except UsageError as error:
            assert "no image found" in str(error)  # noqa: PT017
            found = []
        present = [os.path.realpath(path) for path in found if os.path.isfile(path)]
        assert len(present) == len(set(present))
        if "." in named:
            expected = {str(path.resolve()) for path in root.rglob("*.jpg") if path.is_file()}
            assert expected <= set(present)


def test_listing_a_folder_costs_no_stat_a_file(folder, monkeypatch):
    for number in range(1000):
        (folder / f"{number}.jpg").touch()
    stats = []
    stat, lstat = os.stat, os.lstat
    monkeypatch.setattr(os, "stat", lambda *args, **options: (stats.append(args), stat(*args, **options))[1])
    monkeypatch.setattr(os, "lstat", lambda *args, **options: (stats.append(args), lstat(*args, **options))[1])
    assert len(list(find_images(["photos"]))) == 1004
    assert len(stats) < 100


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_yielded(folder):
    (folder / "inner").chmod(0)
    try:
        assert "photos/inner" in list(find_images(["photos"]))
    finally:
        (folder / "inner").chmod(0o755)


def test_skipped_files_are_counted_by_suffix(folder):
    for name in ("x.MOV", "inner/y.mov", "README", "clip.mp4", "odd.\x1b[31m"):
        (folder / name).touch()
    others = Counter()
    assert len(list(find_images(["photos"], skipped=others))) == 4
    assert others == {".mov": 2, "without suffix": 1, ".mp4": 1, ".txt": 1, ".\\x1b[31m": 1}


def test_a_folder_without_images_is_an_error_that_names_the_suffixes(folder):
    (folder / "empty/a.mov").touch()
    with pytest.raises(UsageError, match=r"skipped 1 file that is not an image by its suffix: 1 \.mov\)"):
        find_images(["photos/empty"])
