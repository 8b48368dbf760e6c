"""Masks of the drawings: glyphs of the icon fonts that the package `qtawesome` carries, and our own shapes."""

import functools
import importlib.metadata
import json
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mlzsl.cli.errors import FailureError
from mlzsl.train.datasets.synthetic.shapes import draw_shape

PACKAGE = "qtawesome"  # only its fonts are read; nothing of it is imported, so no Qt is needed
FONTS = {"mdi": "materialdesignicons6-webfont", "fa": "fontawesome6-solid-webfont", "ph": "phosphor", "ri": "remixicon"}
MASK_SIZE = 192  # masks are kept at this size and scaled down


@functools.cache
def mask_of(drawing: str) -> Image.Image:
    """The silhouette of a drawing such as `mdi:bicycle` or `shape:vase`, mode L, MASK_SIZE square, centred.

    `mdi:bicycle/striped` is the same with stripes cut out, `mdi:bicycle/dotted` with holes.

    Raises:
        FailureError: the icon fonts are not installed, or hold no such glyph.
    """
    plain, _, variant = drawing.partition("/")
    if variant:
        return VARIANTS[variant](mask_of(plain))
    family, _, name = drawing.partition(":")
    if family == "shape":
        return draw_shape(name, MASK_SIZE)
    glyphs = _glyphs(family)
    if name not in glyphs:
        raise FailureError(f"the icon font {FONTS[family]} holds no {name!r}; install the versions of pyproject.toml.")
    return _centred(_draw(_font(family), chr(int(glyphs[name], 16))))


def _striped(mask: Image.Image) -> Image.Image:
    """Three thin diagonals cut out."""
    cut = mask.copy()
    pen = ImageDraw.Draw(cut)
    for start in (-MASK_SIZE // 2, 0, MASK_SIZE // 2):
        pen.line((start, 0, start + MASK_SIZE, MASK_SIZE), fill=0, width=9)
    return cut


def _dotted(mask: Image.Image) -> Image.Image:
    """Nine round holes cut out."""
    cut = mask.copy()
    pen = ImageDraw.Draw(cut)
    for x in (0.25, 0.5, 0.75):
        for y in (0.25, 0.5, 0.75):
            pen.circle((x * MASK_SIZE, y * MASK_SIZE), 9, fill=0)
    return cut


VARIANTS = {"striped": _striped, "dotted": _dotted}


def _draw(font: ImageFont.FreeTypeFont, glyph: str) -> Image.Image:
    canvas = Image.new("L", (2 * MASK_SIZE, 2 * MASK_SIZE))
    ImageDraw.Draw(canvas).text((MASK_SIZE, MASK_SIZE), glyph, font=font, fill=255, anchor="mm")
    return canvas


def _centred(drawn: Image.Image) -> Image.Image:
    """Crop to what is drawn, and scale its longer side to the mask's."""
    box = drawn.getbbox() or (0, 0, 1, 1)
    cropped = drawn.crop(box)
    scale = MASK_SIZE / max(cropped.size)
    width, height = (max(1, round(side * scale)) for side in cropped.size)
    mask = Image.new("L", (MASK_SIZE, MASK_SIZE))
    mask.paste(
        cropped.resize((width, height), Image.Resampling.BICUBIC), ((MASK_SIZE - width) // 2, (MASK_SIZE - height) // 2)
    )
    return mask


@functools.cache
def _font(family: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_file(family, ".ttf")), MASK_SIZE)


@functools.cache
def _glyphs(family: str) -> dict[str, str]:
    glyphs: dict[str, str] = json.loads(_file(family, ".json").read_text(encoding="utf-8"))
    return glyphs


def _file(family: str, suffix: str) -> Path:
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.parent.name == "fonts" and file.name.startswith(FONTS[family]) and file.suffix == suffix:
            return Path(str(file.locate()))
    raise FailureError(f"no icon font {FONTS[family]} of {PACKAGE} is installed; pip install 'mlzsl[train]'.")
