"""The evaluation kit's unusual files: which are read, which are refused, and what the decoded images show."""

import os
from pathlib import Path

import numpy as np
import pytest
from oddimages import REFUSED_OF_KIT

from mlzsl.imaging import UnreadableImage, load_image
from mlzsl.imaging.preprocessing import Preprocessing

pytestmark = pytest.mark.kit

SAME_PICTURE = [
    ("Landscape_1.jpg", [f"Landscape_{i}.jpg" for i in range(2, 9)], 12),  # each has its own number written on it
    ("hopper_orientation_2.jpg", [f"hopper_orientation_{i}.jpg" for i in range(3, 9)], 3),
    ("hopper.tif", ["hopper.bmp", "hopper.webp", "hopper.avif", "hopper.heif", "hopper.Lab.tif", "png_named.jpg"], 6),
    ("hopper.tif", ["hopper_orientation_6.webp", "hopper_orientation_6.jpg"], 6),
    ("hopper_gray.jpg", ["hopper_16bit.pgm"], 6),  # the JPEG is decoded at half its size
    ("pil_sample_cmyk.jpg", ["tiff_strip_cmyk_jpeg.tif"], 3),
    ("pil123p.png", ["pil123rgba.png"], 6),
    ("transparent.webp", ["transparent.gif"], 8),
    ("iss634.webp", ["iss634.gif"], 8),
]


@pytest.fixture
def odd_images(kit: Path) -> Path:
    return kit / "odd_images"


def test_each_file_of_the_kit_is_read_or_refused_as_expected(
    odd_images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refused = set()
    for path in sorted(odd_images.iterdir()):
        if path.name == "README.md":
            continue
        try:
            assert load_image(path, Preprocessing(size=48)).shape == (48, 48, 3), path.name
        except UnreadableImage:
            refused.add(path.name)
    assert refused == REFUSED_OF_KIT
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("reference", "others", "tolerance"), SAME_PICTURE)
def test_the_same_image_in_another_format(
    odd_images: Path, reference: str, others: list[str], tolerance: float
) -> None:
    expected = load_image(odd_images / reference, Preprocessing(size=64)).astype(float)
    for name in others:
        found = load_image(odd_images / name, Preprocessing(size=64))
        assert np.abs(found - expected).mean() < tolerance, os.fspath(name)


def test_transparent_parts_are_white(odd_images: Path) -> None:
    for name in ["p_trns_single.png", "rgb_trns.png", "i_trns.png", "1_trns.png", "l_trns.png", "transparency.avif"]:
        centre = load_image(odd_images / name, Preprocessing(size=64))[32, 32]
        assert (centre >= 254).all(), name
