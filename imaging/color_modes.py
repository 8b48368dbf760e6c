"""Conversion of every colour mode that Pillow decodes to 8-bit RGB on white."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert a loaded image to mode RGB: transparent parts on white, more than 8 bits scaled to the full range.

    Raises:
        ValueError: the mode or the values have no equivalent in RGB.
    """
    if image.mode.startswith(("I", "F")):
        return _deep_gray_to_rgb(image)
    if image.mode == "LAB":
        return _lab_to_rgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image if image.mode == "RGB" else image.convert("RGB")


def _lab_to_rgb(image: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("CIE Lab could not be converted to RGB")
    return converted


def _deep_gray_to_rgb(image: Image.Image) -> Image.Image:
    """Convert gray of 16 bits, 32 bits or floating point, which Pillow's `convert` clips at 255."""
    values = np.asarray(image).astype(np.float32)
    low, high = _black_and_white(values, image)
    gray = np.rint((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    transparent = image.info.get("transparency")  # PNG: the one gray value that is transparent
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return Image.fromarray(gray).convert("RGB")


def _black_and_white(values: npt.NDArray[np.float32], image: Image.Image) -> tuple[float, float]:
    """The values of black and white.

    They are fixed for integers of up to 16 bits and for floats in [0, 1]. Wider data define no white: the image's
    lowest and highest values are used.
    """
    darkest, lightest = float(values.min()), float(values.max())
    if not np.isfinite([darkest, lightest]).all():
        raise ValueError("values that are not finite")
    white = 1.0 if image.mode == "F" else float(2 ** _bits(image) - 1)
    if darkest >= 0 and lightest <= white:
        return 0.0, white
    return darkest, max(lightest, darkest + 1e-6)


def _bits(image: Image.Image) -> int:
    if isinstance(image, TiffImageFile) and image.mode.startswith("I;16"):
        return int(image.tag_v2.get(BITSPERSAMPLE, (16,))[0])  # 12-bit scans are stored in 16-bit words
    return 16
