"""Decoding: from a photo's file, bytes or pixels to the network's input, or one clear reason why it cannot be read.

Pillow decodes: unlike OpenCV it refuses a truncated file instead of filling in gray, and supports every colour mode and
orientation. JPEGs are decoded at the smallest of 1/1, 1/2, 1/4, 1/8 that is no smaller than the network's input, which
halves the time of a 640-px photo. Other libraries are faster only with a coarser filter, which flips three times as
many tags (`benchmarks/decoding.py`).
"""

import contextlib
import io
import logging
import os
import re
import stat
import threading
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from mlzsl.cli.errors import UsageError, reason_of
from mlzsl.imaging.color_modes import to_rgb
from mlzsl.imaging.errors import TransientReadError, UnreadableImage
from mlzsl.imaging.preprocessing import Box, Preprocessing
from mlzsl.imaging.transient import retried, transient_error

MAX_BYTES = 256 * 2**20  # of a file
MAX_PIXELS = 128_000_000  # of an image: half a gigabyte while it is decoded
MAX_METADATA = 64 * 2**20  # of a PNG's texts and colour profile, unpacked
DECODING_BYTES = 8  # per pixel; a progressive JPEG takes 6 beside the image
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")  # MPO opens as JPEG
SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".gif", ".bmp", ".dib"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".heic", ".heif", ".hif"),
)
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
JPEG, START_OF_SCAN, END_OF_IMAGE = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
FILLER = bytes(range(1, 255))
NO_END = "the file is cut: a JPEG without its end marker"
LAST_SCAN = re.compile(rb"\xff\xda\x00\x08\x01..[^\x00]\x3f[\x00\x10]", re.DOTALL)  # of a component, if progressive
MAX_PIXELS_PER_BYTE = 512  # of a JPEG, a bit for each 64
LARGE_PIXELS = 32_000_000  # decoded at once; images that hold more are decoded one at a time, whatever the threads
LARGE = threading.Lock()
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # the EXIF tag, and its values that swap width and height
UPRIGHT = {  # the transposition that turns an image upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Pillow warns about unusual files; here a file is either read or refused with a reason, and standard error is for the
# commands. Set once, on import: `warnings.catch_warnings` must not be used where photos are decoded in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = MAX_METADATA  # Pillow refuses 1 MiB


@dataclass(frozen=True)
class DecodedPhoto:
    """A photo as the network's input.

    Attributes:
        image: RGB, uint8 [S, S, 3]: the first frame, whole or its center, transparent parts on white.
        size: width and height in pixels of the photo as it is shown.
        note: what is wrong with the file although it was read; None for nothing.
    """

    image: npt.NDArray[np.uint8]
    size: tuple[int, int]
    note: str | None = None


ImageInMemory = Image.Image | npt.NDArray[np.uint8]
PhotoSource = str | os.PathLike[str] | bytes | ImageInMemory


def load_image(source: PhotoSource, preprocessing: Preprocessing) -> npt.NDArray[np.uint8]:
    """The image of `decode_photo`, uint8 [S, S, 3]; arguments and errors are the same."""
    return decode_photo(source, preprocessing).image


def decode_photo(source: PhotoSource, preprocessing: Preprocessing) -> DecodedPhoto:
    """Decode a photo, turn it upright and resize it to a square. Safe to call from several threads at once.

    If the machine fails, it is tried again after `imaging.transient.RETRY_DELAYS`.

    Args:
        source: a file's path; a file's content; or an image in memory: Pillow's of any mode, or uint8 [H, W, 3] (RGB),
            [H, W, 4] (RGBA) or [H, W] (gray). An image in memory gives what a PNG file of it gives. It must not change
            meanwhile.
        preprocessing: the network's; its size is S. Normalization is the network's own.

    Raises:
        UsageError: an array of another shape or dtype.
        UnreadableImage: the file is missing, not an image, damaged, truncated, or over `MAX_BYTES` or `MAX_PIXELS`.
        TransientReadError: the machine failed each time that the file was read or decoded.
    """
    return retried(lambda: _decode(source, preprocessing))


def _decode(source: PhotoSource, preprocessing: Preprocessing) -> DecodedPhoto:
    if isinstance(source, Image.Image | np.ndarray):
        return _decode_in_memory(source, preprocessing)
    content = source if isinstance(source, bytes) else _read(Path(source))
    if not content:
        raise UnreadableImage("the file is empty")
    pixels = MAX_PIXELS if content[8:12] == b"WEBP" else 0  # opening a WebP allocates its memory: any size may fail
    try:
        with _open(content) as image:
            width, height = image.size
            box, pixels = _draft(image, content, preprocessing)
            with LARGE if pixels > LARGE_PIXELS else contextlib.nullcontext():
                loaded, note = _loaded(image, content, preprocessing)
                return _as_network_input(loaded, (width, height), box, preprocessing, note)
    except UnreadableImage:
        raise
    except Exception as error:  # decoders raise all kinds of exceptions for damaged bytes; each means the same
        raise (_transient(error, pixels) or UnreadableImage(_reason(error, content))) from error


def _decode_in_memory(source: ImageInMemory, preprocessing: Preprocessing) -> DecodedPhoto:
    image = _image_of(source) if isinstance(source, np.ndarray) else source
    try:
        image.load()
        if 0 in image.size:
            raise UnreadableImage("an image without pixels")
        return _as_network_input(image, image.size, preprocessing.source_box(*image.size), preprocessing)
    except UnreadableImage:
        raise
    except Exception as error:  # an image that Pillow opened from a file is decoded only now
        raise (_transient(error, 0) or UnreadableImage(_reason(error, b""))) from error


def _image_of(array: npt.NDArray[np.uint8]) -> Image.Image:
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise UsageError(
            f"an array of {array.dtype} {list(array.shape)}; expected uint8 [H, W, 3] (RGB), [H, W, 4] (RGBA) or "
            "[H, W] (gray)."
        )
    return Image.fromarray(array)


def _as_network_input(
    image: Image.Image, size: tuple[int, int], box: Box, preprocessing: Preprocessing, note: str | None = None
) -> DecodedPhoto:
    """The box of a loaded image in RGB, resized and turned upright; `size` is that of the whole photo."""
    square, resample = (preprocessing.size,) * 2, RESAMPLING[preprocessing.interpolation]
    # Where the image shrinks, the filter is widened with it (antialiasing).
    squashed = to_rgb(image, lambda rgb: rgb.resize(square, resample, box=box))
    orientation = _orientation(image)
    upright = squashed.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else squashed
    return DecodedPhoto(np.array(upright), size[::-1] if orientation in SIDEWAYS else size, note)


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name is that of a photo: a known suffix, not hidden."""
    name = os.path.basename(path)
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")


def _read(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise UnreadableImage("not a regular file")
        with path.open("rb") as file:
            content = file.read(min(status.st_size, MAX_BYTES) + 1)  # read allocates this many bytes at once
    except (OSError, ValueError, MemoryError) as error:  # ValueError: a null byte in the name
        raise (transient_error(error) or UnreadableImage(reason_of(error))) from error
    if len(content) > MAX_BYTES:
        raise UnreadableImage(f"the file is larger than {MAX_BYTES // 2**20} MiB")
    return content


def _transient(error: Exception, pixels: int) -> TransientReadError | None:
    """As `transient_error`, for an error met while an image of so many pixels was decoded."""
    if transient := transient_error(error):
        return transient
    try:  # some decoders run out of memory and call the file broken; whether memory is short is tried, untouched
        np.empty(DECODING_BYTES * pixels, np.uint8)
    except MemoryError:
        return TransientReadError("not enough memory")
    return None


def _open(content: bytes) -> Image.Image:
    """Open an image of one of the formats; its pixels are not decoded."""
    try:
        if content.startswith(JPEG):
            return JpegImageFile(io.BytesIO(content))  # Image.open refuses sizes that are fine at a reduced scale
        if content.startswith(TIFF):
            return TiffImageFile(io.BytesIO(content))  # Image.open hides the reason
        return Image.open(io.BytesIO(content), formats=FORMATS)
    except SyntaxError as error:
        raise UnidentifiedImageError from error
    except UnidentifiedImageError:
        if content[4:8] != b"ftyp" or content[8:12] not in HEIF_BRANDS:
            raise
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise UnreadableImage("a HEIC photo, which needs pillow-heif: pip install 'mlzsl[heif]'") from error
    return HeifImageFile(io.BytesIO(content))  # type: ignore[no-untyped-call]


def _draft(image: Image.Image, content: bytes, preprocessing: Preprocessing) -> tuple[Box, int]:
    """Choose the lowest resolution that the network needs.

    Returns:
        The box of the photo that becomes the image, at that resolution, and the number of pixels that decoding holds in
        memory.
    """
    width, height = image.size
    pixels = width * height
    side = preprocessing.resized_side
    drafted = image.draft("RGB", (side, side))
    if isinstance(image, JpegImageFile) and pixels > MAX_PIXELS_PER_BYTE * len(content):
        raise UnreadableImage("damaged: its header states more pixels than the file has data for")
    if isinstance(image, JpegImageFile) and not image.info.get("progressive"):
        scan = image.fp.tell() - 8 - 2 * len(image.layer) if image.fp else 0
        if content.startswith(START_OF_SCAN, scan):  # it has all components, so that nothing is held until another
            pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise UnreadableImage(f"{width} x {height} pixels; the limit is {MAX_PIXELS:,}")
    box = preprocessing.source_box(width, height)
    if drafted:
        across, down = drafted[1][2] / width, drafted[1][3] / height
        box = box[0] * across, box[1] * down, box[2] * across, box[3] * down
    return box, pixels


def _loaded(image: Image.Image, content: bytes, preprocessing: Preprocessing) -> tuple[Image.Image, str | None]:
    """Decode the pixels, also of a JPEG that lacks its end marker, which the note then says.

    A file that is cut earlier lacks a scan, or bytes after its end change pixels.
    """
    ends = True
    if isinstance(image, JpegImageFile) and image.fp:
        ends = content.rfind(END_OF_IMAGE, image.fp.tell()) >= 0
    try:
        image.load()
        if ends:
            return image, None
        error = OSError("image file is truncated")
    except OSError as truncated:
        if image.format != "JPEG" or "truncated" not in str(truncated):
            raise
        error = truncated
    scans = len(LAST_SCAN.findall(content)) if image.info.get("progressive") else 4
    if scans < len(image.getbands()):
        raise error
    data = content.rstrip(b"\0")  # which fill a file that was to be longer
    data = data + b"\0" if data.endswith(b"\xff") and data != content else data.rstrip(b"\xff")
    image, filled = (_open(data + filler + END_OF_IMAGE) for filler in (b"", FILLER))
    side = preprocessing.resized_side
    image.draft("RGB", (side, side))
    filled.draft("RGB", (side, side))
    if image.tobytes() != filled.tobytes():
        raise error
    return image, NO_END


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of a loaded image, 1 (upright) where there is none or EXIF is damaged."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # a damaged EXIF block does not make the pixels unreadable
        return 1


def _reason(error: Exception, content: bytes) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return f"more pixels than the limit of {MAX_PIXELS:,}"
    if "MAX_TEXT" in str(error):
        return f"its texts or colour profile take more than the limit of {MAX_METADATA // 2**20} MiB"
    if not isinstance(error, UnidentifiedImageError):
        return f"damaged: {reason_of(error)}"
    if content[4:8] == b"ftyp":
        return "a video, or a HEIF image of a kind that is not supported"
    if str(error.__cause__) == "unknown pixel mode":
        return "a TIFF of samples that are not supported, such as RGB of 32 bits; convert it to 8 or 16 bits a channel"
    return "not an image of a known format, or its header is damaged"
