"""Any picture that Pillow decodes, whatever its mode, as 8-bit RGB on white."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from PIL.TiffImagePlugin import BITSPERSAMPLE, TiffImageFile


def to_rgb(picture: Image.Image) -> Image.Image:
    """Return a loaded picture as mode RGB, transparent parts on white, more than 8 bits scaled to the full range.

    Raises:
        ValueError: a mode or values that have no place in RGB.
    """
    if picture.mode.startswith(("I", "F")):
        return _deep_gray_to_rgb(picture)
    if picture.mode == "LAB":
        return _lab_to_rgb(picture)
    if picture.has_transparency_data:
        return _on_white(picture.convert("RGBA"))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGB", picture.size, (255, 255, 255))
    white.paste(picture, mask=picture.getchannel("A"))
    return white


def _lab_to_rgb(picture: Image.Image) -> Image.Image:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(picture, lab, srgb, outputMode="RGB")
    if converted is None:
        raise ValueError("CIE Lab could not be converted to RGB")
    return converted


def _deep_gray_to_rgb(picture: Image.Image) -> Image.Image:
    """Gray of 16 bits, 32 bits or floating point; `convert` would clip it at 255."""
    values = np.asarray(picture).astype(np.float32)
    low, high = _black_and_white(values, picture)
    gray = np.rint((values - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    transparent = picture.info.get("transparency")  # PNG: the one gray value that is see-through
    if isinstance(transparent, int):
        gray[values == transparent] = 255
    return Image.fromarray(gray).convert("RGB")


def _black_and_white(values: npt.NDArray[np.float32], picture: Image.Image) -> tuple[float, float]:
    """The values that mean black and white.

    They are fixed for integers of up to 16 bits and for floats in [0, 1]. Wider data have no white of their own:
    the picture's darkest and lightest values stand for it.
    """
    darkest, lightest = float(values.min()), float(values.max())
    if not np.isfinite([darkest, lightest]).all():
        raise ValueError("values that are not finite")
    white = 1.0 if picture.mode == "F" else float(2 ** _bits(picture) - 1)
    if darkest >= 0 and lightest <= white:
        return 0.0, white
    return darkest, max(lightest, darkest + 1e-6)


def _bits(picture: Image.Image) -> int:
    if isinstance(picture, TiffImageFile) and picture.mode.startswith("I;16"):
        return int(picture.tag_v2.get(BITSPERSAMPLE, (16,))[0])  # 12-bit scans come in 16-bit words
    return 16
