"""Thumbnails: whole photos, upright, in their own proportions, and as JPEG of bounded size."""

import io
from pathlib import Path

from PIL import Image

from mlzsl.imaging import Preprocessing, load_image
from mlzsl.imaging.decoding import read_photo, upright_size

QUALITIES = (60, 40, 25, 12)  # of JPEG, tried in turn


def thumbnail(source: str | bytes, width: int, height: int) -> Image.Image:
    """Decode a photo, at reduced scale if its format supports it, and fit it into `width` × `height` pixels.

    Args:
        source: a file's path, or a file's content.
        width, height: pixels.

    Raises:
        UnreadableImage, TransientReadError: as `load_image`.
    """
    content = source if isinstance(source, bytes) else read_photo(Path(source))
    square = Image.fromarray(load_image(content, Preprocessing(size=2 * max(width, height))))
    size = upright_size(content)
    scale = min(width / size[0], height / size[1])
    return square.resize((max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), Image.Resampling.BILINEAR)


def thumbnail_jpeg(source: str | bytes, width: int, height: int, max_bytes: int) -> bytes:
    """The thumbnail as a JPEG of at most `max_bytes`, without the photo's metadata.

    Its quality is lowered as far as necessary, then its size.

    Raises:
        UnreadableImage, TransientReadError: as `load_image`.
    """
    image = thumbnail(source, width, height)
    while True:
        for quality in QUALITIES:
            target = io.BytesIO()
            image.save(target, "JPEG", quality=quality, optimize=True)
            if target.tell() <= max_bytes or image.width * image.height == 1:
                return target.getvalue()
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))
