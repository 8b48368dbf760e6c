"""Every photo is decoded upright and in RGB, or refused with a reason; there is no other result."""

import errno
import io
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mlzsl.imaging import decoding
from mlzsl.imaging.decoding import (
    MAX_PIXELS,
    ORIENTATION,
    TransientReadError,
    UnreadableImage,
    decode_photo,
    is_image_name,
    load_image,
)
from mlzsl.imaging.preprocessing import Preprocessing

# pytest shows warnings whatever filters a module sets; that none is shown to users is tested in a fresh interpreter.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL", "ignore::RuntimeWarning:PIL")

Pixels = npt.NDArray[np.uint8]
SMALL = Preprocessing(size=32)
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000"]


def smooth_image(height: int = 96, width: int = 128) -> Pixels:
    """Red grows to the right, green grows downwards, blue is a wave: no two turns of it look alike."""
    y, x = np.mgrid[0 : 1 : 1j * height, 0 : 1 : 1j * width]
    blue = 128 + 100 * np.sin(7 * x + 3 * y)
    return np.stack([255 * x, 255 * y, blue], axis=-1).round().astype(np.uint8)


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def triangle_matrix(length: int, size: int) -> npt.NDArray[np.float64]:
    """float64 [size, length]: the weights of an antialiased linear resize, written from its definition."""
    scale = length / size
    reach = max(scale, 1.0)
    centres = (np.arange(size)[:, None] + 0.5) * scale - 0.5
    weights = np.clip(1 - np.abs(np.arange(length)[None, :] - centres) / reach, 0, None)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def squashed(pixels: npt.NDArray[np.generic], size: int) -> npt.NDArray[np.float64]:
    rows, columns = triangle_matrix(pixels.shape[0], size), triangle_matrix(pixels.shape[1], size)
    across = np.einsum("jw,hwc->hjc", columns, pixels.astype(np.float64), optimize=True)
    return np.asarray(np.einsum("ih,hjc->ijc", rows, across, optimize=True))


def difference(found: Pixels, expected: npt.NDArray[np.generic]) -> float:
    return float(np.abs(found.astype(np.float64) - expected).max())


@pytest.mark.parametrize("shape", [(96, 128), (500, 333), (20, 20), (7, 900), (1, 1), (32, 32)])
def test_squash_equals_the_formula(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    found = load_image(encoded(Image.fromarray(pixels)), SMALL)
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert difference(found, squashed(pixels, 32)) <= 1.5  # two roundings to whole levels


@pytest.mark.parametrize("shape", [(480, 640), (481, 643), (1024, 768), (260, 100)])
def test_reduced_jpeg_decoding_is_close_to_full_decoding(shape: tuple[int, int]) -> None:
    content = encoded(Image.fromarray(smooth_image(*shape)), "JPEG", quality=95, subsampling=0)
    full = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    assert difference(load_image(content, SMALL), squashed(full, 32)) <= 4.0


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("size", [8, 64, 224])
def test_every_format_gives_the_same_image(image_format: str, size: int) -> None:
    pixels = smooth_image()
    options = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}, "AVIF": {"quality": 95}}.get(image_format, {})
    found = load_image(encoded(Image.fromarray(pixels), image_format, **options), Preprocessing(size=size))
    mean = np.abs(found - squashed(pixels, size)).mean()
    assert mean < (8 if image_format == "GIF" else 2)  # GIF has 256 colours


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_images_are_turned_upright_by_exif(orientation: int, image_format: str) -> None:
    upright = Image.fromarray(smooth_image())
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # Pillow's transposes that store it so
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    found = decode_photo(encoded(stored, image_format, exif=exif, quality=95), SMALL)
    assert np.abs(found.image - squashed(np.asarray(upright), 32)).mean() < 2
    assert found.size == upright.size


@pytest.mark.parametrize("exif", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\xff\xff", b"Exif\0\0" + b"\xff" * 40])
def test_damaged_exif_is_ignored(exif: bytes) -> None:
    image = Image.fromarray(smooth_image())
    plain = load_image(encoded(image, "JPEG"), SMALL)
    assert np.array_equal(load_image(encoded(image, "JPEG", exif=exif), SMALL), plain)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes_without_transparency(mode: str) -> None:
    gray = Image.fromarray(smooth_image()).convert("L")
    image = gray.convert(mode, dither=Image.Dither.NONE) if mode == "1" else gray.convert("RGB").convert(mode)
    image_format = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    expected = squashed(np.asarray(image.convert("RGB")), 32)
    assert difference(load_image(encoded(image, image_format), SMALL), expected) <= 1.5


def test_cmyk_jpeg() -> None:
    image = Image.fromarray(smooth_image()).convert("CMYK")
    found = load_image(encoded(image, "JPEG", quality=95), SMALL)
    assert np.abs(found - squashed(smooth_image(), 32)).mean() < 3


def test_cie_lab() -> None:
    from PIL import ImageCms

    colours = Image.fromarray(smooth_image()).convert("RGB")
    lab = ImageCms.profileToProfile(
        colours, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    found = load_image(encoded(lab, "TIFF"), SMALL)
    assert np.abs(found - squashed(smooth_image(), 32)).mean() < 3


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_transparency_is_composited_on_white(mode: str, image_format: str) -> None:
    alpha = np.tile(np.linspace(0, 255, 128).round().astype(np.uint8), (96, 1))
    image = Image.fromarray(smooth_image()).convert(mode[:-1])
    opaque = np.asarray(image.convert("RGB")).astype(np.float64)
    image.putalpha(Image.fromarray(alpha))
    if image_format == "WEBP":
        image = image.convert("RGBA")
    share = alpha[..., None] / 255
    expected = squashed(share * opaque + (1 - share) * 255, 32)
    found = load_image(encoded(image, image_format, lossless=True, exact=True), SMALL)
    assert difference(found, expected) <= 2.0


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_a_transparent_colour_is_white(mode: str) -> None:
    image = Image.new("RGB", (40, 40), (0, 0, 0))
    image.paste((255, 0, 0) if mode in ("RGB", "P") else (255, 255, 255), (20, 0, 40, 40))
    image = image.convert(mode)
    see_through: object = (0, 0, 0) if mode == "RGB" else image.getpixel((0, 0))
    found = load_image(encoded(image, "PNG", transparency=see_through), Preprocessing(size=40))
    assert (found[:, :20] == 255).all()
    assert (found[:, 20:, 0] == 255).all()


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "PPM", "JPEG2000"])
def test_sixteen_bit_gray_is_scaled_not_clipped(image_format: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 128).round().astype(np.uint16), (96, 1))
    found = load_image(encoded(Image.fromarray(ramp), image_format), SMALL)
    assert difference(found, squashed(np.repeat(ramp[..., None] / 257, 3, axis=2), 32)) <= 1.5


def test_dark_sixteen_bit_gray_stays_dark() -> None:
    dim = np.full((40, 40), 2570, np.uint16)
    assert (load_image(encoded(Image.fromarray(dim)), SMALL) == 10).all()


@pytest.mark.parametrize("white", [1.0, 4000.0])
def test_floating_point_gray(white: float) -> None:
    ramp = np.tile(np.linspace(0, white, 128, dtype=np.float32), (96, 1))
    found = load_image(encoded(Image.fromarray(ramp), "TIFF"), SMALL)
    assert difference(found, squashed(np.repeat(ramp[..., None] / white * 255, 3, axis=2), 32)) <= 1.5


def test_the_largest_floats_do_not_overflow() -> None:
    ramp = np.tile(np.linspace(-3e38, 3e38, 128), (96, 1))
    found = load_image(encoded(Image.fromarray(ramp.astype(np.float32)), "TIFF"), SMALL)
    assert difference(found, squashed(np.repeat((ramp[..., None] / 6e38 + 0.5) * 255, 3, axis=2), 32)) <= 1.5


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="not finite"):
        load_image(encoded(Image.fromarray(np.full((4, 4), np.nan, np.float32)), "TIFF"), SMALL)


@pytest.mark.parametrize("image_format", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_the_first_of_several_frames_is_read(image_format: str) -> None:
    frames = [Image.new("RGB", (40, 30), colour) for colour in [(250, 0, 0), (0, 250, 0), (0, 0, 250)]]
    content = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], lossless=True, quality=100)
    assert np.abs(load_image(content, SMALL) - np.array([250.0, 0, 0])).max() <= 5


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated_files_are_refused(image_format: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), image_format)
    with pytest.raises(UnreadableImage):
        load_image(content[: int(len(content) * share)], SMALL)


def test_each_reason_names_the_problem(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("hello")
    reasons = {"missing.jpg": "No such file", "empty.jpg": "empty", "text.jpg": "not an image", ".": "not a regular"}
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImage, match=reason):
            load_image(tmp_path / name, SMALL)
    with pytest.raises(UnreadableImage, match="a video, or a HEIF image of a kind that is not supported"):
        load_image(b"\0\0\0\x18ftypisom\0\0\0\0mp42isom", SMALL)
    with pytest.raises(UnreadableImage, match="null byte"):
        load_image("a\0b.jpg", SMALL)


@pytest.mark.parametrize(
    "code", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOMEM, errno.EMFILE, errno.ECONNRESET]
)
def test_a_failing_file_system_is_not_a_fault_of_the_photo(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.png").write_bytes(encoded(Image.fromarray(smooth_image())))
    monkeypatch.setattr(Path, "open", Mock(side_effect=OSError(code, os.strerror(code), "photo.png")))
    with pytest.raises(TransientReadError) as caught:
        load_image(tmp_path / "photo.png", SMALL)
    assert str(caught.value) == os.strerror(code)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG])
def test_what_a_file_system_says_of_a_file_is_its_fault(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "stat", Mock(side_effect=OSError(code, os.strerror(code), "photo.png")))
    with pytest.raises(UnreadableImage, match=re.escape(os.strerror(code))):
        load_image(tmp_path / "photo.png", SMALL)


@pytest.mark.parametrize("error", [MemoryError(), OSError("out of memory when reading image file")])
def test_too_little_memory_is_not_damage(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile.ImageFile, "load", Mock(side_effect=error))
    with pytest.raises(TransientReadError, match="not enough memory"):
        load_image(encoded(Image.fromarray(smooth_image())), SMALL)


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"progressive": True}),
        ("WEBP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("GIF", {}),
        ("BMP", {}),
        ("JPEG2000", {}),
        ("AVIF", {}),
    ],
)
def test_a_process_of_little_memory_does_not_call_photos_damaged(
    image_format: str, options: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(encoded(Image.new("RGB", (8000, 8000), (9, 99, 199)), image_format, **options))
    program = """
import resource, sys
from mlzsl.imaging import Preprocessing, TransientReadError, load_image, transient
transient.RETRY_DELAYS = ()
load_image(sys.argv[2], Preprocessing(8))
with open("/proc/self/statm") as statm: used = int(statm.read().split()[0]) * resource.getpagesize()
for spare in range(0, 500, 100):
    resource.setrlimit(resource.RLIMIT_AS, (used + (spare << 20), -1))
    try: load_image(sys.argv[1], Preprocessing(4096)); print("read")
    except TransientReadError: print("memory")
"""
    (tmp_path / "small").write_bytes(encoded(Image.new("RGB", (80, 80)), image_format, **options))
    names = [str(tmp_path / "big"), str(tmp_path / "small")]
    run = subprocess.run([sys.executable, "-c", program, *names], capture_output=True, text=True)
    assert run.stderr == ""
    assert run.stdout.startswith("memory\n")


def test_a_pipe_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UnreadableImage, match="not a regular file"):
        load_image(tmp_path / "pipe.jpg", SMALL)


def test_more_pixels_than_the_limit_are_refused_before_they_are_decoded() -> None:
    content = encoded(Image.new("1", (MAX_PIXELS // 10_000 + 1, 10_000)), "PNG")
    with pytest.raises(UnreadableImage, match="pixels"):
        load_image(content, SMALL)


def test_a_file_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 2**20)
    (tmp_path / "large.jpg").write_bytes(b"x" * (2**20 + 1))
    with pytest.raises(UnreadableImage, match="larger than 1 MiB"):
        load_image(tmp_path / "large.jpg", SMALL)


def test_decoding_in_threads_gives_the_same_images() -> None:
    contents = [encoded(Image.fromarray(smooth_image(60 + i, 90)), FORMATS[i % len(FORMATS)]) for i in range(40)]
    alone = [load_image(content, SMALL) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda content: load_image(content, SMALL), contents))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_decoding_prints_no_warnings(tmp_path: Path) -> None:
    """Pillow warns of the damaged EXIF block and of 100 million pixels; a fresh interpreter shows all warnings."""
    (tmp_path / "exif.jpg").write_bytes(
        encoded(Image.fromarray(smooth_image()), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03")
    )
    (tmp_path / "wide.png").write_bytes(encoded(Image.new("1", (10_000, 10_000)), "PNG"))
    program = (
        "import sys; from mlzsl.imaging import *\n"
        "for path in sys.argv[1:]: print(load_image(path, Preprocessing(8)).shape)"
    )
    names = [str(tmp_path / "exif.jpg"), str(tmp_path / "wide.png")]
    run = subprocess.run([sys.executable, "-W", "always", "-c", program, *names], capture_output=True, text=True)
    assert run.stderr == ""
    assert run.stdout.split() == ["(8,", "8,", "3)"] * 2


def test_image_names() -> None:
    for name in ["a.jpg", "b.JPEG", "dir.d/c.webp", Path("d.tiff"), "e.HEIC"]:
        assert is_image_name(name)
    for name in ["a.txt", "jpg", "._a.jpg", "labels.json", "a.mov", ".png"]:
        assert not is_image_name(name)


VALID = [
    encoded(Image.fromarray(smooth_image(24, 32)), image_format, **options)
    for image_format, options in [("JPEG", {}), ("JPEG", {"progressive": True}), *((name, {}) for name in FORMATS[1:])]
]


def loads_or_refuses(content: bytes) -> None:
    try:
        image = load_image(content, Preprocessing(size=16))
    except UnreadableImage as error:
        reason = str(error)
    else:
        assert image.shape == (16, 16, 3)
        return
    assert reason
    assert "\n" not in reason


@given(content=st.binary(max_size=400), start=st.sampled_from([b"", *(valid[:20] for valid in VALID)]))
@settings(max_examples=300)
def test_random_bytes_load_or_are_refused(content: bytes, start: bytes) -> None:
    loads_or_refuses(start + content)


@given(
    valid=st.sampled_from(VALID),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 10_000),
)
@settings(max_examples=600, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_files_load_or_are_refused(valid: bytes, changes: list[tuple[int, int]], end: int) -> None:
    content = bytearray(valid)
    for position, value in changes:
        content[position % len(content)] = value
    loads_or_refuses(bytes(content[:end]))


def turned(image: Image.Image, orientation: int) -> Image.Image:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.info["exif"] = exif.tobytes()
    return image


RGB_IMAGE = Image.fromarray(smooth_image(70, 101))
FADING = Image.linear_gradient("L").resize(RGB_IMAGE.size)
IN_MEMORY = {
    **{mode: RGB_IMAGE.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "I;16": Image.fromarray(np.asarray(RGB_IMAGE.convert("L")).astype(np.uint16) * 257),
    "transparent": Image.merge("RGBA", [*RGB_IMAGE.split(), FADING]),
    "transparent gray": Image.merge("LA", [RGB_IMAGE.getchannel(0), FADING]),
    **{f"orientation {turn}": turned(RGB_IMAGE.copy(), turn) for turn in range(2, 9)},
}


@pytest.mark.parametrize("image", IN_MEMORY.values(), ids=IN_MEMORY)
@pytest.mark.parametrize("preprocessing", [SMALL, Preprocessing(32, "crop", "bicubic", crop=0.875)])
def test_an_image_in_memory_gives_what_a_png_of_it_gives(image, preprocessing):
    options = {"exif": image.info["exif"]} if "exif" in image.info else {}
    before = image.tobytes()
    found = load_image(image, preprocessing)
    np.testing.assert_array_equal(found, load_image(encoded(image, **options), preprocessing))
    assert image.tobytes() == before


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_modes_that_no_png_has_are_converted_in_memory(mode):
    found = load_image(RGB_IMAGE.convert(mode), SMALL)
    assert np.abs(found.astype(int) - load_image(RGB_IMAGE, SMALL)).max() <= 8


@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([(), (3,), (4,)]), st.booleans(), st.randoms())
@settings(max_examples=40, deadline=None)
def test_an_array_gives_what_a_png_of_it_gives(height, width, channels, strided, random):
    shape = (2 * height, width, *channels)
    array = (
        np.frombuffer(random.randbytes(math.prod(shape)), np.uint8).reshape(shape) | 1
    )  # nothing is wholly transparent
    array = array[::2] if strided else array[:height]
    expected = load_image(encoded(Image.fromarray(np.ascontiguousarray(array))), SMALL)
    np.testing.assert_array_equal(load_image(array, SMALL), expected)


@pytest.mark.parametrize("empty", [np.zeros((0, 5, 3), np.uint8), Image.new("RGB", (5, 0))], ids=["array", "image"])
def test_an_image_without_pixels_is_refused(empty):
    with pytest.raises(UnreadableImage, match="without pixels"):
        load_image(empty, SMALL)
