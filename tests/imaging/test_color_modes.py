"""Photos are decoded as other programs show them: colour profile, alpha, photometric interpretation, bit depth."""

import io
import struct

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from mlzsl.imaging import Preprocessing, UnreadableImage, load_image
from mlzsl.imaging.decoding import MAX_METADATA

Pixels = npt.NDArray[np.uint8]
SIZE = Preprocessing(size=64)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# Primaries as XYZ under D50, in columns: https://www.w3.org/TR/css-color-4/#color-conversion-code, adapted by Bradford.
P3_TO_XYZ = np.array([[0.51512, 0.29198, 0.15710], [0.24120, 0.69225, 0.06657], [-0.00105, 0.04189, 0.78407]])
SRGB_TO_XYZ = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])


def encoded(image: Image.Image, image_format: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def icc_profile(colour_space: bytes, gamma: float, primaries: npt.NDArray[np.float64] | None = None) -> bytes:
    """A display profile of ICC version 2: one gamma, and the primaries of an RGB space."""

    def fixed(values: list[float]) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256)) + bytes(2)
    tags = {b"wtpt": b"XYZ " + bytes(4) + fixed([0.9642, 1.0, 0.8249])}
    if primaries is None:
        tags[b"kTRC"] = curve
    else:
        for letter, column in zip(b"rgb", primaries.T, strict=True):
            tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + fixed(column.tolist())
            tags[bytes([letter]) + b"TRC"] = curve
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += struct.pack(">4sII", name, 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content
    size = 128 + len(table) + len(data)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"mntr", colour_space, b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + fixed([0.9642, 1.0, 0.8249])
    return head.ljust(128, b"\0") + table + data


def srgb_curve(linear: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The levels, 0 to 255, of light between 0 and 1."""
    light = linear.clip(0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055) * 255


def gray_ink_profile() -> bytes:
    """A printer's profile of ICC version 2 whose four inks are all gray, from a table of 2 values a channel."""
    inks = np.array(list(np.ndindex(2, 2, 2, 2)))
    lightness = (1 - inks[:, :3].mean(axis=1)) * (1 - inks[:, 3]) * 255
    grid = np.stack([lightness, np.full(16, 128), np.full(16, 128)], axis=1).round().astype(np.uint8)
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(np.eye(3, dtype=int) * 65536).ravel())
    table += bytes(range(256)) * 4 + grid.tobytes() + bytes(range(256)) * 3
    head = struct.pack(">I4sI4s4s4s", 144 + len(table), bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I4sII", 1, b"A2B0", 144, len(table)) + table


def smooth_colours() -> Pixels:
    """Uint8 [64, 64, 3]: muted colours, whose resize is exact at the size of the network."""
    y, x = np.mgrid[0:1:64j, 0:1:64j]
    return np.stack([60 + 130 * x, 60 + 130 * y, 190 - 130 * x], axis=-1).round().astype(np.uint8)


def tiff(pixels: npt.NDArray[np.generic], **tags: int | list[int]) -> bytes:
    """A little-endian TIFF of one strip with the given tags beside those of its size and place."""
    names = {"bits": 258, "photometric": 262, "samples": 277, "extra": 338, "kind": 339, "orientation": 274}
    data = pixels.tobytes()
    entries: dict[int, int | list[int]] = {256: pixels.shape[1], 257: pixels.shape[0], 259: 1, 273: 8, 279: len(data)}
    entries |= {278: pixels.shape[0]} | {names[name]: value for name, value in tags.items()}
    directory, rest = b"", b""
    for tag, value in sorted(entries.items()):
        values = value if isinstance(value, list) else [value]
        packed = struct.pack(f"<{len(values)}H", *values)
        if len(packed) > 4:
            rest, packed = rest + packed, struct.pack("<I", 8 + len(data) + len(rest))
        directory += struct.pack("<HHI4s", tag, 3, len(values), packed.ljust(4, b"\0"))
    start = 8 + len(data) + len(rest)
    return b"II*\0" + struct.pack("<I", start) + data + rest + struct.pack("<H", len(entries)) + directory + bytes(4)


def bmp_with_alpha(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A BMP of 32 bits with a mask for alpha, from uint8 [height, width, 4] in the order BGRA."""
    height, width, _ = pixels.shape
    head = struct.pack("<IiiHHIIiiII", 108, width, -height, 1, 32, 3, pixels.nbytes, 2835, 2835, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + pixels.nbytes, 0, 0, 14 + len(head)) + head + pixels.tobytes()


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF"])
def test_colours_of_a_profile_are_converted_to_srgb(image_format: str) -> None:
    pixels = smooth_colours()
    linear = (pixels / 255) ** 2.2
    expected = srgb_curve(linear @ P3_TO_XYZ.T @ np.linalg.inv(SRGB_TO_XYZ).T)
    content = encoded(
        Image.fromarray(pixels), image_format, icc_profile=icc_profile(b"RGB ", 2.2, P3_TO_XYZ), lossless=True
    )
    assert np.abs(expected - pixels).max() > 15
    assert np.abs(load_image(content, SIZE) - expected).max() <= 2


def test_the_profile_of_an_image_in_memory() -> None:
    profile = icc_profile(b"RGB ", 2.2, P3_TO_XYZ)
    image = Image.fromarray(smooth_colours())
    plain = load_image(image, SIZE)
    image.info["icc_profile"] = profile
    found = load_image(image, SIZE)
    np.testing.assert_array_equal(found, load_image(encoded(image, icc_profile=profile), SIZE))
    assert np.abs(found.astype(int) - plain).max() > 10


@pytest.mark.parametrize("image_format", ["JPEG", "AVIF"])
def test_profiles_of_lossy_photos(image_format: str) -> None:
    image = Image.fromarray(smooth_colours())
    profile = icc_profile(b"RGB ", 2.2, P3_TO_XYZ)
    lossless = load_image(encoded(image, icc_profile=profile), SIZE)
    found = load_image(encoded(image, image_format, icc_profile=profile, quality=95), SIZE)
    assert np.abs(found.astype(int) - lossless).mean() < 3


def test_profiles_of_photos_that_shrink() -> None:
    """The profile is applied after the resize, which is close to the other order."""
    profile = icc_profile(b"RGB ", 2.2, P3_TO_XYZ)
    image = Image.fromarray(smooth_colours())
    small, large = (encoded(size, icc_profile=profile) for size in (image, image.resize((640, 640))))
    assert np.abs(load_image(large, SIZE).astype(int) - load_image(small, SIZE)).mean() < 1


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_gray_profiles(mode: str) -> None:
    pixels = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    image = Image.fromarray(pixels.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    found = load_image(encoded(image, icc_profile=icc_profile(b"GRAY", 1.8)), SIZE)
    expected = srgb_curve((pixels[..., None] / 255) ** 1.8)
    assert np.abs(found - expected).max() <= 3


@pytest.mark.parametrize("image_format", ["TIFF", "JPEG"])
def test_cmyk_profiles(image_format: str) -> None:
    inks = np.zeros((64, 64, 4), np.uint8)
    inks[:32, :32] = (255, 0, 0, 0)
    inks[32:, :32] = (255, 255, 255, 0)
    inks[32:, 32:] = (0, 0, 0, 255)
    content = encoded(Image.fromarray(inks, "CMYK"), image_format, icc_profile=gray_ink_profile(), quality=95)
    found = load_image(content, SIZE).astype(int)
    assert np.ptp(found, axis=2).max() <= 4
    assert found[16, 48, 0] >= 250  # no ink
    assert 150 < found[16, 16, 0] < 170  # a third of the inks: L* is 67
    assert found[48, 16, 0] <= 10
    assert found[48, 48, 0] <= 10


def test_transparent_parts_of_a_photo_with_a_profile_are_white() -> None:
    image = Image.fromarray(smooth_colours())
    profile = icc_profile(b"RGB ", 2.2, P3_TO_XYZ)
    opaque = load_image(encoded(image, icc_profile=profile), SIZE)
    image.putalpha(Image.fromarray(np.repeat(np.uint8([[0, 255]]), 32, axis=1).repeat(64, axis=0)))
    found = load_image(encoded(image, icc_profile=profile), SIZE)
    assert (found[:, :32] == 255).all()
    assert np.array_equal(found[:, 32:], opaque[:, 32:])


@pytest.mark.parametrize("profile", [SRGB, icc_profile(b"GRAY", 1.0), SRGB[:200], SRGB[:128], b"", b"\0" * 3000])
@pytest.mark.parametrize("mode", ["RGB", "CMYK", "P", "RGBA"])
@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "TIFF"])
def test_a_profile_of_srgb_or_of_no_use_changes_nothing(image_format: str, mode: str, profile: bytes) -> None:
    if (mode in ("P", "RGBA") and image_format == "JPEG") or (mode == "CMYK" and image_format == "PNG"):
        pytest.skip("the format has no such mode")
    image = Image.fromarray(smooth_colours()).convert(mode)
    if mode == "CMYK" and profile == SRGB:
        profile = icc_profile(b"RGB ", 1.0, P3_TO_XYZ)
    untagged = load_image(encoded(image, image_format), SIZE)
    assert np.array_equal(load_image(encoded(image, image_format, icc_profile=profile), SIZE), untagged)


@given(changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=12), end=st.integers(0, 600))
@settings(max_examples=200, deadline=None)
def test_whatever_the_profile_the_photo_is_read(changes: list[tuple[int, int]], end: int) -> None:
    profile = bytearray(icc_profile(b"RGB ", 2.2, P3_TO_XYZ))
    for position, value in changes:
        profile[position % len(profile)] = value
    content = encoded(Image.fromarray(smooth_colours()), icc_profile=bytes(profile[:end]))
    assert load_image(content, SIZE).shape == (64, 64, 3)


def test_a_bmp_whose_alpha_is_zero_is_opaque() -> None:
    pixels = np.tile(np.uint8([10, 120, 200, 0]), (32, 32, 1))
    assert (load_image(bmp_with_alpha(pixels), SIZE) == [200, 120, 10]).all()
    pixels[0, 0, 3] = 255
    found = load_image(bmp_with_alpha(pixels), Preprocessing(32))
    assert found[0, 0].tolist() == [200, 120, 10]
    assert found[9, 9].tolist() == [255, 255, 255]


def test_a_fourth_sample_of_a_tiff_that_is_zero_and_not_said_to_be_alpha_is_ignored() -> None:
    pixels = np.tile(np.uint8([200, 120, 10, 0]), (32, 32, 1))
    content = tiff(pixels, bits=[8, 8, 8, 8], photometric=2, samples=4)
    assert (load_image(content, SIZE) == [200, 120, 10]).all()
    with pytest.raises(UnreadableImage, match="wholly transparent"):
        load_image(tiff(pixels, bits=[8, 8, 8, 8], photometric=2, samples=4, extra=2), SIZE)


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P", "I;16"])
def test_an_image_of_one_transparent_colour_shows_nothing(mode: str) -> None:
    image = Image.fromarray(np.zeros((8, 8), np.uint16)) if mode == "I;16" else Image.new("RGB", (8, 8)).convert(mode)
    content = encoded(image, transparency=(0, 0, 0) if mode == "RGB" else image.getpixel((0, 0)))
    with pytest.raises(UnreadableImage, match=r"^wholly transparent: the image shows nothing$"):
        load_image(content, SIZE)


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "TIFF", "AVIF", "JPEG2000", "GIF"])
def test_a_wholly_transparent_image_shows_nothing(image_format: str) -> None:
    content = encoded(Image.new("RGBA", (40, 40), (200, 0, 0, 0)), image_format)
    with pytest.raises(UnreadableImage, match="wholly transparent"):
        load_image(content, SIZE)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_tiffs_whose_zero_is_white(bits: int) -> None:
    ramp = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    stored = {1: np.packbits(ramp < 128, axis=1), 8: 255 - ramp, 16: 65535 - ramp.astype(np.uint16) * 257}[bits]
    content = tiff(stored, bits=bits, photometric=0, samples=1)
    if bits == 1:
        content = content.replace(struct.pack("<HHIHH", 256, 3, 1, 4, 0), struct.pack("<HHIHH", 256, 3, 1, 32, 0))
    expected = np.where(ramp < 128, 0, 255) if bits == 1 else ramp
    assert np.abs(load_image(content, Preprocessing(32)) - expected[..., None].astype(int)).max() <= 1


def test_a_tiff_of_samples_that_are_not_supported_says_so() -> None:
    pixels = np.full((16, 16, 3), 0.5, np.float32)
    content = tiff(pixels, bits=[32, 32, 32], photometric=2, samples=3, kind=[3, 3, 3])
    reason = "^a TIFF of samples that are not supported, such as RGB of 32 bits"
    with pytest.raises(UnreadableImage, match=reason):
        load_image(content, SIZE)
    with pytest.raises(UnreadableImage, match=reason):
        load_image(tiff(pixels.astype(np.uint32), bits=[32, 32, 32], photometric=2, samples=3), SIZE)
    with pytest.raises(UnreadableImage, match="not an image of a known format"):
        load_image(b"II*\0" + bytes(40), SIZE)


def test_sixteen_bits_a_channel() -> None:
    colours = smooth_colours()
    content = tiff(colours.astype(np.uint16) * 257, bits=[16, 16, 16], photometric=2, samples=3)
    assert np.array_equal(load_image(content, SIZE), colours)


def text_png(size: int) -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * size, zip=True)
    return encoded(Image.fromarray(smooth_colours()), pnginfo=text)


def test_pngs_with_large_texts_and_profiles_are_read() -> None:
    plain = load_image(encoded(Image.fromarray(smooth_colours())), SIZE)
    assert np.array_equal(load_image(text_png((1 << 20) + 1), SIZE), plain)
    large_profile = encoded(Image.fromarray(smooth_colours()), icc_profile=bytes((1 << 20) + 1))
    assert np.array_equal(load_image(large_profile, SIZE), plain)


def test_texts_over_the_limit_are_called_that() -> None:
    with pytest.raises(UnreadableImage, match=r"^its texts or colour profile take more than the limit of 64 MiB$"):
        load_image(text_png(MAX_METADATA + 1), SIZE)


@pytest.mark.parametrize("value", [5e37, 1e12, -1e12, 1e-40])
def test_an_image_of_one_value_has_one_gray(value: float) -> None:
    found = load_image(encoded(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF"), SIZE)
    assert (found == 0).all()


@pytest.mark.filterwarnings("error")
def test_signalling_nan_is_refused_without_a_warning() -> None:
    content = tiff(np.full((4, 4), 0x7FA00000, np.uint32), bits=32, photometric=1, samples=1, kind=3)
    with pytest.raises(UnreadableImage, match="not finite"):
        load_image(content, SIZE)
