"""Small pictures of photos: whole, upright, in their own proportions, and as a JPEG of bounded size."""

import io

from PIL import Image

from mlzsl.imaging import Preprocessing, UnreadableImage, load_image

EXIF_ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)
QUALITIES = (60, 40, 25, 12)  # of JPEG, tried in turn


def thumbnail(source: str | bytes, width: int, height: int) -> Image.Image:
    """Decode a photo, at reduced scale where its format can, and fit it into `width` × `height` pixels.

    Args:
        source: a file's path, or a file's content.

    Raises:
        UnreadableImage: it cannot be read.
    """
    square = Image.fromarray(load_image(source, Preprocessing(size=2 * max(width, height))))
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as photo:
            photo_width, photo_height = photo.size
            if photo.getexif().get(EXIF_ORIENTATION) in SIDEWAYS:
                photo_width, photo_height = photo_height, photo_width
    except OSError as error:  # it has changed since it was decoded
        raise UnreadableImage(str(error)) from error
    scale = min(width / photo_width, height / photo_height)
    size = (max(1, round(photo_width * scale)), max(1, round(photo_height * scale)))
    return square.resize(size, Image.Resampling.BILINEAR)


def thumbnail_jpeg(source: str | bytes, width: int, height: int, most_bytes: int) -> bytes:
    """The thumbnail as a JPEG of at most `most_bytes`, without any metadata of the photo.

    Its quality is lowered as far as need be, and then its size.

    Raises:
        UnreadableImage: the photo cannot be read.
    """
    picture = thumbnail(source, width, height)
    while True:
        for quality in QUALITIES:
            encoded = _encoded(picture, quality)
            if len(encoded) <= most_bytes or picture.width * picture.height == 1:
                return encoded
        picture = picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))


def _encoded(picture: Image.Image, quality: int) -> bytes:
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=quality, optimize=True)
    return target.getvalue()
