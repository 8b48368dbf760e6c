"""Conversion of every colour mode that Pillow decodes to 8-bit sRGB on white."""

import io
import random
from collections.abc import Callable
from functools import lru_cache
from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import BITSPERSAMPLE, EXTRASAMPLES, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from mlzsl.imaging.errors import UnreadableImage

Values = npt.NDArray[np.float64]  # [height, width]; float32 of integers
WHITE_IS_ZERO = 0  # TIFF's photometric interpretation
SRGB, LAB = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
MAX_PROFILE = 16 * 2**20  # bytes; larger profiles are ignored, since transforms are cached by profile
SAME_COLOURS = 3  # levels of 255 by which profiles of the sRGB colour space differ


def to_rgb(image: Image.Image, resize: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Convert a loaded image to RGB in the sRGB colour space: transparent parts on white, more than 8 bits scaled to 8.

    It is resized on the way: a colour profile of a photo of 12 megapixels would take longer than decoding it.

    Raises:
        UnreadableImage: wholly transparent, or values that have no equivalent in RGB.
    """
    profile = LAB.tobytes() if image.mode == "LAB" else image.info.get("icc_profile")
    alpha = None
    if image.mode.startswith(("I", "F")):
        image = _deep_gray_to_8_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha = rgba.getchannel("A")
        if alpha.getextrema() == (0, 0):  # in BMPs, and TIFFs that do not say that it is alpha, it means nothing
            if image.format != "BMP" and not (isinstance(image, TiffImageFile) and EXTRASAMPLES not in image.tag_v2):
                raise UnreadableImage("wholly transparent: the image shows nothing")
            alpha = None
        image = rgba.convert("L" if image.mode in ("L", "LA", "La") else "RGB")
    elif image.mode not in ("L", "RGB", "CMYK", "LAB"):
        image = image.convert("RGB")
    transform = _to_srgb(profile, image.mode) if profile and len(profile) <= MAX_PROFILE else None
    if transform and alpha is None and image.mode != "LAB":  # whose values wrap around
        return transform.apply(resize(image))
    if transform:
        image = transform.apply(image)
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    if alpha is None:
        return resize(rgb)
    white = Image.new("RGB", rgb.size, (255, 255, 255))
    white.paste(rgb, mask=alpha)
    return resize(white)


@lru_cache(maxsize=8)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from an ICC profile to sRGB; None where it changes nothing, or is damaged or of another mode."""
    try:
        transform = ImageCms.buildTransform(ImageCms.ImageCmsProfile(io.BytesIO(profile)), SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if mode in ("L", "RGB"):
        sample = Image.frombytes(mode, (64, 64), random.Random(0).randbytes(64 * 64 * Image.getmodebands(mode)))
        change = np.asarray(transform.apply(sample), np.int16) - np.asarray(sample.convert("RGB"))
        if np.abs(change).max() <= SAME_COLOURS:
            return None
    return transform


def _deep_gray_to_8_bits(image: Image.Image) -> Image.Image:
    """Convert gray of 16 bits, 32 bits or floating point, which Pillow's `convert` clips at 255, to 8 bits."""
    stored = np.asarray(image)
    if not np.isfinite(stored).all():
        raise UnreadableImage("values that are not finite")
    values = cast(Values, stored.astype("f8" if image.mode == "F" else "f4"))  # differences of float32 overflow
    low, high = _black_and_white(values, image)
    gray = np.rint((values - low) * (255 / (high - low or 1.0))).clip(0, 255).astype(np.uint8)
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO:
        gray = 255 - gray
    converted = Image.fromarray(gray)
    transparent = image.info.get("transparency")  # PNG: the one gray value that is transparent
    if isinstance(transparent, int):
        converted.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return converted


def _black_and_white(values: Values, image: Image.Image) -> tuple[float, float]:
    """The values of black and white.

    They are fixed for integers of up to 16 bits and for floats in [0, 1]. Wider data define no white: the image's
    lowest and highest values are used.
    """
    darkest, lightest = float(values.min()), float(values.max())
    bits = 16
    if isinstance(image, TiffImageFile) and image.mode.startswith("I;16"):
        bits = image.tag_v2.get(BITSPERSAMPLE, (16,))[0]  # 12-bit scans are stored in 16-bit words
    white = 1.0 if image.mode == "F" else 2.0**bits - 1
    if darkest >= 0 and lightest <= white:
        return 0.0, white
    return darkest, lightest
