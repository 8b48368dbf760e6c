"""Tagging images in memory: each gets the tags that a file of the same pixels gets."""

import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageSequence
from tinymodel import random_images

from mlzsl.cli.errors import UsageError
from mlzsl.runtime import Photo, Tagged, Tagger


@pytest.fixture
def tagger(tiny_model) -> Iterator[Tagger]:
    with Tagger.open(tiny_model.path, top_k=6, threads=2, batch_size=3) as opened:
        yield opened


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def tags(tagged: list[Tagged]) -> list[tuple[object, str | None]]:
    return [(photo.tags, photo.error) for photo in tagged]


def test_all_kinds_of_photos_in_one_list_in_order_with_stated_paths(tagger, tmp_path):
    arrays = random_images(7, size=50)
    images = [Image.fromarray(array) for array in arrays]
    for index in (3, 4):
        images[index].save(tmp_path / f"{index}.png")
    mixed = [
        images[0],
        arrays[1],
        png(images[2]),
        str(tmp_path / "3.png"),
        tmp_path / "4.png",
        Photo("upload", images[5]),
        bytearray(png(images[6])),
        b"not a photo",
    ]
    found = list(tagger.tag(mixed))
    paths = ["image 0", "image 1", "image 2", str(tmp_path / "3.png"), str(tmp_path / "4.png"), "upload", "image 6"]
    assert [photo.path for photo in found] == [*paths, "image 7"]
    assert tags(found)[:7] == tags(list(tagger.tag([png(image) for image in images])))
    assert found[7].error == "not an image of a known format, or its header is damaged"


def test_one_image_alone_and_a_stack_of_them(tagger):
    arrays = random_images(2, size=40)
    expected = tags(list(tagger.tag([png(Image.fromarray(array)) for array in arrays])))
    assert tags(list(tagger.tag(arrays))) == expected
    for alone in (arrays[0], Image.fromarray(arrays[0]), png(Image.fromarray(arrays[0]))):
        (photo,) = tagger.tag(alone)
        assert (photo.path, photo.tags) == ("image 0", expected[0][0])


def test_an_image_may_change_once_it_was_taken(tagger):
    """Video readers fill one array again and again; frames of an animation are one Pillow image."""
    frames = [Image.fromarray(image) for image in random_images(8)]
    stream = io.BytesIO()
    frames[0].save(stream, "PNG", save_all=True, append_images=frames[1:])
    expected = tags(list(tagger.tag([png(frame) for frame in frames])))
    assert tags(list(tagger.tag(ImageSequence.Iterator(Image.open(stream))))) == expected

    def refilled() -> Iterator[np.ndarray]:
        buffer = np.empty((32, 32, 3), np.uint8)
        for frame in frames:
            buffer[:] = np.asarray(frame)
            yield buffer

    assert tags(list(tagger.tag(refilled()))) == expected


def test_an_opened_file_is_used_before_it_is_closed_and_its_damage_is_its_own(tagger, tmp_path):
    content = png(Image.fromarray(random_images(1, size=200)[0]))
    (tmp_path / "whole.png").write_bytes(content)
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])

    def opened() -> Iterator[Image.Image]:
        for name in ("whole.png", "cut.png", "whole.png"):
            with Image.open(tmp_path / name) as image:
                yield image

    whole, cut, again = tagger.tag(opened())
    assert (whole.error, whole.tags) == (None, again.tags)
    assert cut.tags == ()
    assert "truncated" in cut.error


@pytest.mark.parametrize(
    ("photo", "found"),
    [
        (np.zeros((4, 4, 3), np.float32), r"an array of float32 \[4, 4, 3\]"),
        (np.zeros((3, 224, 224), np.uint8), r"an array of uint8 \[3, 224, 224\]"),
        (np.zeros(5, np.uint8), r"an array of uint8 \[5\]"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"an array of uint8 \[1, 4, 4, 3\]"),
        (3, "int"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_photo_is_one_error_that_names_it(tagger, photo, found):
    with pytest.raises(UsageError, match=f"^image 1: (found )?{found}; expected"):
        list(tagger.tag([np.zeros((4, 4, 3), np.uint8), photo]))


def test_what_is_not_even_iterable(tagger):
    with pytest.raises(UsageError, match="found int; expected"):
        list(tagger.tag(3))
