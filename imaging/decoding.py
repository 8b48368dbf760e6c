"""A photo, from its file or its bytes, as the network takes it; or one clear reason why it cannot be read.

Pillow decodes: unlike OpenCV it refuses a file that ends too early instead of filling in gray, and knows every mode
and orientation. JPEGs are decoded at the smallest of 1/1, 1/2, 1/4, 1/8 that is no smaller than the network's input,
which costs about half the time of a 640-px photo. What other libraries save, they save by a coarser filter, which flips
three times as many tags (`benchmarks/decoding.py`). Colour profiles are not looked at.
"""

import io
import logging
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from mlzsl.cli.errors import MlzslError
from mlzsl.imaging.color_modes import to_rgb
from mlzsl.imaging.preprocessing import Preprocessing

MAX_BYTES = 256 * 2**20  # of a file
MAX_PIXELS = 128_000_000  # of a picture: half a gigabyte while it is decoded
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")  # MPO opens as JPEG
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k"),
)
ORIENTATION = 0x0112  # the EXIF tag
TURNS = {  # what makes a picture upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns of oddities in files; here a file is either read or refused with a reason, and standard error is the
# commands' own. Set once, on import: `warnings.catch_warnings` must not be used where photos are decoded in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnreadableImage(MlzslError):  # noqa: N818 (it says what is wrong with the photo)
    """A photo that cannot be read; its text is the reason, without the file's name."""


def load_image(source: str | os.PathLike[str] | bytes, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """Decode a photo, turn it upright and squash it to a square. May be called from several threads at once.

    Args:
        source: a file's path, or a file's content.
        preprocessing: the network's; its size is S.

    Returns:
        RGB, uint8 [S, S, 3]: the first frame, transparent parts on white, the whole picture in view.

    Raises:
        UnreadableImage: the file is missing, not an image, damaged, cut short, or beyond `MAX_BYTES` or `MAX_PIXELS`.
    """
    content = source if isinstance(source, bytes) else _read(Path(source))
    if not content:
        raise UnreadableImage("the file is empty")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
            box = _decode(picture, preprocessing.size)
            small = _squash(to_rgb(picture), box, preprocessing.size)
            return np.array(_turn_upright(small, _orientation(picture)))
    except UnreadableImage:
        raise
    except Exception as error:  # decoders trip over foreign bytes in every way there is; each means the same
        raise UnreadableImage(_reason(error, content)) from error


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name says that it is a photo: a known suffix, not hidden."""
    name = os.path.basename(path)
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise UnreadableImage("not a regular file")
        with path.open("rb") as file:
            content = file.read(min(status.st_size, MAX_BYTES) + 1)  # so much memory is taken at once
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise UnreadableImage(getattr(error, "strerror", None) or str(error)) from error
    if len(content) > MAX_BYTES:
        raise UnreadableImage(f"the file is larger than {MAX_BYTES // 2**20} MiB")
    return content


def _decode(picture: Image.Image, size: int) -> tuple[float, float, float, float]:
    """Load the pixels, no more of them than `size` asks for, and return the box of the decoded plane they fill."""
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"{width} x {height} pixels; at most {MAX_PIXELS:,} are read")
    drafted = picture.draft("RGB", (size, size))
    picture.load()
    return drafted[1] if drafted else (0, 0, *picture.size)


def _squash(picture: Image.Image, box: tuple[float, float, float, float], size: int) -> Image.Image:
    """Resize to `size` x `size`; where it shrinks, the triangle filter widens with it (antialiasing)."""
    return picture.resize((size, size), Image.Resampling.BILINEAR, box=box)


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation of a loaded picture, 1 (upright) where there is none or EXIF is damaged."""
    try:
        return int(picture.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels, which are whole
        return 1


def _turn_upright(picture: Image.Image, orientation: int) -> Image.Image:
    turn = TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _reason(error: Exception, content: bytes) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than the {MAX_PIXELS:,} that are read"
    if isinstance(error, UnidentifiedImageError):
        if content[4:8] == b"ftyp":
            return "a HEIF picture or video, which is not decoded here; convert it to JPEG"
        return "not an image of a known format, or its header is damaged"
    return f"damaged: {' '.join(str(error).split()) or type(error).__name__}"
