"""Write docs/formats.md: what tagging does with every image format, and with the evaluation kit's odd images.

    python tools/format_table.py KIT [--output docs/formats.md]

Images of the formats are made here; the others are described in KIT/odd_images/README.md.
"""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pillow_heif
from PIL import Image, PngImagePlugin

from mlzsl.imaging import Preprocessing, UnreadableImage, decode_photo
from mlzsl.imaging.decoding import MAX_BYTES, MAX_METADATA, MAX_PIXELS, SUFFIXES

PAGE = Path(__file__).parents[1] / "docs" / "formats.md"
HEAD = f"""\
# Image formats

`python tools/format_table.py KIT` writes this page; `KIT` is the folder of the evaluation kit.

Files are recognized by their content, whatever their suffix. In folders, files with these suffixes are photos:
{", ".join(f"`{suffix}`" for suffix in SUFFIXES)}.

Photos are turned upright and converted to 8-bit sRGB, transparent parts on white; of several frames the first is read.
Limits: {MAX_BYTES >> 20} MiB for a file, {MAX_PIXELS:,} decoded pixels for an image, {MAX_METADATA >> 20} MiB
for the texts or the colour profile of a PNG.
"""


@click.command()
@click.argument("kit", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=PAGE)
def main(kit: Path, output: Path) -> None:
    """Decode every image and write the tables."""
    made = [(what, outcome(content)) for what, content in made_images()]
    odd = [(f"`{name}`: {what}", outcome((kit / "odd_images" / name).read_bytes())) for name, what in described(kit)]
    output.write_text("\n".join([HEAD, *table("Formats", made), *table("Odd images", odd)]), encoding="utf-8")


def table(title: str, rows: list[tuple[str, str]]) -> list[str]:
    """A section with a table."""
    return [
        f"## {title}\n",
        "| image | result |",
        "| --- | --- |",
        *(f"| {what} | {found} |" for what, found in rows),
        "",
    ]


def outcome(content: bytes) -> str:
    """What tagging does with an image."""
    try:
        photo = decode_photo(content, Preprocessing())
    except UnreadableImage as error:
        return f"error: {error}"
    width, height = photo.size
    return f"tagged, {width} × {height}" + (f"; note: {photo.note}" if photo.note else "")


def described(kit: Path) -> Iterator[tuple[str, str]]:
    """The odd images' names, and what each of them is, from the table of their README."""
    for line in (kit / "odd_images" / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) == 7 and (kit / "odd_images" / cells[1]).is_file():
            yield cells[1], cells[4]


def made_images() -> Iterator[tuple[str, bytes]]:
    """An image of each format and kind, with what it is."""
    image = Image.linear_gradient("L").resize((80, 60)).convert("RGB")
    deep = Image.fromarray(np.linspace(0, 65535, 4800, dtype=np.uint16).reshape(60, 80))
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    jpeg, progressive = encoded(image, "JPEG"), encoded(image, "JPEG", progressive=True)
    for mode in ("RGB", "L", "CMYK"):
        yield f"JPEG, {mode}", encoded(image.convert(mode), "JPEG")
    yield "JPEG, progressive", progressive
    yield "JPEG, 200 megapixels", encoded(Image.new("L", (20_000, 10_000), 99), "JPEG")
    yield "JPEG without its end marker", jpeg[:-2]
    yield "JPEG, progressive, without its end marker", progressive[:-2]
    yield "JPEG cut in half", encoded(noise, "JPEG")[:1500]
    yield "Motion Photo: a JPEG with a video behind it", jpeg + b"\0\0\0\x18ftypmp42" + bytes(5000)
    yield "MPO", encoded(image, "MPO", save_all=True, append_images=[image])
    yield "HEIC", heic(image)
    yield "HEIC cut in half", heic(noise)[:1500]
    yield "AVIF", encoded(image, "AVIF")
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"PNG, {mode}", encoded(image.convert(mode), "PNG")
    yield "PNG, 16-bit gray", encoded(deep, "PNG")
    yield "PNG, wholly transparent", encoded(Image.new("RGBA", (80, 60)), "PNG")
    yield "PNG with a text of 2 MiB", encoded(image, "PNG", pnginfo=text(2 << 20))
    yield "PNG with a text of 65 MiB", encoded(image, "PNG", pnginfo=text(65 << 20))
    yield "PNG of 200 megapixels", encoded(Image.new("1", (20_000, 10_000)), "PNG")
    for image_format in ("WEBP", "GIF", "BMP", "PPM", "JPEG2000"):
        yield image_format, encoded(image, image_format)
    for image_format in ("WEBP", "GIF", "PNG", "TIFF"):
        yield (
            f"{image_format}, animated or of several pages",
            encoded(image, image_format, save_all=True, append_images=[image.transpose(Image.Transpose.ROTATE_180)]),
        )
    for mode in ("1", "L", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "F"):
        yield f"TIFF, {mode}", encoded(Image.new(mode, (80, 60)) if mode == "LAB" else image.convert(mode), "TIFF")
    yield "TIFF, 16-bit gray", encoded(deep, "TIFF")
    yield "TIFF, floating-point RGB", float_rgb_tiff()
    yield "a video", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(5000)
    yield "SVG", b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>"
    yield "PDF", b"%PDF-1.7\n"
    yield "ICO, PSD, TGA and others that Pillow reads", encoded(image, "TGA")
    yield "an empty file", b""


def encoded(image: Image.Image, image_format: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, image_format, **options)
    return stream.getvalue()


def heic(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream)
    return stream.getvalue()


def text(size: int) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * size, zip=True)
    return info


def float_rgb_tiff() -> bytes:
    """A TIFF of 16 × 16 pixels of three 32-bit floats, which Pillow neither writes nor reads."""
    data = np.full((16, 16, 3), 0.5, "<f4").tobytes() + struct.pack("<6H", 32, 32, 32, 3, 3, 3)
    end = 8 + len(data)
    tags = [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 3, end - 12), (259, 3, 1, 1), (262, 3, 1, 2), (273, 3, 1, 8)]
    tags += [(277, 3, 1, 3), (278, 3, 1, 16), (279, 4, 1, 3072), (339, 3, 3, end - 6)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    return b"II*\0" + struct.pack("<I", end) + data + directory


if __name__ == "__main__":
    main()
