"""Thumbnails: whole photos, upright, in their own proportions, and as JPEG of bounded size."""

import io

from PIL import Image

from mlzsl.imaging import Preprocessing, decode_photo

QUALITIES = (60, 40, 25, 12)  # of JPEG, tried in turn


def thumbnail(source: str | bytes, width: int, height: int) -> Image.Image:
    """Decode a photo, at reduced scale if its format supports it, and fit it into `width` × `height` pixels.

    Args:
        source: a file's path, or a file's content.
        width, height: pixels.

    Raises:
        UnreadableImage, TransientReadError: as `decode_photo`.
    """
    photo = decode_photo(source, Preprocessing(size=2 * max(width, height)))
    scale = min(width / photo.size[0], height / photo.size[1])
    fitted = (max(1, round(photo.size[0] * scale)), max(1, round(photo.size[1] * scale)))
    return Image.fromarray(photo.image).resize(fitted, Image.Resampling.BILINEAR)


def thumbnail_jpeg(source: str | bytes, width: int, height: int, max_bytes: int) -> bytes:
    """The thumbnail as a JPEG of at most `max_bytes`, without the photo's metadata.

    Its quality is lowered as far as necessary, then its size.

    Raises:
        UnreadableImage, TransientReadError: as `decode_photo`.
    """
    image = thumbnail(source, width, height)
    while True:
        for quality in QUALITIES:
            target = io.BytesIO()
            image.save(target, "JPEG", quality=quality, optimize=True)
            if target.tell() <= max_bytes or image.width * image.height == 1:
                return target.getvalue()
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)))
