"""Images in every format that tagging reads, their chunks, segments and tags mutated."""

import functools
import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.harness import Parser, check_sentence, expect
from fuzz.mutations import SIZES, mutate_bytes
from PIL import Image, ImageCms

from mlzsl.imaging import Preprocessing, UnreadableImage, decode_photo
from mlzsl.imaging.decoding import DECODING_BYTES, MAX_PIXELS, DecodedPhoto

SIZE = 16
PREPROCESSING = (
    Preprocessing(SIZE),
    Preprocessing(SIZE, "crop", "bicubic", crop=0.875),
    Preprocessing(SIZE, "crop", "lanczos"),
)
NOT_OPENED = ("not an image of a known format", "a video, or a HEIF image", "a HEIC photo", "the file is empty")
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def seeds() -> list[bytes]:
    """A small photo in every format, and in variants that take other paths: depth, palette, alpha, profile, frames."""
    y, x = np.mgrid[0:24, 0:32]
    colours = np.stack([8 * x, 10 * y, 128 + 100 * np.sin(x + y)], axis=-1).astype(np.uint8)
    rgb = Image.fromarray(colours)
    rgba = rgb.copy()
    rgba.putalpha(Image.fromarray((colours[..., 0] // 2 + 60).astype(np.uint8)))
    deep = Image.fromarray(colours[..., 0].astype(np.uint16) * 200)
    real = Image.fromarray(colours[..., 0].astype(np.float32) / 300)
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    frames = {"save_all": True, "append_images": [rgb.rotate(90), rgb.rotate(180)]}
    made = [
        *(
            encoded(rgb, "JPEG", **options)
            for options in ({}, {"progressive": True}, {"exif": exif, "icc_profile": profile})
        ),
        *(encoded(rgb.convert(mode), "JPEG") for mode in ("L", "CMYK")),
        encoded(rgb, "MPO", **frames),
        *(encoded(image, "PNG") for image in (rgb, rgba, deep, rgb.convert("1"), rgb.convert("LA"))),
        encoded(rgb.convert("P"), "PNG", transparency=3),
        encoded(rgb, "PNG", icc_profile=profile, exif=exif),
        encoded(rgba, "PNG", **frames),
        *(encoded(rgba, "WEBP", **options) for options in ({}, {"lossless": True}, frames)),
        encoded(rgb.convert("P"), "GIF"),
        encoded(rgba, "GIF", **frames),
        *(encoded(rgb.convert(mode), "BMP") for mode in ("RGB", "RGBA", "P", "1")),
        *(
            encoded(rgb, "TIFF", compression=name)
            for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
        ),
        *(
            encoded(image, "TIFF")
            for image in (rgba, deep, real, rgb.convert("CMYK"), rgb.convert("LAB"), rgb.convert("1"))
        ),
        encoded(rgb.convert("1"), "TIFF", compression="group4"),
        *(encoded(image, "PPM") for image in (rgb, rgb.convert("L"), deep, rgb.convert("1"))),
        *(encoded(rgba, "JPEG2000", **options) for options in ({}, {"irreversible": True}, {"no_jp2": True})),
        *(encoded(rgb, "AVIF", **options) for options in ({"speed": 10}, {"speed": 10, **frames})),
    ]
    try:
        import pillow_heif
    except ImportError:
        return made
    stream = io.BytesIO()
    pillow_heif.from_pillow(rgb).save(stream, exif=exif.tobytes())
    return [*made, stream.getvalue()]


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def mutate(random: Random, content: bytes, others: Sequence[bytes]) -> bytes:
    """Change fields of the format, or bytes after the signature, or anywhere."""
    if random.random() < 0.4:
        if content.startswith(PNG_SIGNATURE):
            return _mutate_png(random, content)
        if content.startswith(b"\xff\xd8\xff"):
            return _mutate_jpeg(random, content)
        if content[:4] in (b"II*\0", b"MM\0*"):
            return _mutate_tiff(random, content)
        if content.startswith((b"P5", b"P6")):
            return (
                b"%s %d %d %d\n" % (content[:2], *(random.choice((*SIZES, 24, 32, 255)) for _ in range(3)))
                + content[12:]
            )
    return mutate_bytes(random, content, others, start=random.choice((0, 12, 32, 64)))


def _mutate_png(random: Random, content: bytes) -> bytes:
    """Change chunks; their checksums are right again, but for a few."""
    chunks, at = [], len(PNG_SIGNATURE)
    while at + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        chunks.append((kind, content[at + 8 : at + 8 + length]))
        at += length + 12
    for _ in range(random.choice((1, 1, 2))):
        at = random.randrange(len(chunks))
        kind, body = chunks[at]
        match random.randrange(6):
            case 0 if kind == b"IHDR":
                numbers = [random.choice((*SIZES, 24, 32)), random.choice((*SIZES, 24, 32))]
                fields = [random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) for _ in range(5)]
                body = (
                    struct.pack(">II5B", *numbers, *fields)
                    if random.random() < 0.5
                    else struct.pack(">II", *numbers) + body[8:]
                )
            case 1 if kind in (b"IDAT", b"fdAT"):
                pixels = zlib.compress(mutate_bytes(random, random.randbytes(3000)))
                body = random.choice((_compressed_zeros(10_000_000), pixels))
            case 2:
                chunks.insert(random.randint(0, len(chunks)), (kind, body))
            case 3:
                text = b"key\0\0" + _compressed_zeros(random.choice((10, 2_000_000, 100_000_000)))
                chunks.insert(
                    random.randint(0, len(chunks)), (random.choice((b"zTXt", b"iCCP", b"iTXt", b"tEXt", b"eXIf")), text)
                )
                continue
            case 4:
                kind = random.choice(
                    (b"PLTE", b"tRNS", b"gAMA", b"acTL", b"fcTL", b"IEND", b"IDAT", b"pHYs", b"cHRM", b"sRGB", b"ABCD")
                )
            case _:
                body = mutate_bytes(random, body)
        chunks[at] = (kind, body)
    made = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return PNG_SIGNATURE + b"".join(made)


@functools.cache
def _compressed_zeros(count: int) -> bytes:
    return zlib.compress(bytes(count))


def _mutate_jpeg(random: Random, content: bytes) -> bytes:
    """Change a marker segment: its kind, its length, or its bytes; the size in a frame header; scans repeated."""
    segments, at = [], 2
    while content[at] == 0xFF and content[at + 1] != 0xDA:
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        segments.append(content[at : at + 2 + length])
        at += 2 + length
    scans = content[at:]
    chosen = random.randrange(len(segments))
    segment = segments[chosen]
    match random.randrange(6):
        case 0:
            sizes = [i for i, each in enumerate(segments) if each[1] in (0xC0, 0xC2)]
            height, width = (random.choice((0, 1, 24, 32, 1000, 8000, 20_000, 65_500, 65_535)) for _ in range(2))
            segments[sizes[0]] = segments[sizes[0]][:5] + struct.pack(">HH", height, width) + segments[sizes[0]][9:]
        case 1:
            segments.insert(random.randint(0, len(segments)), segment)
        case 2:
            del segments[chosen]
        case 3:
            segments[chosen] = (
                segment[:1]
                + bytes([random.choice((0xC0, 0xC1, 0xC2, 0xC4, 0xC9, 0xDA, 0xDB, 0xE1, 0xE2, 0xEE, 0xFE))])
                + segment[2:]
            )
        case 4:
            scans = scans[: random.randint(0, len(scans))] * random.choice((1, 2, 50))
        case _:
            segments[chosen] = mutate_bytes(random, segment, start=4)
    return content[:2] + b"".join(segments) + scans


def _mutate_tiff(random: Random, content: bytes) -> bytes:
    """Change tag, type, count or value of entries of the first directory."""
    order = "<" if content.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        at = start + 2 + 12 * random.randrange(count)
        tag, kind, number, value = struct.unpack_from(order + "HHII", content, at)
        match random.randrange(4):
            case 0:
                tag = random.choice(
                    (254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 338, 339, 34675)
                )
            case 1:
                kind = random.choice((1, 2, 3, 4, 5, 6, 11, 12, 13, 16, 255))
            case 2:
                number = random.choice(SIZES)
            case _:
                value = random.choice((*SIZES, 3, 4, 5, 6, 7, 8, 16, 32, 34712, 50000))
        struct.pack_into(order + "HHII", changed, at, tag, kind, number, value)
    return bytes(changed)


def parse(path: Path) -> DecodedPhoto:
    content = path.read_bytes()
    return decode_photo(content, PREPROCESSING[zlib.crc32(content) % len(PREPROCESSING)])


def past_header(content: bytes, result: Any, error: Exception | None) -> bool:
    return not (error and str(error).startswith(NOT_OPENED))


def check(content: bytes, photo: DecodedPhoto) -> None:
    expect((photo.image.shape, photo.image.dtype), ((SIZE, SIZE, 3), np.uint8), "the image")
    expect(min(photo.size) > 0, True, "the size is positive")
    if photo.note is not None:
        check_sentence(photo.note)


IMAGES = Parser(
    "images",
    ".image",
    "its format is recognized and the image is opened",
    seeds,
    mutate,
    parse,
    past_header,
    check,
    errors=(UnreadableImage,),
    max_seconds=4.0,
    max_memory=DECODING_BYTES * MAX_PIXELS + 2**26,
    silent=False,  # libtiff writes its errors there, and Pillow has no switch for it
)
