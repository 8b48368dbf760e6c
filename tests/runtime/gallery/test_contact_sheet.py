"""The contact sheet shows every photo and tag, whatever their shapes and names."""

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image
from tinymodel import manifest

from mlzsl.cli.errors import FailureError, UsageError
from mlzsl.runtime.gallery.contact_sheet import THUMBNAIL_HEIGHT, THUMBNAIL_WIDTH, draw_contact_sheet
from mlzsl.runtime.gallery.thumbnails import thumbnail
from mlzsl.runtime.tags import Tag, Tagged

TAGS = (Tag("dog", 0.9, True), Tag("zebra", 0.4, False), Tag("an extraordinarily long label that goes on", 0.0, True))


def photo(folder, name: str, size: tuple[int, int], colour: str = "#20c040") -> Tagged:
    Image.new("RGB", size, colour).save(folder / name)
    return Tagged(str(folder / name), TAGS)


def drawn(target, photos) -> np.ndarray:
    draw_contact_sheet(photos, target, manifest())
    with Image.open(target) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("count", [1, 3, 12, 30])
def test_any_number_of_photos(tmp_path, count):
    photos = [photo(tmp_path, f"{index}.png", (40 + index, 30)) for index in range(count)]
    pixels = drawn(tmp_path / "tagged.png", photos)
    green = (pixels == (0x20, 0xC0, 0x40)).all(axis=2)
    shown = min(count, 12)
    assert green.sum() == pytest.approx(shown * THUMBNAIL_WIDTH * THUMBNAIL_HEIGHT, rel=0.2)


def test_thumbnails_keep_their_proportions_and_orientation(tmp_path):
    def size_of(name: str) -> tuple[int, int]:
        return thumbnail(str(tmp_path / name), THUMBNAIL_WIDTH, THUMBNAIL_HEIGHT).size

    photo(tmp_path, "wide.png", (400, 100))
    assert size_of("wide.png") == (THUMBNAIL_WIDTH, THUMBNAIL_WIDTH // 4)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees
    Image.new("RGB", (400, 100)).save(tmp_path / "tall.jpg", exif=exif)
    assert size_of("tall.jpg") == (round(THUMBNAIL_HEIGHT / 4), THUMBNAIL_HEIGHT)
    photo(tmp_path, "thread.png", (2000, 1))
    assert size_of("thread.png") == (THUMBNAIL_WIDTH, 1)


def test_unseen_labels_are_marked(tmp_path):
    unseen = photo(tmp_path, "a.png", (40, 30))
    seen = Tagged(unseen.path, (TAGS[0],))
    orange = (0xD9, 0x62, 0x2B)
    with_unseen = (drawn(tmp_path / "1.png", [unseen]) == orange).all(axis=2)
    without = (drawn(tmp_path / "2.png", [seen]) == orange).all(axis=2)
    assert with_unseen[100:].sum() > 50
    assert without[100:].sum() == 0
    assert without[:100].sum() > 50  # the legend


def test_nothing_is_marked_where_every_label_is_unseen(tmp_path):
    unseen = manifest(labels=tuple(replace(label, seen=False) for label in manifest().labels))
    draw_contact_sheet([Tagged(photo(tmp_path, "a.png", (40, 30)).path, TAGS[1:2])], tmp_path / "tagged.png", unseen)
    with Image.open(tmp_path / "tagged.png") as image:
        assert not (np.asarray(image.convert("RGB")) == (0xD9, 0x62, 0x2B)).all(axis=2).any()


def test_odd_names_and_no_tags_at_all(tmp_path):
    photos = [photo(tmp_path, "e\nä 名 \x1b.png", (30, 30)), Tagged(photo(tmp_path, "b.png", (9, 9)).path)]
    assert drawn(tmp_path / "tagged.jpg", photos).shape[2] == 3


@pytest.mark.parametrize("name", ["tagged.gif", "tagged", "folder.png"])
def test_a_contact_sheet_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(UsageError, match="--picture"):
        draw_contact_sheet([], tmp_path / name, manifest())


def test_a_missing_photo_is_named(tmp_path):
    with pytest.raises(FailureError, match=r"gone.jpg: was tagged, but can no longer be read"):
        draw_contact_sheet([Tagged("gone.jpg", TAGS)], tmp_path / "tagged.png", manifest())
