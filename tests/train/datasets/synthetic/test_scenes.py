"""Generated scenes: reproducible from the seed, labelled with what was drawn, regenerated when settings differ."""

import functools
import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlzsl.cli.errors import FailureError
from mlzsl.graph.labels.sets import UNSEEN, load_label_set
from mlzsl.train.datasets.synthetic import scenes
from mlzsl.train.datasets.synthetic.drawings import EXTERNALS, TARGETS
from mlzsl.train.datasets.synthetic.icons import mask_of
from mlzsl.train.datasets.synthetic.scenes import (
    external_classes,
    generate_scenes,
    generate_single_objects,
    golden_scenes,
)

COUNT = 12
DRAWINGS = sorted({drawing for table in (TARGETS, EXTERNALS) for names in table.values() for drawing in names.split()})


@functools.cache
def silhouette(drawing: str, size: int = 48) -> np.ndarray:  # type: ignore[type-arg]
    return np.asarray(mask_of(drawing).resize((size, size))).astype(np.float64) / 255


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    one = generate_scenes(tmp_path / "one", COUNT, seed=3, quiet=True)
    two = generate_scenes(tmp_path / "two", COUNT, seed=3, quiet=True)
    assert [path.read_bytes() for path in one.paths] == [path.read_bytes() for path in two.paths]
    assert one.labels == two.labels
    other = generate_scenes(tmp_path / "other", COUNT, seed=4, quiet=True)
    assert [path.read_bytes() for path in one.paths] != [path.read_bytes() for path in other.paths]


def test_a_scene_does_not_depend_on_how_many_are_made(tmp_path: Path) -> None:
    few = generate_scenes(tmp_path / "few", 3, seed=3, quiet=True)
    many = generate_scenes(tmp_path / "many", COUNT, seed=3, quiet=True)
    assert [path.read_bytes() for path in few.paths] == [path.read_bytes() for path in many.paths[:3]]
    assert few.labels == many.labels[:3]


def test_a_set_is_written_as_a_labelled_folder(tmp_path: Path) -> None:
    photos = generate_scenes(tmp_path, COUNT, seed=0, size=96, quiet=True)
    assert len(photos) == COUNT
    assert all(Image.open(path).size == (96, 96) and path.suffix == ".jpg" for path in photos.paths)
    written = json.loads((tmp_path / "labels.json").read_text())
    assert {path.name: set(labels) for path, labels in zip(photos.paths, photos.labels, strict=True)} == {
        name: set(labels) for name, labels in written.items()
    }


def test_labels_are_those_of_the_drawn_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_drawing = {drawing: label for label, names in TARGETS.items() for drawing in names.split()}
    drawn: list[set[str]] = []
    paste, background = scenes._paste_object, scenes._background

    def recording_background(*arguments: object) -> object:
        drawn.append(set())
        return background(*arguments)  # type: ignore[arg-type]

    def recording_paste(canvas: Image.Image, drawing: str, *others: object) -> None:
        drawn[-1].add(by_drawing[drawing])
        paste(canvas, drawing, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(scenes, "_background", recording_background)
    monkeypatch.setattr(scenes, "_paste_object", recording_paste)
    photos = generate_scenes(tmp_path, COUNT, seed=5, quiet=True)
    assert [set(labels) for labels in photos.labels] == drawn


def test_a_set_is_reused_with_the_same_settings_and_regenerated_with_others(tmp_path: Path) -> None:
    generate_scenes(tmp_path, COUNT, seed=0, quiet=True)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")}
    generate_scenes(tmp_path, COUNT, seed=0, quiet=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.jpg")} == times
    again = generate_scenes(tmp_path, COUNT, seed=1, quiet=True)
    assert all(path.stat().st_mtime_ns != times[path] for path in again.paths)


def test_a_set_without_readable_settings_is_regenerated(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in generate_scenes(tmp_path, COUNT, seed=0, quiet=True).paths]
    for content in ("", "{", '{"count": 12}'):
        (tmp_path / scenes.SETTINGS_FILE).write_text(content)
        (tmp_path / "images" / "scene-00003.jpg").write_bytes(b"incomplete")
        assert [path.read_bytes() for path in generate_scenes(tmp_path, COUNT, seed=0, quiet=True).paths] == first


def test_a_set_with_changed_files_or_of_another_library_is_regenerated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = generate_scenes(tmp_path, COUNT, seed=0, quiet=True)
    image, labels = photos.paths[3], tmp_path / "labels.json"
    good = image.read_bytes(), labels.read_text()
    image.write_bytes(photos.paths[4].read_bytes())
    assert generate_scenes(tmp_path, COUNT, seed=0, quiet=True) == photos
    assert image.read_bytes() == good[0]
    labels.write_text(json.dumps(json.loads(good[1]) | {image.name: ["sheep"]}))
    assert generate_scenes(tmp_path, COUNT, seed=0, quiet=True) == photos
    labels.unlink()
    assert generate_scenes(tmp_path, COUNT, seed=0, quiet=True) == photos
    assert (image.read_bytes(), labels.read_text()) == good

    written = image.stat().st_mtime_ns
    generate_scenes(tmp_path, COUNT, seed=0, quiet=True)
    assert image.stat().st_mtime_ns == written
    assert "qtawesome" in scenes.drawing_versions()
    monkeypatch.setattr(scenes, "drawing_versions", lambda: {"qtawesome": "99.0"})
    generate_scenes(tmp_path, COUNT, seed=0, quiet=True)
    assert image.stat().st_mtime_ns > written


@pytest.mark.parametrize("below", ["file", "file/folder"])
def test_a_file_instead_of_the_folder_is_one_sentence(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FailureError, match=f"{below}: could not be written: Not a directory"):
        generate_scenes(tmp_path / below, COUNT, seed=0, quiet=True)
    assert (tmp_path / "file").read_text() == "mine"


def test_missing_scenes_are_drawn_and_surplus_ones_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = generate_scenes(tmp_path, COUNT, seed=0, quiet=True)
    photos.paths[4].unlink()
    assert generate_scenes(tmp_path, COUNT, seed=0, quiet=True).paths == photos.paths
    (tmp_path / "images" / "mine.jpg").write_bytes(b"a user's")
    fewer = generate_scenes(tmp_path, 5, seed=0, quiet=True)
    assert fewer.paths == photos.paths[:5]
    assert {path.name for path in (tmp_path / "images").iterdir()} == {*(path.name for path in fewer.paths), "mine.jpg"}
    assert capsys.readouterr().err == ""


def test_single_objects_depend_on_seed_and_number_alone() -> None:
    images, classes = generate_single_objects(20, seed=0, size=32)
    fewer, fewer_classes = generate_single_objects(5, seed=0, size=32)
    assert images.shape == (20, 32, 32, 3)
    assert images.dtype == np.uint8
    assert classes.dtype == np.int64
    assert np.array_equal(images[:5], fewer)
    assert np.array_equal(classes[:5], fewer_classes)
    others, _ = generate_single_objects(20, seed=1, size=32)
    assert not np.array_equal(images, others)


def test_single_objects_show_every_external_class() -> None:
    _, classes = generate_single_objects(2500, seed=0, size=8)
    assert set(classes) == set(range(len(external_classes())))


def test_drawn_classes_belong_to_their_label_sets() -> None:
    imagenet = load_label_set("imagenet1k")
    assert list(external_classes()) == sorted(set(external_classes()))
    assert {imagenet.labels[index] for index in external_classes()} == set(EXTERNALS)
    coco = load_label_set("coco80")
    assert set(TARGETS) <= set(coco.labels)
    assert set(UNSEEN["coco80"]) <= set(TARGETS)


def test_no_external_class_is_a_target() -> None:
    imagenet, coco = load_label_set("imagenet1k"), load_label_set("coco80")
    assert {imagenet.synsets[index] for index in external_classes()}.isdisjoint(coco.synsets)


@pytest.mark.parametrize("drawing", DRAWINGS)
def test_a_drawing_is_neither_empty_nor_full(drawing: str) -> None:
    ink = silhouette(drawing).mean()
    assert 0.05 < ink < 0.98


def test_drawings_of_different_classes_differ() -> None:
    owners = [
        (label, drawing)
        for table in (TARGETS, EXTERNALS)
        for label, names in table.items()
        for drawing in names.split()
    ]
    for (label, drawing), (other_label, other) in combinations(owners, 2):
        if label != other_label:
            alike = np.abs(silhouette(drawing) - silhouette(other)).mean()
            assert alike > 0.005, f"{label} ({drawing}) and {other_label} ({other}) are nearly equal"


def test_every_unseen_label_occurs_in_a_held_out_set() -> None:
    settings = scenes.SceneSettings(600, 43, 16)
    labels_of_scenes = [scenes._scene(number, settings)[1] for number in range(settings.count)]
    for label in UNSEEN["coco80"]:
        assert sum(label in labels for labels in labels_of_scenes) >= 8, label


def test_golden_scenes_do_not_depend_on_their_number() -> None:
    assert golden_scenes(3, 40).shape == (3, 40, 40, 3)
    assert np.array_equal(golden_scenes(3, 40), golden_scenes(4, 40)[:3])


def test_a_missing_glyph_is_named() -> None:
    with pytest.raises(FailureError, match="nonsense"):
        mask_of("mdi:nonsense")
