"""A folder of photos and its labels.json become a photo set, or an error says what to correct."""

import json
import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlzsl.cli.errors import UsageError
from mlzsl.imaging.labelled_folder import check_labels, load_folder
from mlzsl.imaging.photoset import PhotoSet


def write_photos(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder


def write_labels(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", "b.jpg", "a.png", "sub/c.jpg")


def as_dict(photo_set: PhotoSet, folder: Path) -> dict[str, set[str]]:
    names = [path.relative_to(folder).as_posix() for path in photo_set.paths]
    return dict(zip(names, map(set, photo_set.labels), strict=True))


def test_labels_json_is_in_the_folder_beside_it_or_given(photos: Path, tmp_path: Path) -> None:
    content = {"b.jpg": ["dog", "cup"], "a.png": ["cup", "cup"], "sub/c.jpg": ["chair"]}
    expected = {"a.png": {"cup"}, "b.jpg": {"dog", "cup"}, "sub/c.jpg": {"chair"}}
    named = write_labels(tmp_path / "elsewhere.json", content)
    assert as_dict(load_folder(photos, named), photos) == expected
    write_labels(tmp_path / "labels.json", content)
    assert as_dict(load_folder(photos), photos) == expected
    write_labels(photos / "labels.json", {**content, "a.png": ["dog"]})  # the nearer one counts
    assert as_dict(load_folder(photos), photos) == {**expected, "a.png": {"dog"}}


def test_a_folder_of_images_and_labels_json(tmp_path: Path) -> None:
    write_photos(tmp_path, "images/a.jpg", "images/b.jpg", "thumbnails/a.jpg")
    write_labels(tmp_path / "labels.json", {"a.jpg": ["dog"], "b.jpg": ["cup"]})
    assert as_dict(load_folder(tmp_path), tmp_path) == {"images/a.jpg": {"dog"}, "images/b.jpg": {"cup"}}
    assert load_folder(tmp_path / "images").paths == load_folder(tmp_path).paths


@pytest.mark.parametrize("given", ["", "images"])
def test_names_may_start_with_the_folder_beside_labels_json(tmp_path: Path, given: str) -> None:
    write_photos(tmp_path, "images/a.jpg", "images/b.jpg")
    write_labels(tmp_path / "labels.json", {"images/a.jpg": ["dog"], "images\\b.jpg": ["cup"]})
    assert as_dict(load_folder(tmp_path / given), tmp_path) == {"images/a.jpg": {"dog"}, "images/b.jpg": {"cup"}}


def test_names_are_found_in_any_spelling(photos: Path, tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Zürich.jpg") for form in ("NFC", "NFD"))
    write_photos(photos, f"sub/{decomposed}")
    write_photos(tmp_path / "disk", "d.jpg", "e.bin.png")
    (photos / "more").symlink_to("../disk")
    (photos / "again").symlink_to("../disk")
    write_labels(
        photos / "labels.json",
        {f"sub/{composed}": ["dog"], "more/d.jpg": ["dog"], "again\\e.bin.png": ["dog"], "sub\\c.jpg": ["dog"]},
    )
    assert set(as_dict(load_folder(photos), photos)) == {
        f"sub/{decomposed}", "more/d.jpg", "again/e.bin.png", "sub/c.jpg",
    }  # fmt: skip
    write_photos(photos, f"sub/{composed}")  # the exact name wins
    assert f"sub/{composed}" in as_dict(load_folder(photos), photos)


def test_one_photo_under_two_names_is_refused(photos: Path) -> None:
    write_labels(photos / "labels.json", {"sub/c.jpg": ["dog"], "sub\\c.jpg": ["cup"]})
    with pytest.raises(UsageError, match=r"names one photo twice: sub/c\.jpg, sub\\c\.jpg"):
        load_folder(photos)


def test_labels_are_spelled_as_in_the_label_set() -> None:
    spelled = frozenset({"Cat", unicodedata.normalize("NFD", "café"), "traffic_light", "other"})
    photo_set = PhotoSet((Path("a"),), (spelled,), "mine").spelled_as(["cat", "CAFÉ", "traffic light"])
    assert photo_set.labels == (frozenset({"cat", "CAFÉ", "traffic light", "other"}),)
    assert PhotoSet((Path("a"),), (frozenset({"Cat"}),), "mine").spelled_as(["cat", "Cat"]).labels == ({"Cat"},)


def test_photos_without_labels_are_counted_and_left_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_labels(photos / "labels.json", {"b.jpg": ["dog"], "a.png": []})
    assert as_dict(load_folder(photos), photos) == {"b.jpg": {"dog"}}
    assert "2 of 3 photos have no label" in capsys.readouterr().err
    load_folder(photos, quiet=True)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"b.jpg": ["dog"]', "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([["b.jpg", "dog"]], r"not an object; expected"),
        ({}, "an empty object; expected"),
        ({"b.jpg": "dog"}, "not a list of labels"),
        ({"b.jpg": [1]}, r'"b.jpg"\]?\[0\] is 1, not a label'),
        ({"b.jpg": [" "]}, "not a label"),
        ({"b.jpg": None}, "not a list of labels"),
        ({"b.jpg": []}, "no photo has a label"),
        ({"../b.jpg": ["dog"]}, "leads out of the folder"),
        ({"/b.jpg": ["dog"]}, "leads out of the folder"),
        ('{"b.jpg": ["dog"], "b.jpg": ["cup"]}', r'not JSON \(the key "b.jpg" is repeated\)'),
        ({"b.jpg": ["dog"], **{f"{i}.jpg": ["dog"] for i in range(8)}}, "8 of its 9 photos are not in .* and 3 more"),
    ],
)
def test_an_invalid_labels_json_is_one_sentence(photos: Path, content: Any, sentence: str) -> None:
    path = write_labels(photos / "labels.json", content)
    with pytest.raises(UsageError, match=sentence) as refusal:
        load_folder(photos)
    assert str(refusal.value).startswith(str(path))


def test_a_labels_json_that_is_not_utf8_is_refused(photos: Path) -> None:
    (photos / "labels.json").write_bytes(b'{"b.jpg": ["caf\xe9"]}')
    with pytest.raises(UsageError, match="not JSON"):
        load_folder(photos)


def test_missing_folders_and_files_are_one_sentence(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        load_folder(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is a file, not a folder"):
        load_folder(photos / "b.jpg")
    with pytest.raises(UsageError, match=r"no labels\.json in it or beside it"):
        load_folder(photos)
    with pytest.raises(UsageError, match=r"mine\.json: cannot be read"):
        load_folder(photos, tmp_path / "mine.json")
    write_labels(tmp_path / "labels.json", {"b.jpg": ["dog"]})
    with pytest.raises(UsageError, match="empty: no photos in this folder"):
        load_folder(tmp_path / "empty")


def test_unknown_labels_are_named_with_similar_known_ones() -> None:
    photo_set = PhotoSet((Path("a"), Path("b")), (frozenset({"dogs", "cup"}), frozenset({"dogs", "xyzzy"})), "mine")
    check_labels(photo_set, ["dogs", "cup", "xyzzy"])
    with pytest.raises(UsageError, match=r"mine: 2 of its labels .* 'dogs' \(did you mean 'dog'\?\), 'xyzzy'\."):
        check_labels(photo_set, ["dog", "cup"])
    assert check_labels(photo_set, ["Dogs", "Cup"], ["XYZZY"]).labels == ({"Dogs", "Cup"}, {"Dogs"})


def numbered(count: int) -> PhotoSet:
    return PhotoSet(tuple(Path(f"{i:03d}.jpg") for i in range(count)), (frozenset({"dog"}),) * count, "numbered")


@pytest.mark.parametrize(("count", "share", "held"), [(10, 0.2, 2), (2, 0.01, 1), (3, 0.99, 2), (101, 0.5, 50)])
def test_a_split_has_every_photo_once(count: int, share: float, held: int) -> None:
    whole = numbered(count)
    train, test = whole.split(share, seed=3)
    assert len(test) == held
    assert sorted([*train.paths, *test.paths]) == list(whole.paths)
    assert list(train.paths) == sorted(train.paths)
    assert whole.split(share, seed=3) == (train, test)


def test_folds_test_every_photo_once() -> None:
    whole = numbered(23)
    folds = list(whole.folds(5, seed=0))
    assert sorted(path for _, test in folds for path in test.paths) == list(whole.paths)
    assert all(set(train.paths) | set(test.paths) == set(whole.paths) for train, test in folds)
    assert {len(test) for _, test in folds} == {4, 5}
    assert folds == list(whole.folds(5, seed=0))
    assert folds != list(whole.folds(5, seed=1))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_held_out_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        numbered(4).split(share, seed=0)


def test_too_few_photos_to_split_are_refused() -> None:
    for divide in (lambda: numbered(1).split(0.5, seed=0), lambda: list(numbered(4).folds(5, seed=0))):
        with pytest.raises(UsageError, match="cannot be split"):
            divide()
    with pytest.raises(UsageError, match="at least 2"):
        list(numbered(4).folds(1, seed=0))


def test_inconsistent_photo_sets_are_refused() -> None:
    with pytest.raises(ValueError, match="2 paths but 1"):
        PhotoSet((Path("a"), Path("b")), (frozenset(),), "x")
    with pytest.raises(ValueError, match="twice"):
        PhotoSet((Path("a"), Path("a")), (frozenset(), frozenset()), "x")


def test_the_key_is_that_of_the_content_whatever_names_sizes_and_times_say(tmp_path: Path) -> None:
    content = {"a.bmp": b"one", "b.bmp": b"two"}
    keys = []
    for name, swapped in (("first", False), ("second", True), ("renamed", False)):
        folder = tmp_path / name
        folder.mkdir()
        for file, other in zip(content, reversed(content), strict=True):
            path = folder / (file if name != "renamed" else f"new-{file}")
            path.write_bytes(content[other if swapped else file])
            os.utime(path, (0, 0))
        keys.append(PhotoSet(tuple(sorted(folder.iterdir())), (frozenset(), frozenset()), name).key())
    assert keys[0] != keys[1]
    assert keys[0] == keys[2]


def test_the_key_depends_on_the_files_and_not_on_the_labels(photos: Path) -> None:
    paths = (photos / "a.png", photos / "b.jpg")
    photo_set = PhotoSet(paths, (frozenset({"dog"}), frozenset({"cup"})), "x")
    key = photo_set.key()
    assert PhotoSet(paths, (frozenset(), frozenset()), "y").key() == key
    assert photo_set.take([1, 0]).key() != key
    assert photo_set.take([0]).key() != key
    Image.fromarray(np.ones((8, 8, 3), np.uint8)).save(paths[0])
    assert photo_set.key() != key
    paths[1].unlink()
    with pytest.raises(UsageError, match="cannot be read"):
        photo_set.key()
