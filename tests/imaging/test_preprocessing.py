"""The preprocessing of a model file is read back exactly, or refused; photos become what timm's transform makes."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mlzsl.cli.errors import UsageError
from mlzsl.imaging.decoding import load_image
from mlzsl.imaging.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

timm = pytest.importorskip("timm.data", reason="needs timm")


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing(size=1),
        Preprocessing(size=4096, interpolation="bicubic"),
        Preprocessing(size=64, fit="crop", crop=0.875, mean=(0.5, 0.5, 0.5), std=(0.1, 0.2, 0.3)),
    ],
    ids=str,
)
def test_json_round_trip(preprocessing: Preprocessing) -> None:
    assert Preprocessing.from_json(preprocessing.to_json()) == preprocessing


def test_the_preprocessing_of_earlier_versions_squashes_with_imagenets_statistics() -> None:
    read = Preprocessing.from_json({"size": 96, "fit": "squash"})
    assert (read.size, read.fit, read.interpolation, read.crop) == (96, "squash", "bilinear", 1)
    assert (read.mean, read.std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("size", [0, -1, 4097, 2.5, "224", None, True])
def test_invalid_sizes_are_refused(size: Any) -> None:
    with pytest.raises(UsageError, match="image size"):
        Preprocessing(size=size)


@pytest.mark.parametrize(
    "fields",
    [
        *({}, {"size": 64}, [], None, {"size": 0, "fit": "squash"}, {"size": 64, "fit": "pad"}),
        *({"size": 64, "fit": "squash", "x": 1}, {"size": 64, "fit": "squash", "crop": 0.9}),
        *({"size": 64, "fit": "crop", "crop": 0}, {"size": 64, "fit": "squash", "std": [0, 1, 1]}),
        {"size": 64, "fit": "squash", "mean": [0.5, 0.5]},
    ],
    ids=str,
)
def test_unsupported_preprocessing_is_refused_in_one_sentence(fields: Any) -> None:
    with pytest.raises(UsageError, match=r"preprocessing|image size") as refusal:
        Preprocessing.from_json(fields)
    assert "\n" not in str(refusal.value)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)


@given(
    st.integers(20, 300),
    st.integers(20, 300),
    st.integers(16, 96),
    st.sampled_from([0.8, 0.875, 0.95, 1.0]),
    st.sampled_from(["bilinear", "bicubic", "lanczos"]),
    st.sampled_from(["center", "squash"]),
)
def test_images_are_those_of_timms_transform(
    width: int, height: int, size: int, crop: float, interpolation: Any, mode: str
) -> None:
    crop = 1.0 if mode == "squash" else crop
    transform = timm.create_transform(
        (3, size, size), interpolation=interpolation, crop_pct=crop, crop_mode=mode, normalize=False
    )
    photo, encoded = noise(width, height), io.BytesIO()
    photo.save(encoded, "PNG")
    preprocessing = Preprocessing(
        size=size, fit="squash" if mode == "squash" else "crop", interpolation=interpolation, crop=crop
    )
    image = load_image(encoded.getvalue(), preprocessing)
    expected = transform(photo).permute(1, 2, 0).numpy().astype(np.int16)
    # A crop is resized alone, so that a coordinate may round to the other side.
    assert np.abs(image - expected).max() <= (0 if mode == "squash" else 1)
